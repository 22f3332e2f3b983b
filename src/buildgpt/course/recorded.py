"""What a demo printed where it was recorded, for machines that cannot do what it shows."""

from . import prose
from .ranks import can_fork
from .series import COURSE


def show_recorded(step: str, why: str) -> None:
    """Say why a step such as "25-gradients/join" shows less here, and what it printed elsewhere."""
    facts = prose.records(COURSE)
    where = f"{facts['processor']}, PyTorch {facts['torch']}"
    print(f"{why}; where it was recorded ({where}), it printed:\n")
    print(facts["outputs"][step].rstrip())


def need_ranks(step: str) -> None:
    """End a demo of several ranks where processes cannot be forked, with what was recorded."""
    if not can_fork():
        show_recorded(step, "this system cannot fork processes")
        raise SystemExit
