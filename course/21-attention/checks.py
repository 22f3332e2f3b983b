"""What attention must be, whoever computes it: the same numbers, in less memory."""

import contextlib

from buildgpt.course.checking import check, equal, expect, near, small_trainer

SHAPES = ((1, 1), (1, 4), (2, 5), (5, 5), (8, 11), (64, 64), (300, 300), (300, 310), (1, 300))


def drawn(time, seen, **wishes):
    """Queries of the last T of S tokens, and keys and values of all, in float64."""
    import torch

    torch.manual_seed(time + seen)
    wishes = {"dtype": torch.float64, "requires_grad": True} | wishes
    return [torch.randn(2, 3, length, 4, **wishes) for length in (time, seen, seen)]


def wanted(q, k, v):
    """By hand: token i of the last T sees the keys up to its own place."""
    import torch

    time, seen = q.size(2), k.size(2)
    scores = q @ k.transpose(2, 3) / q.size(3) ** 0.5
    place = torch.arange(seen - time, seen)[:, None]
    hidden = torch.arange(seen)[None] > place
    return scores.masked_fill(hidden, float("-inf")).softmax(-1) @ v


def same(attention, name, causes):
    """Fail unless it gives what attention is, and no gradient to what comes later."""
    for time, seen in SHAPES:
        q, k, v = drawn(time, seen)
        found, given = attention(q, k, v), f"{name}: the last {time} of {seen} tokens ask"
        equal(tuple(found.shape), (2, 3, time, 4), given=f"the shape of {given}")
        off = (found - wanted(q, k, v)).abs().max().item()
        expect(off < 1e-9, f"{off:.2g} off", "the last rows of the whole table", given, causes)
        found[:, :, 0].sum().backward()
        later = v.grad[:, :, seen - time + 1 :]
        leaks = later.numel() and later.abs().max().item() > 0
        expect(not leaks, "some", "none", f"gradient from the first of them to later ones, {given}")


@check("the last tokens of several can ask alone", step="last")
def last(mine):
    causes = ["the triangle begins at the first token, not at the first that asks"]
    same(mine.attend_by_hand, "attend_by_hand", causes)


def kept(function):
    """The bytes that a call keeps for its backward pass."""
    import torch

    sizes = {}

    def note(tensor):
        sizes[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        function()
    return sum(sizes.values())


@check("attention is the same, whoever computes it", step="fused")
def fused(mine):
    import torch

    causes = [
        "is_causal begins its triangle at the first key: with more keys than queries it is wrong",
        "a single token sees everything: it needs no mask, and not is_causal",
    ]
    same(mine.attend, "attend", causes)
    for time in (8, 300):
        q, k, v = (tensor.detach() for tensor in drawn(time, time))
        torch.manual_seed(1)
        found = [mine.attend(q, k, v, drop) for drop in (0.5, 0.5, 0.0)]
        given = f"attend with dropout 0.5, {time} tokens"
        causes = ["dropout is not handed on"]
        expect(not torch.equal(found[0], found[1]), "the same twice", "chance", given, causes)
        off = (found[2] - wanted(q, k, v)).abs().max().item()
        expect(off < 1e-9, f"{off:.2g} off", "none", f"dropout 0.0, {time} tokens")


@check("nothing is kept that grows with the square of the context", step="fused")
def linear(mine):
    import torch

    config = mine.ModelConfig(width=16, heads=2, context=2048)
    layer = mine.Attention(config)
    for what, call in (
        (
            "attend",
            lambda x: mine.attend(
                *x.view(1, -1, 2, 8).transpose(1, 2)[None].expand(3, -1, -1, -1, -1)
            ),
        ),
        ("an Attention layer", layer),
    ):
        sizes = []
        for time in (1024, 2048):
            x = torch.randn(1, time, 16, requires_grad=True)
            sizes.append(kept(lambda x=x, call=call: call(x)))
        times = sizes[1] / sizes[0]
        given = f"bytes that {what} keeps for 2048 tokens, times those for 1024"
        causes = ["attention is written out here: its scores are kept", "Attention does not use it"]
        expect(times < 2.5, f"{times:.1f} times", "twice", given, causes)


@check("in halves it is the same, with a quarter less arithmetic", step="halves")
def halves(mine):
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    causes = [
        "the earlier half's keys end too early: half of the queries, but all keys before them too",
        "the halves are put together in the wrong order, or along the wrong axis",
    ]
    for time, seen in SHAPES[1:]:
        if time > 1:
            q, k, v = drawn(time, seen)
            off = (mine.attend_in_halves(q, k, v) - wanted(q, k, v)).abs().max().item()
            given = f"attend_in_halves: the last {time} of {seen} tokens ask"
            expect(off < 1e-9, f"{off:.2g} off", "the same as by hand", given, causes)
    q, k, v = (tensor.detach() for tensor in drawn(64, 64))
    counts = []
    for way in (mine.attend_by_hand, mine.attend_in_halves):
        with FlopCounterMode(display=False) as counter:
            way(q, k, v)
        counts.append(counter.get_total_flops())
    share = counts[1] / counts[0]
    causes = ["both halves are multiplied with all keys"]
    near(share, 0.75, 0.02, "operations in halves, as a share of those at once", causes)
    torch.manual_seed(1)
    one, other = (mine.attend_in_halves(q, k, v, 0.5) for _ in range(2))
    causes = ["dropout is not handed on"]
    expect(not torch.equal(one, other), "the same twice", "chance", "dropout 0.5", causes)


@check("where products are bf16, what lies between the layers is, too", step="narrow")
def narrow(mine):
    import torch

    for dtype, device in ((torch.float32, "float32"), (torch.float64, "float64")):
        x = torch.linspace(-5, 5, 101, dtype=dtype)
        off = (mine.gelu(x) - torch.nn.functional.gelu(x, approximate="tanh")).abs().max().item()
        expect(off < 1e-6, f"{off:.2g} off", "GPT-2's GELU", f"gelu in {device}")
    x = torch.linspace(-5, 5, 101).bfloat16()
    exact = torch.nn.functional.gelu(x.double(), approximate="tanh")
    off = (mine.gelu(x).double() - exact).abs().max().item()
    expect(off < 0.02, f"{off:.2g} off", "the same to bf16's digits", "gelu in bf16")
    config = mine.ModelConfig(layers=2, heads=2, width=64, context=64, vocab_size=65)
    torch.manual_seed(1)
    model, ids = mine.GPT(config), torch.randint(65, (8, 65))
    losses, sizes = [], []
    for dtype in (torch.float32, torch.bfloat16):
        with mine.Runtime(torch.device("cpu"), dtype).autocast():
            sizes.append(kept(lambda: losses.append(model(ids[:, :-1], ids[:, 1:]).item())))
    share = sizes[1] / sizes[0]
    expect(share < 0.55, f"{share:.2f}", "about half", "bytes kept in bf16, to those in fp32")
    near(losses[1], losses[0], 0.02, "the loss in bf16, to that in fp32")


@contextlib.contextmanager
def made(mine, forgets, dropout=0.1):
    """A Trainer whose model keeps its activations, or does not."""
    import torch

    model = {"context": 16, "layers": 4, "heads": 2, "width": 32, "dropout": dropout}
    train = {"tokens_per_step": 64, "micro_batch": 2, "log_every": 1}
    runtime = mine.Runtime(torch.device("cpu"), checkpoint_activations=forgets)
    with small_trainer(mine, bytes(range(97, 123)) * 20, model, train, runtime) as own:
        yield own


@check("what is not kept is computed once more, to the same gradient", step="forget")
def forget(mine):
    import torch

    found = []
    for forgets in (False, True):
        with made(mine, forgets) as own:
            size = kept(own.accumulate)
            gradients = [p.grad.flatten() for p in own.model.parameters()]
            found.append((size, torch.cat(gradients), sorted(own.model.state_dict())))
    share = found[1][0] / found[0][0]
    causes = ["the blocks are not wrapped", "the Trainer trains the model itself, not its Replica"]
    given = "bytes kept with checkpoint_activations, to those without"
    expect(share < 0.5, f"{share:.2f}", "less than half", given, causes)
    off = (found[0][1] - found[1][1]).abs().max().item()
    causes = ["dropout draws other numbers the second time"]
    expect(off < 1e-6, f"{off:.2g} apart", "the same", "gradients of both", causes)
    equal(found[1][2], found[0][2], given="names of the weights with checkpoint_activations")


@check("a recipe can ask for it, and sampling goes on as before", step="forget")
def asked(mine):
    import torch

    wish = mine.RuntimeConfig(device="cpu", checkpoint_activations=True)
    equal(mine.start_runtime(wish).checkpoint_activations, True, given="checkpoint_activations")
    equal(mine.Recipe().runtime.checkpoint_activations, False, given="the same without a wish")
    ids = torch.arange(8)[None]
    with made(mine, False) as own, made(mine, True) as other:
        own.model.eval()
        other.model.eval()
        with torch.no_grad():
            off = (own.model(ids) - other.model(ids)).abs().max().item()
    expect(off < 1e-6, f"{off:.2g} apart", "the same", "logits of both models")
    with made(mine, True, dropout=0.0) as own:
        wanted = own.model(*own.batches(0, 4)).item()
        causes = ["inputs and targets are swapped on the way through the Replica"]
        near(own.accumulate().item(), wanted, 1e-5, "the loss of a step of 4 sequences", causes)
