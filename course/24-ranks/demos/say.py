import tempfile
from pathlib import Path

from gpt.train import main

with tempfile.TemporaryDirectory() as runs:
    words = ["small.toml", "--runs", runs, "--name", "mine", "--set", "data.val_tokens=1000"]
    words += ["--set", "sample.max_tokens=1", "--set", "train.log_every=20"]
    main([*words, "--set", "train.steps=40"])
    main([*words, "--resume", "--set", "train.steps=60"])
    path = Path(runs) / "mine" / "metrics.jsonl"
    print("\nmetrics.jsonl:")
    print(path.read_text() if path.exists() else "there is none")
