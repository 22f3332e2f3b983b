import torch

from gpt.config import ModelConfig
from gpt.modern import Modern, ModernConfig, is_far, set_window, window_at

for done in (0, 0.2, 0.3, 0.6, 0.8, 1):
    print(f"{done:4.0%} of the training done: {window_at(done, 1024):5} tokens")
print("of 12 layers these see so far: ", [index for index in range(12) if is_far(index, 12)])
config = ModelConfig(layers=2, heads=2, width=16, context=12, vocab_size=27)
model = Modern(config, ModernConfig())
set_window(model, 0.6)
view = model.view(torch.zeros(1, 12, dtype=torch.int64), 0)
for name, mask in (("near", view.near), ("far", view.far)):
    print(name)
    for row in mask[0, 0, ::3]:
        print("    " + " ".join("#" if value == 0 else "." for value in row))
