"""A whole recipe as TOML."""

import dataclasses
import json
from typing import Any


def to_toml(recipe: Any) -> str:
    """All sections with all keys. JSON writes numbers, texts and true as TOML does."""
    lines = []
    for section, values in dataclasses.asdict(recipe).items():
        lines += [f"[{section}]", *(f"{k} = {json.dumps(v)}" for k, v in values.items()), ""]
    return "\n".join(lines)
