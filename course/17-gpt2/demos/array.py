import time
from pathlib import Path

import numpy as np

from gpt.tokenizer import GPT2Tokenizer

tokenizer = GPT2Tokenizer()
text = Path("data/shakespeare.txt").read_text(encoding="utf-8")[:2_000_000]
start = time.process_time()
ids = tokenizer.encode_array(text)
print(f"{len(ids):,} tokens in {time.process_time() - start:.2f} s by encode_array,", end=" ")
start = time.process_time()
same = np.array_equal(ids, tokenizer.encode(text))
print(f"in {time.process_time() - start:.2f} s by way of a list; the same: {same}")
print(tokenizer.decode(tokenizer.encode_array("a\ud800b")))
