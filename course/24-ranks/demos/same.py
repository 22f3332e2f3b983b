import tempfile
from pathlib import Path

from prepare import prepare

from gpt.checkpoint import read_state
from gpt.train import main

WORDS = "To be, or not to be: that is the question. "
with tempfile.TemporaryDirectory() as name:
    place = Path(name)
    for folder, count in (("text", 200), ("longer", 201)):
        (place / "text.txt").write_text(WORDS * count)
        prepare(place / "text.txt", place / folder)
    words = ["small.toml", "--runs", name, "--name", "mine", "--set", "sample.max_tokens=1"]
    main([*words, "--set", "train.steps=20", "--set", f"data.path={place / 'text'}"])
    for key, value in read_state(place / "mine" / "checkpoints" / "step_000020").items():
        print(f"{key}: {value}")
    print("\nThe same run, a day later; somebody has made the text longer.")
    more = ["--resume", "--set", "train.steps=40", "--set", f"data.path={place / 'longer'}"]
    print(f"exit status {main([*words, *more])}")
