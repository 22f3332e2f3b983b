from gpt.data import Batches
from gpt.tokenizer import ByteTokenizer

TEXT = "the queen quickly asked a quiet question about the quality of a quarter quart; "
tokenizer = ByteTokenizer()
batches = Batches(tokenizer.encode_array(TEXT * 20), 16, 1)
x, y = batches(0, 90)
after = "".join(map(chr, y[x == ord("q")].tolist()))
print(f"{len(after)} inputs are a q; their targets begin {after[:12]!r}")
print(f"targets that are a u: {100 * after.count('u') / len(after):.0f} %")
