from gpt.train import main

main(["recipe.toml", "--set", "train.lr=0.1"])
main(["recipe.toml", "--set", "train.learning_rate=0.1"])
