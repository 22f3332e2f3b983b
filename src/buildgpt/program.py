"""This program as whoever sits before it called it."""

import os
import shutil
import sys
from pathlib import Path


def program_name() -> str:
    """How this program was called, so that what is suggested can be typed as it is."""
    called = Path(sys.argv[0])
    found = shutil.which("buildgpt")
    if found and called.name == "buildgpt" and Path(found).resolve() == called.resolve():
        return "buildgpt"
    return os.path.relpath(called) if called.name.startswith("buildgpt") else "buildgpt"
