import sys
from pathlib import Path

from gpt.tokenizer import ByteTokenizer

text = Path("data/shakespeare.txt").read_text(encoding="utf-8")
ids = ByteTokenizer().encode_array(text)
print(f"{len(text):,} characters, {len(ids):,} ids of type {ids.dtype}")
print(f"{ids.nbytes:,} bytes as an array, {sys.getsizeof(ids.tolist()):,} as a list")
