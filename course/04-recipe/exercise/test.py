"""What a solution must do; `solution` is the module under test."""

import tempfile
from pathlib import Path

from gpt.config import Recipe, SampleConfig, TrainConfig, load_recipe


def test(solution) -> None:
    """Raise AssertionError unless it does."""
    odd = Recipe(train=TrainConfig(lr=1e-5), sample=SampleConfig(prompt='"né"\nline'))
    with tempfile.TemporaryDirectory() as folder:
        for recipe in (Recipe(), odd):
            path = Path(folder) / "recipe.toml"
            path.write_text(solution.to_toml(recipe), encoding="utf-8")
            assert load_recipe(path) == recipe
