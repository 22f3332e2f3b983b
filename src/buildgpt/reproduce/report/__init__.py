"""What a run has come to: one HTML file, JSON, a view in the terminal.

Everything is read from the run's folder; nothing is computed on a model.
"""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from buildgpt.core import Core

from . import terminal
from .facts import describe
from .history import Run, open_run
from .loggers import write_tensorboard, write_wandb
from .page import write_page

__all__ = ["Report", "write_tensorboard", "write_wandb"]


class Report:
    """The report of some runs, against another run if one is named."""

    def __init__(self, core: Core, sources: Sequence[str], runs: Path, against: str = "") -> None:
        self.core = core
        self.runs: list[Run] = [open_run(core, source, runs) for source in sources]
        self.against = open_run(core, against, runs) if against else None
        self.facts = [describe(core, run, self.against) for run in self.runs]

    def to_dict(self) -> dict[str, Any]:
        """What --json prints."""
        return {"runs": self.facts}

    def default_file(self) -> Path:
        """Where the page goes unless one says: into the run, or beside the runs."""
        folder = self.runs[0].folder
        return (folder if len(self.runs) == 1 else folder.parent) / "report.html"

    def write(self, path: Path) -> None:
        """Write the page, whole or not at all. UserError for a folder or without matplotlib."""
        if importlib.util.find_spec("matplotlib") is None:
            raise self.core.config.UserError(
                "the page wants matplotlib: pip install 'buildgpt[reproduce]'; --json and the view"
                " in the terminal do not"
            )
        self.core.config.require(not path.is_dir(), f"--out {path} is a folder; name a file in it")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.core.config.write_text(path, write_page(self.runs, self.facts, self.against))

    def show(self, console: Console) -> None:
        """The view in the terminal."""
        terminal.show(self.runs, self.facts, console)
