import tempfile
from pathlib import Path

from gpt.train import main

with tempfile.TemporaryDirectory() as place:
    words = ["twin.toml", "--runs", place, "--name", "mine", "--set", "train.steps=20"]
    words += ["--set", "data.val_tokens=100", "--set", "sample.every=0"]
    for more in ([], ["--resume"]):
        main([*words, "--json", *more])
        print()
    print(f"state: {(Path(place) / 'mine' / 'state').read_text().strip()}")
