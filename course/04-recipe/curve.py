"""The run whose loss is compared with the recorded band."""

STEPS = 150
UNTIL = "06"  # then there is another model, and no band of it is recorded


def losses(mine, text, seed):
    """The loss of each step of 16 sequences of 32 tokens, as a recipe decides it."""
    from buildgpt.course.checking import trainer as trainer_of
    from buildgpt.course.curves import watched

    wishes = {"steps": STEPS, "tokens_per_step": 512, "lr": 0.1, "seed": seed}
    recipe = mine.Recipe(
        model=mine.ModelConfig(context=32),
        data=mine.DataConfig(path=str(text)),
        train=mine.TrainConfig(**wishes),
    )
    trainer = trainer_of(mine, recipe)
    return watched(trainer.model, trainer.run)
