import tempfile

from gpt.train import main

with tempfile.TemporaryDirectory() as runs:
    words = ["small.toml", "--runs", runs, "--name", "mine", "--set", "data.val_tokens=1000"]
    words += ["--set", "sample.max_tokens=40", "--set", "train.log_every=20"]
    for more in ("train.steps=40", "train.steps=80"):
        main([*words, "--set", more])
    main([*words, "--set", "train.steps=80", "--resume"])
