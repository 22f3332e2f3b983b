import torch

from gpt.model import Cache

cache = Cache(8)
for new in (5, 1, 1):
    k, v = torch.randn(2, 1, 4, new, 16)  # (B, H, T, D)
    keys, values = cache.extend(k, v)
    print(f"{new} new tokens: keys {tuple(keys.shape)}, the cache holds {cache.length} of 8")
print(f"the last key is the newest: {torch.equal(keys[:, :, -1:], k)}")
