"""What every record says of itself: on what, of which commit and by which command it was made."""

import argparse
import json
import os
import platform
import shlex
import subprocess
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def hardware() -> dict[str, Any]:
    """What the figures were taken on."""
    import torch

    from buildgpt.core import load_core

    capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # not in older ones
    return {
        "processor": load_core().runtime.processor_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "bf16": capabilities.get("avx512_bf16", False),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def environment() -> dict[str, str]:
    """What a process needs to find this checkout's code; compilers that share a GPU's cores."""
    paths = filter(None, [str(HERE.parent / "src"), os.environ.get("PYTHONPATH", "")])
    return {"TORCHINDUCTOR_COMPILE_THREADS": "4"} | os.environ | {"PYTHONPATH": ":".join(paths)}


def save(result: dict[str, Any], kind: str, out: Path | None) -> Path:
    """Write a record to `out`, else to results/DATE-KIND.json, and say where; returns its path."""
    out = out or HERE / "results" / f"{result['date']}-{kind}.json"
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"\nrecorded in {out}")
    return out


def commit() -> str:
    """The checkout's commit, with a mark if files were changed since."""
    git = ["git", "-C", str(HERE), "describe", "--always", "--dirty", "--abbrev=12"]
    return subprocess.run(git, capture_output=True, text=True).stdout.strip() or "unknown"


def without_paths(command: str) -> str:
    """The words of a command, folders and files by their name alone: "train build-nanogpt"."""
    return " ".join(Path(word).name for word in shlex.split(command))


def add_peers(parser: argparse.ArgumentParser) -> None:
    """The option that names others to measure beside."""
    parser.add_argument(
        "--peer",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="a checkout of build-nanogpt or nanoGPT to measure beside; may be given again",
    )
