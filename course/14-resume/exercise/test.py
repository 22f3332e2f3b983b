"""What a solution must do; `solution` is the module under test."""

import tempfile
from pathlib import Path

from gpt.checkpoint import find_checkpoints, save_checkpoint, step_of


def test(solution) -> None:
    """Raise AssertionError unless it does."""
    for keep, every, wanted in ((2, 40, [40, 80, 90, 100]), (1, 1000, [100]), (20, 7, None)):
        with tempfile.TemporaryDirectory() as place:
            run = Path(place)
            for step in range(10, 101, 10):
                save_checkpoint(run, step, {}, {}, {})
            solution.thin_out(run, keep, every)
            found = [step_of(folder) for folder in find_checkpoints(run)]
            wanted = wanted or [*range(10, 101, 10)]
            assert found == wanted, f"keep {keep}, every {every}: {found}"
