"""The one way into the core for everything around it.

Every tool takes its modules from `load_core`, so that it also runs a learner's own package. One
core a process: comparing two takes two processes.
"""

import importlib.util
import sys
from pathlib import Path
from typing import Any

OURS = "buildgpt.gpt"


class Core:
    """A core's modules by name, imported when first asked for: `core.model.GPT`.

    Asking for `config` or `tokenizer` does not import torch, which takes seconds.
    """

    def __init__(self, package: str) -> None:
        self.package = package

    @property
    def is_ours(self) -> bool:
        """Whether it is this project's, and no learner's."""
        return self.package == OURS

    @property
    def folder(self) -> Path:
        """Where its files are. An installation need not have that place among sys.path."""
        found = importlib.util.find_spec(self.package)
        assert found and found.submodule_search_locations  # as it is a package
        return Path(found.submodule_search_locations[0]).resolve()

    def __getattr__(self, module: str) -> Any:
        if module.startswith("_"):
            raise AttributeError(module)
        return importlib.import_module(f"{self.package}.{module}")


def load_core(path: Path | None = None) -> Core:
    """This project's core, or the package in the folder `path`, such as a learner's my-gpt/gpt."""
    if path is None:
        return Core(OURS)
    sys.path.insert(0, str(path.resolve().parent))
    return Core(path.resolve().name)
