from gpt.config import TrainConfig
from gpt.optim import learning_rate

for schedule in ("cosine", "wsd", "linear"):
    try:
        config = TrainConfig(lr=0.003, warmup_steps=20, schedule=schedule)
        print(schedule)
        for step in [*range(0, 200, 20), 199]:
            rate = learning_rate(step, 200, config)
            print(f"    step {step + 1:3}  {rate:.5f} " + "#" * round(rate * 16000))
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
