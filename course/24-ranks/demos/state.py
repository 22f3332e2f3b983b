import tempfile
from pathlib import Path

from gpt.train import main

with tempfile.TemporaryDirectory() as runs:
    words = ["small.toml", "--runs", runs, "--set", "data.val_tokens=1000"]
    words += ["--set", "sample.max_tokens=1", "--set", "train.log_every=1000"]
    for name, wishes in (("good", []), ("bad", ["--set", "train.lr=1e30"])):
        main([*words, "--name", name, "--set", "train.steps=20", *wishes])
        state = Path(runs) / name / "state"
        print(f"{name}: {state.read_text().strip() if state.exists() else 'nobody knows'}\n")
