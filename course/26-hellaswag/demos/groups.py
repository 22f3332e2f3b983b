import tempfile

from gpt.train import main

with tempfile.TemporaryDirectory() as runs:
    words = ["small.toml", "--runs", runs, "--name", "mine", "--set", "model.context=128"]
    words += ["--set", "data.hellaswag=endings.jsonl", "--set", "train.hellaswag_every=50"]
    words += ["--set", "train.steps=100", "--set", "train.log_every=50"]
    main([*words, "--set", "data.val_tokens=1000", "--set", "sample.max_tokens=1"])
