import dataclasses

import torch
from race import MODEL, train

from gpt.modern import Modern, ModernConfig

torch.manual_seed(1)
model = Modern(dataclasses.replace(MODEL, layers=4), ModernConfig(zero_init=False))
train(model, 60, lr=0.01)
for index, block in enumerate(model.blocks):
    stream, first = block.mix.tolist()
    above = index - 2
    skip = f" + {model.skip_weights[above]:.2f} of layer {1 - above}'s" if above >= 0 else ""
    print(
        f"layer {index} reads {stream:.2f} of the stream{skip}, and {first:+.2f} of the embedding"
    )
