"""The figures that lesson 12 quotes: name -> (value, how it is shown, tolerance); what is drawn."""

from pathlib import Path

import torch

from gpt.config import TrainConfig, load_recipe
from gpt.optim import learning_rate
from gpt.train import Trainer


def loss(warmup, share):
    """On sequences that were not read, after training at a rate of 0.01."""
    wishes = ["train.lr=0.01", f"train.warmup_steps={warmup}", f"train.final_lr={share}"]
    trainer = Trainer(load_recipe(Path("small.toml"), wishes))
    trainer.run()
    with torch.no_grad():
        return trainer.model(*trainer.batches(20000, 160)).item()


def rates(schedule):
    """Those of the 200 steps of the demo, which warms up for 40."""
    config = TrainConfig(lr=0.01, warmup_steps=40, schedule=schedule)
    return [round(learning_rate(step, 200, config), 8) for step in range(200)]


plain = TrainConfig(lr=1.0, warmup_steps=0)
FIGURES = {
    "rate half way": (learning_rate(100, 200, plain), "{:.2f}", 0.0),
    "loss at a high rate": (loss(0, 1), "{:.2f}", 0.15),
    "loss after warm-up": (loss(40, 1), "{:.2f}", 0.06),
    "loss after warm-up and a cosine": (loss(40, 0.1), "{:.2f}", 0.06),
}

DRAWN = {"rates": {schedule: rates(schedule) for schedule in ("cosine", "wsd")}}
