"""What tests of learners' packages share."""

import importlib
import sys


def forget() -> None:
    """Let the next import of gpt read another folder's files, or the same anew."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "gpt"]:
        del sys.modules[name]
    importlib.invalidate_caches()
