from gpt.config import ModelConfig
from gpt.hub import our_names
from gpt.model import GPT

names = our_names(GPT(ModelConfig(layers=12, width=8, heads=2, vocab_size=257)))
print(len(names), "tensors")
for ours in ("token_embedding.weight", "blocks.3.mlp.up.bias", "blocks.11.attention.qkv.weight"):
    print(f"{ours} is {names[ours]}")
