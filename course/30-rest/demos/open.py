import tempfile
from pathlib import Path

from gpt.checkpoint import find_run, load_run
from gpt.config import UserError
from gpt.generate import Sampling, continue_text
from gpt.train import main

with tempfile.TemporaryDirectory() as place:
    words = ["twin.toml", "--runs", place, "--set", "sample.every=0", "--set", "train.log_every=60"]
    words += ["--set", "data.val_tokens=2000", "--set", "model.architecture=modern"]
    main([*words, "--name", "first", "--set", "train.steps=60"])
    run = load_run(find_run("first", Path(place)))
    print(f"first: a {type(run.model).__name__} after {run.step} steps, {run.tokenizer.kind}s")
    print(continue_text(run.model, run.tokenizer, "ROMEO:", Sampling(max_tokens=50))[0])
    main([*words, "--name", "second", "--set", "train.steps=1", "--set", "train.init_from=first"])
    try:
        find_run("third", Path(place))
    except UserError as error:
        print(str(error).replace(place, "runs"))
