import torch

from gpt.config import ModelConfig
from gpt.modern import Modern, ModernConfig, bigram_rows, hash_bigrams

for vocab_size in (65, 257, 50257):
    rows = bigram_rows(vocab_size)
    ids = torch.randint(vocab_size - 1, (1, 100_000), generator=torch.Generator().manual_seed(1))
    pairs = len({*zip(ids[0, :-1].tolist(), ids[0, 1:].tolist())})
    found = len(hash_bigrams(ids, vocab_size, rows).unique())
    print(
        f"{vocab_size:6,} ids: {rows:7,} rows; {pairs:6,} pairs by chance are on {found:6,} of them"
    )
torch.manual_seed(1)
config = ModelConfig(layers=2, heads=2, width=16, context=12, vocab_size=65)
model = Modern(config, ModernConfig())
cache = model.new_cache()
with torch.no_grad():
    for part in ([5, 7], [9], [2]):
        model.hidden(torch.tensor([part]), cache)
        known = cache[-1].keys[0, 0, : cache[-1].length, 0].tolist()
        print(f"after {part} the cache of the ids holds {known}")
