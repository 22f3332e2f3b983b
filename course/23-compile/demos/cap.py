import torch

from gpt.model import GPT, cap

logits = torch.tensor([0.0, 1.0, 5.0, 20.0, 100.0, -1000.0])
for softcap in (0.0, 15.0):
    found = "  ".join(f"{x:8.2f}" for x in cap(logits, softcap).tolist())
    print(f"softcap {softcap:4}: {found}")
print(f"GPT-2's softcap: {GPT.softcap}")
