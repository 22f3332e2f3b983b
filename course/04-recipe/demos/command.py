from gpt.train import main

main(["recipe.toml", "--set", "train.steps=200"])
main(["recipe.toml", "--set", "train.setps=200"])
