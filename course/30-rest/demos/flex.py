import torch

from gpt.modern import blocks, takes_blocks

known = torch.zeros(1, 2048, dtype=torch.int64)
print(f"on this machine's CPU it is taken: {takes_blocks(known)}")
for window in (2048, 1024, 256):
    found = blocks(known, window, None)
    print(
        f"2048 tokens that see {window:4} each: {found.sparsity():.0f} % of the blocks are skipped"
    )
ends = (torch.arange(2048) % 300 == 0).cumsum(0)[None]
found = blocks(known, 2048, ends)
print(f"the same in documents of 300 tokens: {found.sparsity():.0f} % are skipped")
