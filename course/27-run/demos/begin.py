import tempfile
from pathlib import Path

import gpt
from gpt.runlog import read_metrics
from gpt.train import main

with tempfile.TemporaryDirectory() as place:
    words = ["twin.toml", "--runs", place, "--set", "train.steps=20", "--set", "sample.every=0"]
    words += ["--set", "data.val_tokens=100"]
    for name in ("../elsewhere", "my run", "mine"):
        print(f"--name {name!r}")
        print(f"exit status {main([*words, '--name', name])}")
    start = read_metrics(Path(place) / "mine")[0]
    print(f"the package knows when it began: {hasattr(gpt, 'PROCESS_START')}")
    print(f"the first line of the metrics is later than that: {start['seconds'] > 0.001}")
