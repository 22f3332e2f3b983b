"""Build GPT-2 from an empty file, then reproduce it for the price of a lunch.

From Python: buildgpt.load, buildgpt.train, buildgpt.prepare.
"""

from typing import Any

__version__ = "0.1.0"
__all__ = ["load", "prepare", "train"]


def __getattr__(name: str) -> Any:
    """Import the verbs when they are first asked for, so that `import buildgpt` costs nothing."""
    if name not in __all__:
        raise AttributeError(f"module 'buildgpt' has no attribute {name!r}")
    from . import api

    return getattr(api, name)
