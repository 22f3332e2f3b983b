from pathlib import Path

from gpt.tokenizer import BytePairTokenizer

text = Path("data/shakespeare.txt").read_text(encoding="utf-8")[:100_000]
tokenizer = BytePairTokenizer.train(text, 357)
for words in ("To be, or not to be", "the theatre", "né", "<|endoftext|>"):
    ids = tokenizer.encode(words)
    print([tokenizer.decode([i]) for i in ids], tokenizer.decode(ids) == words)
print(f"{len(text.encode()) / len(tokenizer.encode(text)):.2f} bytes a token")
