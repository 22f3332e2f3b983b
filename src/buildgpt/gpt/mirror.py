"""A second folder for a run, such as a mounted bucket, to go on from on another machine.

Renaming is not atomic there, so each file is copied to its place, and complete.json, without
which a checkpoint does not exist, last.
"""

import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from .checkpoint import (
    COMPLETE,
    choose_checkpoint,
    find_checkpoints,
    is_complete,
    is_promised,
    read_promise,
    remove_checkpoint,
    step_of,
    sweep,
    sync,
)
from .config import UserError, require, write_bytes
from .runlog import lock

RUN_FILES = ("recipe.toml", "tokenizer.json", "samples.txt", "metrics.jsonl", "state")


class Mirror:
    """Copies a run's checkpoints in the background; `tell` hears what goes wrong with one."""

    def __init__(
        self, run: Path, mirror: Path, keep: int, tell: Callable[[str], object] = print
    ) -> None:
        self.run, self.mirror, self.keep, self.tell = run, mirror, keep, tell
        self.copying = ThreadPoolExecutor(max_workers=1)
        self.copies: list[Future[None]] = []
        self.newest: Path | None = None

    def check(self) -> None:
        """Raise before the training, not after its first checkpoint, what would go wrong."""
        place, run = self.mirror.resolve(), self.run.resolve()
        require(
            place != run and run not in place.parents,
            f"train.mirror would put copies of {self.run} into {self.mirror}; give another folder",
        )
        try:
            self.mirror.mkdir(parents=True, exist_ok=True)
            (self.mirror / ".probe").write_bytes(b"can this be written?")
            (self.mirror / ".probe").unlink()
        except OSError as error:
            raise UserError(
                f"train.mirror: cannot write {self.mirror}: {error.strerror}; mend that, or give"
                " another folder"
            ) from None

    def start(self, checkpoint: Path) -> None:
        """Have a checkpoint and the run's other files copied, after the one that is in hand."""
        self.newest = checkpoint
        self.copies.append(self.copying.submit(self.copy_newest, checkpoint))

    def copy_newest(self, checkpoint: Path) -> None:
        """Copy, unless a newer one has been started meanwhile."""
        if checkpoint == self.newest:
            self.copy(checkpoint)

    def copy(self, checkpoint: Path) -> None:
        """Copy now; a failure is told and no more, as the run itself has lost nothing."""
        try:
            sweep(self.mirror)
            copy_run_files(self.run, self.mirror, Path.write_bytes)
            target = self.mirror / "checkpoints" / checkpoint.name
            if not is_complete(target) or read_promise(target) != read_promise(checkpoint):
                copy_checkpoint(checkpoint, target)
            for old in find_checkpoints(self.mirror)[: -self.keep]:
                remove_checkpoint(old)
        except OSError as error:
            sweep(self.mirror)  # half a copy is of no use, and takes the room of a whole one
            self.tell(f"{self.mirror} did not take {checkpoint.name}: {error}")

    def wait(self) -> None:
        """Return when all that was started is copied; nothing more can be started."""
        self.copying.shutdown()
        for copy in self.copies:
            copy.result()  # raises what is no trouble with files, but a mistake of ours

    def close(self, step: int) -> None:
        """Wait, and copy the run's last words with its last checkpoint."""
        self.wait()
        self.copy(choose_checkpoint(self.run, step))


def copy_run_files(source: Path, target: Path, write: Callable[[Path, bytes], Any]) -> None:
    """Copy what a run has besides checkpoints. What is there and the same stays untouched, as a
    copy that is cut off would damage it."""
    target.mkdir(parents=True, exist_ok=True)
    for name in RUN_FILES:
        data = (source / name).read_bytes() if (source / name).exists() else b""
        if data and not ((target / name).exists() and (target / name).read_bytes() == data):
            write(target / name, data)


def copy_checkpoint(source: Path, target: Path) -> None:
    """Copy a checkpoint file by file, complete.json last."""
    target.mkdir(parents=True, exist_ok=True)
    (target / COMPLETE).unlink(missing_ok=True)
    for name in [*read_promise(source), COMPLETE]:
        shutil.copyfile(source / name, target / name)
        sync(target / name)


def take_from_mirror(run: Path, mirror: Path) -> None:
    """Bring the mirror's newest checkpoint to a run that has none as new, as on a new machine.

    One process after another: the first of each machine copies, the others find nothing left to
    do. Of damaged copies the one before counts; UserError if all that are newer are damaged.
    """
    run.mkdir(parents=True, exist_ok=True)
    with (run / ".mirror.lock").open("a") as file:
        lock(file, wait=True)
        newest = max([0, *(step_of(folder) for folder in find_checkpoints(run))])
        theirs = [folder for folder in find_checkpoints(mirror) if step_of(folder) > newest]
        if not theirs:
            return
        found = newest_whole(theirs)
        if not (run / "recipe.toml").exists():
            copy_run_files(mirror, run, write_bytes)
        copy_checkpoint(found, run / "checkpoints" / found.name)


def newest_whole(checkpoints: list[Path]) -> Path:
    """The newest of which every file is as promised; UserError if there is none."""
    *older, newest = checkpoints
    try:
        for name in read_promise(newest):
            is_promised(newest, name)
        return newest
    except UserError as error:
        if not older:
            raise
        print(f"{error}; taking the one before it", flush=True)
        return newest_whole(older)
