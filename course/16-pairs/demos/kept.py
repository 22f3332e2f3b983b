import time
from pathlib import Path

from gpt.tokenizer import BytePairTokenizer

text = Path("data/shakespeare.txt").read_text(encoding="utf-8")[:100_000]
start = time.perf_counter()
tokenizer = BytePairTokenizer.train(text, 357)
print(f"100 merges learnt of 100,000 characters in {time.perf_counter() - start:.2f} s")
start = time.perf_counter()
count = len(tokenizer.encode(text))
print(f"and the text cut into {count:,} tokens in {time.perf_counter() - start:.2f} s")
