import dataclasses

import torch
from race import MODEL, train

from gpt.modern import Modern, ModernConfig, value_table

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

for layers in (2, 4, 12):
    tables = [value_table(index, layers) for index in range(layers)]
    print(f"{layers} layers read: {' '.join('-' if t is None else str(t) for t in tables)}")
for on in (False, True):
    model = Modern(dataclasses.replace(MODEL, layers=4), ModernConfig(value_embeddings=on))
    products = sum(p.numel() for name, p in model.named_parameters() if name.startswith("blocks"))
    print(
        f"value_embeddings = {on}: {model.parameter_count():,} parameters, {products:,} in blocks"
    )
