from pathlib import Path

from gpt import tokenizer

text = Path("data/shakespeare.txt").read_text(encoding="utf-8")[:100_000]
kinds = {
    "byte": {"kind": "byte"},
    "char": {"kind": "char", "characters": text},
    "bpe": tokenizer.BytePairTokenizer.train(text, 512).to_dict(),
    "gpt2": {"kind": "gpt2"},
}
for kind, description in kinds.items():
    made = tokenizer.build_tokenizer(description)
    each = len(text.encode()) / len(made.encode(text))
    print(f"{kind:5} {made.vocab_size:6,} ids, {each:.2f} bytes a token")
