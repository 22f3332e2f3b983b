"""Tests are deterministic: one thread, no network, a fixed Hypothesis seed."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from browsing import launched
from hypothesis import settings

from buildgpt import api
from buildgpt import cli as command_line
from buildgpt.core import load_core
from buildgpt.gpt import train as training

torch.set_num_threads(1)
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")

SOURCE = Path(__file__).parent.parent / "src"
TINY_RECIPE = """
[model]
layers = 2
heads = 2
width = 16
context = 16

[data]
path = "{data}"
val_tokens = 200

[train]
steps = 8
tokens_per_step = 64
micro_batch = 2
lr = 1e-2
warmup_steps = 2
log_every = 1
eval_every = 3
checkpoint_every = 2

[runtime]
device = "cpu"
dtype = "fp32"
compile = "off"

[sample]
prompt = "the "
at = [0, 3]
max_tokens = 5
"""


@pytest.fixture(autouse=True)
def seeded():
    """Every test starts from the same random state."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def words() -> str:
    """Some 6,000 characters of lines of words."""
    draw = random.Random(0)
    lines = (
        " ".join(draw.choices("the cat sat on a mat and saw that rats eat hats".split(), k=7))
        for _ in range(250)
    )
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="session")
def corpus(words: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of character shards; not to be changed."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "words.txt").write_text(words)
    api.prepare([folder / "words.txt"], folder / "words")
    return folder / "words"


@pytest.fixture(scope="session")
def tiny(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe of 8 steps of some milliseconds each; not to be changed."""
    path = tmp_path_factory.mktemp("recipes") / "tiny.toml"
    path.write_text(TINY_RECIPE.format(data=corpus))
    return path


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder for runs, not there yet."""
    return tmp_path / "runs"


@pytest.fixture
def fit(tiny: Path, runs: Path) -> Callable[..., Path]:
    """fit("name", "train.steps=4", resume=True) trains the tiny recipe into a run, returned."""

    def fit(name: str = "run", *settings: str, resume: bool = False) -> Path:
        training.train(tiny, name, runs, list(settings), resume)
        return runs / name

    return fit


@pytest.fixture(scope="session")
def trained(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the tiny recipe; not to be changed."""
    runs = tmp_path_factory.mktemp("trained")
    training.train(tiny, "tiny", runs)
    return runs / "tiny"


@pytest.fixture(scope="session")
def exported(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished run as a Hugging Face folder; not to be changed."""
    return api.export_run(str(trained), tmp_path_factory.mktemp("exported") / "tiny")


@pytest.fixture
def core() -> Any:
    """The core, as everything around it gets it."""
    return load_core()


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture):
    """say("eval", run) is the command line in this process: status, out and err."""
    monkeypatch.chdir(tmp_path)

    def say(*words: object) -> SimpleNamespace:
        monkeypatch.setattr(sys, "argv", ["buildgpt", *map(str, words)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as exit_:
            command_line.main()
        out, err = capfd.readouterr()
        return SimpleNamespace(status=exit_.value.code or 0, out=out, err=err)

    return say


@pytest.fixture
def environment() -> dict[str, str]:
    """What a subprocess needs to run the code of this checkout."""
    path = os.pathsep.join([str(SOURCE), *filter(None, [os.environ.get("PYTHONPATH")])])
    return os.environ | {"PYTHONPATH": path}


@pytest.fixture
def cli(environment: dict[str, str], tmp_path: Path):
    """cli("train", "shakespeare") is the command line in a process of its own, below tmp_path."""

    def cli(*words: object) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "buildgpt", *map(str, words)]
        return subprocess.run(
            command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=300
        )

    return cli


@pytest.fixture(scope="module")
def browser():
    with launched() as chromium:
        yield chromium
