"""Room on the disk."""

import shutil
from pathlib import Path

from gpt.checkpoint import find_checkpoints, step_of


def thin_out(run: Path, keep: int, every: int) -> None:
    """Delete a run's checkpoints but the `keep` newest ones and those whose step is a multiple of
    `every`."""
    for folder in find_checkpoints(run)[:-keep]:
        if step_of(folder) % every:
            shutil.rmtree(folder)
