import tempfile
from pathlib import Path

from gpt.train import main

with tempfile.TemporaryDirectory() as runs:
    words = ["small.toml", "--runs", runs, "--name", "mine", "--set", "data.val_tokens=1000"]
    words += ["--set", "sample.max_tokens=40"]
    main([*words, "--set", "train.steps=20"])
    for wish in ("train.steps=30", "train.seed=7", "train.tokens_per_step=2048"):
        print(f"\n--resume --set {wish}")
        main([*words, "--resume", "--set", wish])
    kept = Path(runs) / "mine" / "recipe.toml"
    print(f"\n{kept.name}: {len(kept.read_text().splitlines())} lines, all that decides the run")
