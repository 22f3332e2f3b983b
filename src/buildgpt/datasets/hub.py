"""Datasets on the Hugging Face hub: which files there are, and what is needed to download them."""

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buildgpt.core import Core

from .progress import readable

SHARD_HEADER = 1024  # bytes before a shard's tokens of two bytes each


@dataclass(frozen=True)
class Remote:
    """A file on the hub, at one commit of its repository."""

    repository: str
    revision: str
    name: str
    size: int
    sha256: str  # "" where the hub does not give one
    url: str

    @property
    def tokens(self) -> int:
        """Of a shard."""
        return (self.size - SHARD_HEADER) // 2


def list_files(core: Core, repository: str, pattern: str, offline: str) -> list[Remote]:
    """The files of a dataset whose names match, in name order, at its newest commit."""
    try:
        from huggingface_hub import HfApi, hf_hub_url
    except ImportError:
        raise core.config.UserError(
            "downloading needs huggingface_hub: pip install 'buildgpt[reproduce]'"
        ) from None
    try:
        api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None)
        revision = str(api.dataset_info(repository).sha)
        folder = pattern.rpartition("/")[0] or None
        tree = api.list_repo_tree(repository, folder, revision=revision, repo_type="dataset")
        files: list[Any] = [f for f in tree if re.fullmatch(pattern, f.path)]
    except Exception as problem:  # the library's errors for no network, no such name, no access
        reason = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        raise core.config.UserError(
            f"cannot reach {repository} on the hub: {reason}; without a network, {offline}"
        ) from None
    where = {"revision": revision, "repo_type": "dataset", "endpoint": api.endpoint}
    return [
        Remote(
            repository,
            revision,
            file.path,
            file.size,
            file.lfs.sha256 if file.lfs else "",
            hf_hub_url(repository, file.path, **where),
        )
        for file in sorted(files, key=lambda file: file.path)
    ]


def authorization() -> dict[str, str]:
    """The header that shows who asks, if the user is logged in to the hub."""
    from huggingface_hub import get_token

    token = get_token()
    return {"Authorization": f"Bearer {token}"} if token else {}


def require_space(core: Core, what: str, folder: Path, needed: float) -> None:
    """Raise UserError if the disk that the folder is on has less free."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise core.config.UserError(
            f"{what} needs {readable(needed, 'B')} in {folder}, where {readable(free, 'B')} are"
            " free; free some, ask for fewer --tokens, or choose another disk with --out"
        )
