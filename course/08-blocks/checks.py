"""What a block must do, and a model of several."""

from buildgpt.course.checking import check, equal, expect, lively, of_the_size, tokens


def config(mine, **wishes):
    """A small ModelConfig."""
    small = {"width": 16, "heads": 4, "context": 12, "vocab_size": 20}
    small |= {"layers": 2} if hasattr(mine.ModelConfig(), "layers") else {}
    return mine.ModelConfig(**(small | wishes))


@check("a model has about as many layers as the pages speak of", step="layers", until="27-run")
def proportions(mine):
    of_the_size(mine.ModelConfig(), layers=4)


@check("in the MLP each token is on its own", step="mlp")
def alone(mine):
    import torch

    module, x = lively(mine.MLP(config(mine))), tokens(2, 4, 16)
    out = module(x)
    equal(tuple(out.shape), (2, 4, 16), given="the shape of MLP's output for (2, 4, 16)")
    (gradient,) = torch.autograd.grad(out[0, 2].sum(), x)
    sizes = gradient.abs().sum(dim=2)
    others = (sizes.sum() - sizes[0, 2]).item()
    causes = ["a layer works along the time axis"]
    expect(others == 0, f"{others:.3g}", "exactly 0", "the gradient by other tokens", causes)
    expect(sizes[0, 2] > 0, "no gradient", "one by the token itself", "token 2 of 4")


@check("the MLP bends: it is no linear map, and has room for four times the width", step="mlp")
def bends(mine):
    import torch

    module, x = lively(mine.MLP(config(mine))), tokens(1, 4, 16).detach()
    double, zero = module(2 * x) - module(0 * x), module(0 * x)
    off = (double - 2 * (module(x) - zero)).abs().max().item()
    causes = ["there is nothing between the two layers: together they are one"]
    given = "f(2x) - f(0), against twice f(x) - f(0)"
    expect(off > 1e-3, f"{off:.3g} apart", "clearly apart", given, causes)
    # A layer of 4C units that bend, each in a place of its own: second differences along a line
    # span the whole output, whereas of one bend they all point the same way.
    line = torch.linspace(-6, 6, 200, dtype=torch.float64)[:, None] * x[0, :1]
    out = module(line[None])[0]
    curve = out[2:] - 2 * out[1:-1] + out[:-2]
    values = torch.linalg.svdvals(curve)
    rank = int((values > 1e-9 * values[0]).sum())
    expect(rank == 16, f"{rank}", "16", "width 16: the directions in which an output bends")
    steps = [module(x + 1e-3 * i) for i in range(3)]
    bend = (steps[2] - 2 * steps[1] + steps[0]).abs().min().item()
    causes = ["ReLU is two straight lines: GELU bends everywhere"]
    expect(bend > 1e-9, f"{bend:.3g}", "above 0", "a second difference of three inputs", causes)


@check("a block whose weights are all 0 lets everything through as it is", step="layers")
def residual(mine):
    import torch

    module, x = mine.Block(config(mine)).double().eval(), tokens(2, 4, 16)
    with torch.no_grad():
        for p in module.parameters():
            p.zero_()
    off = (module(x) - x).abs().max().item()
    causes = [
        "what attention or the MLP gives takes the place of x instead of being added to it",
        "a norm stands around the sum: it belongs to the copy that is read",
    ]
    given = "Block with weights of 0: the output less the input"
    expect(off == 0, f"{off:.3g} apart", "exactly the input", given, causes)


@check("a block looks back, never ahead, and changes what comes in", step="layers")
def block_is_causal(mine):
    import torch

    module, x = lively(mine.Block(config(mine))), tokens(2, 5, 16)
    out = module(x)
    for t in range(5):
        (gradient,) = torch.autograd.grad(out[0, t, 0], x, retain_graph=True)
        sizes = gradient.abs().sum(dim=2)
        later = (sizes[0, t + 1 :].sum() + sizes[1].sum()).item()
        expect(later == 0, f"{later:.3g}", "exactly 0", f"token {t} of 5: by later or other ones")
        past = sizes[0, : t + 1]
        causes = ["the block has no attention"]
        expect((past > 0).all(), past.tolist(), "above 0 up to itself", f"token {t} of 5", causes)
    one = module(x[:, :1])
    double = module(2 * x[:, :1]) - 2 * one
    expect(double.abs().max() > 1e-3, "a linear map", "a bent one", "one token", ["no MLP in it"])


@check("so many layers, so many blocks, each with weights of its own", step="layers")
def depth(mine):
    import torch

    counts = [
        sum(p.numel() for p in mine.GPT(config(mine, layers=layers)).parameters())
        for layers in (1, 2, 4)
    ]
    one, more = counts[1] - counts[0], counts[2] - counts[1]
    causes = ["the same block is used again and again", "blocks in a plain list are not found"]
    given = f"the weights of 1, 2 and 4 layers: {counts}"
    expect(0 < 2 * one == more, f"{one} and {more} more", "each block costs as much", given, causes)
    block = sum(p.numel() for p in mine.Block(config(mine)).parameters())
    rest = counts[0] - block
    given = "the weights of 1 layer without those of a Block, width 16, 20 ids, 12 places"
    causes = ["there is one block more than layers"]
    expect(rest < block, f"{rest}", f"less than a block's {block}", given, causes)
    model = mine.GPT(config(mine, layers=3))
    model(torch.tensor([[1, 2, 3]]), torch.tensor([[2, 3, 4]])).backward()
    missed = sum(p.grad is None or not p.grad.abs().sum() for p in model.parameters())
    used = len([*model.parameters()])
    causes = ["a block is made and not called"]
    expect(missed <= used // 8, f"{missed} without", "hardly any", "gradients of weights", causes)


@check("what a block adds does not depend on how large the stream has become", step="norm")
def normalised(mine):
    module, x = lively(mine.Block(config(mine))), tokens(1, 4, 16).detach()
    one, other = (module(size * x) - size * x for size in (1e6, 2e6))
    off = ((one - other).abs().max() / one.abs().max()).item()
    causes = [
        "attention or the MLP reads the stream itself, not a normalised copy",
        "the norm comes after the sum, so that the stream itself is normalised",
    ]
    given = "what Block adds to 1e6 * x and to 2e6 * x"
    expect(off < 1e-3, f"{off:.3g} apart", "the same", given, causes)
    expect(one.abs().max() > 1e-3, "nothing", "something", given)


@check("a hidden vector has mean 0 and spread 1, and the logits are made of it", step="hidden")
def hidden(mine):
    import torch

    model = mine.GPT(config(mine)).double().eval()
    ids = torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
    found = model.hidden(ids)
    equal(tuple(found.shape), (2, 5, 16), given="the shape of hidden(ids) for ids (2, 5), width 16")
    mean = found.mean(dim=2).abs().max().item()
    spread = found.std(dim=2, correction=0)
    causes = ["the last norm is missing"]
    expect(mean < 1e-6, f"{mean:.3g}", "0", "the largest mean of a hidden vector", causes)
    near_one = (spread - 1).abs().max() < 0.02
    expect(near_one, spread.tolist(), "1", "the spread of hidden vectors", causes)
    same = torch.allclose(model.logits(found), model(ids))
    expect(same, "other numbers", "model(ids)", "logits(hidden(ids))")


@check("the MLP reads the sum of what came in and what attention found", step="layers")
def in_turn(mine):
    block, read, share = lively(mine.Block(config(mine))), [], [1.0]
    for module in block.modules():
        if isinstance(module, mine.MLP):
            module.register_forward_pre_hook(lambda module, given: read.append(given[0]))
        if isinstance(module, mine.Attention):
            module.register_forward_hook(lambda module, given, out: out * share[0])
    one, other = tokens(2, 4, 16).detach().split(1)
    for share[0], x in ((1.0, one), (0.0, one), (0.0, other)):
        block(x)
    if len(read) == 3:  # where a block holds an MLP and an Attention of the names asked for
        with_it, without, another = read
        causes = ["both read x: the MLP comes after attention's sum"]
        given = "what reaches the MLP, with what attention gives and without"
        off = (with_it - without).abs().max().item()
        expect(off > 1e-6, "the same", "another", given, causes)
        causes = ["the MLP reads what attention gives, and not the sum"]
        given = "what reaches the MLP of two inputs, where attention gives nothing"
        off = (without - another).abs().max().item()
        expect(off > 1e-6, "the same", "another", given, causes)
