"""How a training process ends: told to stop, or by an error, of its own or of another rank."""

import math
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from .checkpoint import find_checkpoints
from .config import UserError
from .runtime import is_lost_rank

OUT_OF_MEMORY = "not enough memory; lower train.micro_batch, model.width or model.context"
SAME_STOP_SECONDS = 2.0  # within which a second signal says what the first one said


@contextmanager
def watched_signals(trainer: Any) -> Iterator[None]:
    """Ctrl-C and SIGTERM ask for a stop at the step's end; a second one stops at once.

    Soon after the first it is no second one: a process may hear of the same stop from the system,
    which is shutting down, and from torchrun or whatever else has started it.
    """
    asked = math.inf

    def ask(number: int, frame: Any) -> None:
        nonlocal asked
        asked = min(asked, time.monotonic())
        trainer.interrupted = signal.Signals(number).name
        if time.monotonic() - asked > SAME_STOP_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread only; whoever trains in another handles them
        return
    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def one_reason(trainer: Any) -> Iterator[None]:
    """Of several ranks that fail, let one say why; where a rank is lost, say which."""
    try:
        yield
    except BaseException as error:
        if is_lost_rank(error):
            raise lost_rank(trainer, error) from error
        trainer.runtime.is_first("to say why the run ends")
        raise


def lost_rank(trainer: Any, error: BaseException) -> UserError:
    """What to say when other ranks were waited for in vain; nothing where another rank says it.

    Where none is found silent, the error itself may say what is wrong, as NCCL's do.
    """
    silent = trainer.runtime.silent_ranks()
    if not trainer.runtime.is_first("to say why the run ends"):
        return UserError("")
    who = " and ".join(f"rank {rank}" for rank in silent)
    words = " ".join(str(error).split())
    what = f"{who} fell silent" if silent else f"ranks lost each other ({words})"
    saved = find_checkpoints(trainer.folder)
    rest = f"from {saved[-1]}" if saved else "from the beginning, as no checkpoint was saved yet"
    return UserError(f"{what} after step {trainer.step}; --resume goes on {rest}")


def exit_status(work: Callable[[], int]) -> int:
    """The exit status that work gives, or with which its error ends the process.

    One of several ranks ends here, without the interpreter's own end: there gloo's threads
    sometimes abort a rank that has done all its work, and a failed one waits for others.
    """
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    try:
        status = work()
    except BaseException as error:
        status, sentence = explain(error)
        if sentence is None and not several:
            raise
        if sentence is None:
            traceback.print_exc()
        elif sentence:
            sys.stderr.write(f"error: {sentence}\n")  # in one piece, as other ranks speak too
    if several:
        leave(status)
    return status


def explain(error: BaseException) -> tuple[int, str | None]:
    """The exit status and the sentence for an error that a user can mend; None for others."""
    if isinstance(error, UserError):
        return error.exit_status, str(error)
    # On a CPU torch only says in words that the memory was too small.
    kinds = (MemoryError, torch.OutOfMemoryError)
    if isinstance(error, kinds) or "can't allocate memory" in str(error):
        return 1, OUT_OF_MEMORY
    if isinstance(error, OSError):
        return 1, f"{error}; nothing saved before is lost: mend that and go on with --resume"
    return 1, None


def leave(status: int) -> None:
    """End this process at once."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
