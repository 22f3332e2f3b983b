from gpt.config import DataConfig
from gpt.data import Corpus

corpus = Corpus(DataConfig("sonnets.txt"))
for name, tokens in (("train", corpus.train), ("validation", corpus.val)):
    print(f"{name}: {len(tokens):,} tokens, which begin with")
    print(f"    {corpus.tokenizer.decode(tokens[:60].tolist())!r}")
