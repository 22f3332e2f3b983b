from gpt.config import Recipe, TrainConfig
from gpt.train import Trainer

for lr in (0.001, 0.1):
    print("learning rate", lr)
    Trainer(Recipe(train=TrainConfig(steps=200, lr=lr))).run()
