import contextlib
import io
import tempfile
from pathlib import Path

from gpt.train import main

with tempfile.TemporaryDirectory() as runs:
    words = ["--runs", runs, "--set", "data.val_tokens=1000", "--set", "sample.max_tokens=1"]
    words += ["--set", "train.steps=5"]
    for name, more in (
        ("what is right", ["small.toml"]),
        ("a key that nobody knows", ["small.toml", "--set", "train.stepps=5"]),
        ("a rate that is too high", ["small.toml", "--name", "x", "--set", "train.lr=1e30"]),
        ("a recipe that is not there", [str(Path("nowhere.toml"))]),
    ):
        said = io.StringIO()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
            status = main([*more, *words])
        print(f"{name}: {status}  {said.getvalue().strip()}")
