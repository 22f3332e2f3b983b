"""Which parameters decay."""

from buildgpt.course.checking import check, equal


@check("without a gradient, matrices decay and norms and biases stay as they are", step="")
def fading(mine):
    import torch

    core = mine.core
    config = core.config.ModelConfig(layers=1, heads=2, width=16, context=8, vocab_size=20)
    model = core.model.GPT(config)
    wish = core.config.TrainConfig(lr=0.1, weight_decay=0.1, optimizer="adamw")
    optimizer = core.optim.build_optimizer(model, wish)
    before = {name: p.detach().norm().item() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        decayed = parameter.norm().item() < before[name]
        equal(
            decayed, parameter.dim() >= 2 and before[name] > 0, given=f"whether {name} has decayed"
        )
