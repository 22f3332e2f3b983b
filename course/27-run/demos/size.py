import dataclasses
from pathlib import Path

import torch

from gpt.config import ModelConfig, UserError, load_recipe
from gpt.model import GPT

print(f"without a word: {ModelConfig().layers} layers of {ModelConfig().width}")
for name in ("real", "twin"):
    recipe = load_recipe(Path(f"{name}.toml"))
    vocabulary = 50257 if name == "real" else 257
    with torch.device("meta"):
        model = GPT(dataclasses.replace(recipe.model, vocab_size=vocabulary))
    tokens = recipe.train.steps * recipe.train.tokens_per_step
    print(f"{name}: {model.parameter_count():,} parameters, {tokens:,} tokens")
for wish in ("model.width=7680000", "train.double_at=[100, 10]", "train.double_at=[1,2,3,4,5]"):
    try:
        load_recipe(Path("twin.toml"), [wish])
        print(f"{wish} is taken")
    except UserError as error:
        print(error)
