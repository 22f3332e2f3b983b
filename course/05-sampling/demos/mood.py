from gpt.train import main

for mood in ("0.5", "0.8"):
    words = ["--set", "train.steps=200", "--set", f"sample.temperature={mood}"]
    main(["recipe.toml", *words, "--set", "sample.max_tokens=120"])
