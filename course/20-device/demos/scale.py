import tempfile
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

from gpt.config import load_recipe
from gpt.runtime import Runtime
from gpt.train import Trainer

logits = torch.zeros(64, 50257, requires_grad=True)  # of 64 tokens, GPT-2's vocabulary
rounds = 16  # of which a step consists
(cross_entropy(logits, torch.arange(64)) / rounds).backward()
for scale in (1, 2**16):
    gone = ((logits.grad * scale).half() == 0).float().mean()
    print(f"times {scale:6,}: {gone:.3%} of the gradients at the logits are 0 in fp16")

recipe = load_recipe(Path("small.toml"), ["train.tokens_per_step=128"])
with tempfile.TemporaryDirectory() as place:
    trainer = Trainer(Path(place) / "run", recipe, Runtime(torch.device("cpu"), torch.float16))
trainer.update()
words = f"loss {trainer.loss:.4f}, norm {trainer.norm:.3f}, scale {trainer.scaler.get_scale():,.0f}"
print(f"a step in fp16: {words}")
