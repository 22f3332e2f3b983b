from gpt.config import TrainConfig
from gpt.optim import learning_rate

for warmup in (0, 4):
    config = TrainConfig(lr=0.01, warmup_steps=warmup)
    print(f"train.lr = 0.01, train.warmup_steps = {warmup}")
    for step in range(8):
        rate = learning_rate(step, 200, config)
        print(f"    step {step + 1}  {rate:.4f} " + "#" * round(rate * 4000))
