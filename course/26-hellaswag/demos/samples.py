import tempfile
from pathlib import Path

from gpt.train import main

with tempfile.TemporaryDirectory() as runs:
    words = ["small.toml", "--runs", runs, "--name", "mine", "--set", "sample.at=[0, 50, 100]"]
    words += ["--set", "sample.max_tokens=60", "--set", "data.val_tokens=1000"]
    main([*words, "--set", "train.steps=150", "--set", "train.log_every=50"])
    path = Path(runs) / "mine" / "samples.txt"
    print(f"samples.txt holds {path.read_text(encoding='utf-8').count('===') // 2} of them")
