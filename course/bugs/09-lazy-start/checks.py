"""Whether the first update does something."""

from buildgpt.course.checking import check, expect, near


@check("the first update has a learning rate above 0, and warm-up ends at the full one", step="")
def first_rate(mine):
    config = mine.core.config.TrainConfig(lr=1.0, warmup_steps=4, optimizer="adamw")
    rates = [mine.core.optim.learning_rate(step, 1000, config) for step in range(6)]
    given = "the rates of the first updates, of lr = 1 after 4 steps of warm-up"
    expect(rates[0] > 0, f"{rates[0]} for the first", "more than 0", given)
    expect(rates == sorted(rates[:5]) + rates[5:], f"{rates}", "rising ones", given)
    near(max(rates), 1.0, 1e-3, "the highest of them")
    plain = mine.core.config.TrainConfig(lr=1.0, warmup_steps=0, optimizer="adamw")
    near(mine.core.optim.learning_rate(0, 1000, plain), 1.0, 1e-3, "the first without warm-up")
