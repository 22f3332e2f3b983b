"""What may change for speed's sake, and what may not: the numbers."""

import contextlib
import io
import math
import shutil
from unittest import mock

from buildgpt.course.checking import check, equal, evaluation, expect, near, small_trainer


def gpt(mine, size):
    """A small GPT of so many ids."""
    import torch

    torch.manual_seed(1)
    config = mine.ModelConfig(layers=1, heads=2, width=16, context=8, vocab_size=size)
    return mine.GPT(config)


@check("the vocabulary is widened to a multiple of 128, and nobody sees it", step="padded")
def padded(mine):
    import torch

    for size in (1, 65, 128, 129, 257):
        model, ids = gpt(mine, size), torch.zeros(1, 8, dtype=torch.int64)
        rows, given = len(model.token_embedding.weight), f"a vocabulary of {size}"
        wanted = math.ceil(size / 128) * 128
        equal(rows, wanted, given=f"rows of the embedding, {given}")
        causes = ["the logits still have the widened vocabulary: its padding takes probability"]
        shape = tuple(model(ids).shape)
        equal(shape, (1, 8, size), given=f"the shape of logits, {given}", causes=causes)
        loss = model(ids, ids)
        loss.backward()
        chances = model(ids).softmax(-1)[..., 0]
        near(loss, -chances.log().mean(), 1e-5, f"the loss, and -log p(target), {given}", causes)
        unused = model.token_embedding.weight.grad[size:].abs().sum().item()
        equal(unused, 0.0, given=f"gradient of the padding, {given}", causes=causes)
        others = sum(p.numel() for p in model.parameters()) - rows * 16
        count = model.parameter_count()
        causes = ["the padding is counted"]
        equal(count, others + size * 16, given=f"parameter_count, {given}", causes=causes)


@check("weights go out without the padding, and come in with room for it", step="padded")
def padding_stays(mine):
    import torch

    model, name = gpt(mine, 257), "token_embedding.weight"
    theirs = mine.to_hugging_face(model)["transformer.wte.weight"]
    causes = ["the rows of the padding go along: other programs would take them for ids"]
    equal(tuple(theirs.shape), (257, 16), given=f"their {name} of 257 ids", causes=causes)
    found = mine.turn_or_widen(name, torch.ones(257, 16), model)
    causes = ["lesson 18's padding: as many rows of zeros as the embedding has more"]
    equal(tuple(found.shape), (384, 16), given=f"turn_or_widen({name!r}, 257 rows)", causes=causes)
    equal(found[257:].abs().sum().item(), 0.0, given="what the rows of the padding hold")


def counted(function):
    """How many operations torch is asked for in a call."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Counter(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, called, types, args=(), kwargs=None):
            self.count += 1
            return called(*args, **(kwargs or {}))

    with Counter() as counter:
        function()
    return counter.count


@check("an update of all weights is a few operations, to the same weights", step="fused")
def fused(mine):
    import torch

    model, plain = gpt(mine, 257), gpt(mine, 257)
    optimizer = mine.build_optimizer(model, mine.TrainConfig(lr=0.01))
    groups = [
        {"params": [p for p in plain.parameters() if (p.dim() > 1) == matrices], **words}
        for matrices, words in ((True, {"weight_decay": 0.1}), (False, {"weight_decay": 0.0}))
    ]
    other = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.95), fused=False, foreach=False)
    ids = torch.arange(8)[None]
    for _ in range(2):
        for one, steps in ((model, optimizer), (plain, other)):
            steps.zero_grad()
            one(ids, ids + 1).backward()
            steps.step()
    off = max((a - b).abs().max().item() for a, b in zip(model.parameters(), plain.parameters()))
    expect(off < 1e-5, f"{off:.2g} apart", "the same", "weights after two updates, fused or not")
    count, tensors = counted(optimizer.step), len([*model.parameters()])
    causes = ["fused=True is not handed to AdamW"]
    given = f"operations of an update of {tensors} tensors"
    expect(count < tensors, f"{count}", f"below {tensors}", given, causes)
    saved = {k: v.clone() for k, v in mine.optimizer_tensors(model, optimizer).items()}
    mine.load_optimizer_tensors(model, optimizer, saved)
    optimizer.step()


@check(
    "compiling is for GPUs unless it is wished for, and never without a compiler", step="compiler"
)
def chosen(mine):
    import torch

    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    for wish, device in (("off", cpu), ("off", cuda), ("auto", cpu)):
        found = mine.choose_compile(wish, device)
        equal(found, (False, []), given=f"choose_compile({wish!r}, {device})")
    with mock.patch.object(shutil, "which", lambda *_: None):
        for wish, device in (("on", cpu), ("auto", cuda)):
            compiles, notes = mine.choose_compile(wish, device)
            given = f"choose_compile({wish!r}, {device}) without a C++ compiler"
            equal(compiles, False, given=given)
            told = len(notes) == 1 and "compile" in notes[0]
            expect(told, notes, "a note that says why", given)
    runtime = mine.start_runtime(mine.RuntimeConfig(device="cpu", compile="off"))
    equal(runtime.compile, False, given='runtime.compile of compile = "off"')


@contextlib.contextmanager
def made(mine, compiles):
    """A Trainer that compiles, or does not; and the calls of what torch.compile returned."""
    import torch

    calls = []

    def compile_(module, *rest, **more):
        def compiled(*given, **named):
            calls.append(1)
            return module(*given, **named)

        return compiled

    model = {"context": 8, "layers": 1, "heads": 2, "width": 16}
    train = {"tokens_per_step": 32, "micro_batch": 2, "log_every": 1, "steps": 2}
    runtime = mine.Runtime(torch.device("cpu"), compile=compiles)
    with mock.patch.object(torch, "compile", compile_):
        with small_trainer(mine, bytes(range(97, 123)) * 20, model, train, runtime) as own:
            yield own, calls


@check(
    "training is compiled where the runtime says so; evaluation and sampling are not",
    step="compile",
)
def compiled(mine):
    import torch

    weights = {}
    for compiles in (False, True):
        with made(mine, compiles) as (own, calls), contextlib.redirect_stdout(io.StringIO()):
            own.update()
            count = len(calls)
            causes = ["the Trainer calls the model itself", "torch.compile's result is not called"]
            given = f"compiled passes of a step of 2 micro-batches, compile = {compiles}"
            equal(count, 2 * compiles, given=given, causes=causes)
            evaluation(mine, own.model, own.corpus)
            wish = mine.SampleConfig(prompt="a", max_tokens=2)
            mine.sample(own.model, own.tokenizer, wish, 1)
            causes = [
                "the Trainer's model is the compiled one: it would be compiled for each shape"
            ]
            equal(len(calls), count, given="compiled passes after sampling", causes=causes)
            weights[compiles] = {k: v.clone() for k, v in own.model.state_dict().items()}
    causes = ["names of a wrapped module: _orig_mod"]
    equal(sorted(weights[True]), sorted(weights[False]), given="names of weights", causes=causes)
    off = max((weights[True][k] - v).abs().max().item() for k, v in weights[False].items())
    expect(off < 1e-6, f"{off:.2g} apart", "the same", "weights after a step of both")
    model, ids = gpt(mine, 65), torch.arange(8)[None]
    found = torch._dynamo.explain(model)(ids, ids + 1)
    torch._dynamo.reset()
    causes = ["something in the pass asks for a number: .item(), a print, an if on a tensor"]
    equal(found.graph_break_count, 0, given="graph breaks of a pass with a loss", causes=causes)


def summed(mine, logits, targets, size, softcap=0.0):
    """Their loss_and_gradient of a copy of logits."""
    more = (softcap,) if mine.done("23-compile/cap") else ()
    return mine.loss_and_gradient(logits.detach().clone(), targets[:, None], size, *more)


@check("a loss and its gradient are those of autograd, without the padding", step="gradient")
def gradient(mine):
    import torch

    for count, size, width in ((1, 2, 2), (3, 5, 5), (4, 5, 8), (7, 65, 128)):
        torch.manual_seed(count)
        logits = (3 * torch.randn(count, width, dtype=torch.float64)).requires_grad_()
        targets = torch.arange(count) % size
        wanted = torch.nn.functional.cross_entropy(logits[:, :size], targets, reduction="sum")
        wanted.backward()
        loss, found = summed(mine, logits, targets, size)
        given = f"{count} rows of {width} logits, {size} of them true"
        causes = ["a mean instead of a sum", "the padding takes probability"]
        near(loss, wanted.item(), 1e-9, f"the loss of {given}", causes)
        off = (found - logits.grad).abs().max().item()
        causes = ["the 1 at the target is not taken off", "padding has a gradient"]
        expect(off < 1e-9, f"{off:.2g} off", "softmax less 1 at the target", given, causes)
    loss, found = summed(mine, torch.randn(3, 128).bfloat16(), torch.arange(3), 65)
    dtypes = (loss.dtype, found.dtype)
    equal(dtypes, (torch.float32, torch.bfloat16), given="dtypes of loss and gradient, logits bf16")


@contextlib.contextmanager
def at_once(mine, count):
    """So many logits at once."""
    module, name = mine.place("LOGITS_AT_ONCE")
    with mock.patch.object(getattr(mine.core, module), name, count):
        yield


@check("in parts the loss and the gradient are the same, and the logits are not kept", step="parts")
def parts(mine):
    import torch

    ids, found = torch.arange(17)[None] % 257, {}
    for count in (2**27, 384 * 5):
        model, sizes = gpt(mine, 257), {}
        rows = torch.cat([ids[:, i : i + 9] for i in range(8)])  # 8 sequences of 8

        def note(tensor, sizes=sizes):
            sizes[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with at_once(mine, count):
            with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
                loss = model(rows[:, :-1], rows[:, 1:])
            (3 * loss).backward()
            each = model(rows[:, :-1], rows[:, 1:], "none").mean().item()
        near(each, loss.item(), 1e-5, f"the mean of single losses, {count} logits at once")
        gradients = torch.cat([p.grad.flatten() for p in model.parameters()])
        found[count] = sum(sizes.values()), loss.item(), gradients
    whole, some = found.values()
    near(some[1], whole[1], 1e-5, "the loss in parts of 5 rows", ["the last part is left out"])
    off = (some[2] - whole[2]).abs().max().item()
    causes = ["a factor of the loss is lost", "the mean's 1/N is missing"]
    expect(off < 1e-5, f"{off:.2g} off", "the same", "gradients of three times the loss", causes)
    saved = whole[0] - some[0]
    least = 64 * 257 * 4 // 2
    given = "bytes kept less, 64 rows of 257 logits"
    expect(saved > least, f"{saved}", f"above {least}", given, ["the logits are kept"])


@check("a cap keeps logits between its limits, and its gradient is right", step="cap")
def capped(mine):
    import torch

    logits = torch.tensor([[0.0, 0.5, -3.0, 50.0, -1e4]], dtype=torch.float64)
    expect(torch.equal(mine.cap(logits, 0.0), logits), "other logits", "the same", "a cap of 0")
    found = mine.cap(logits, 15.0)
    off = (found - 15 * torch.tanh(logits / 15)).abs().max().item()
    expect(off < 1e-9, f"{off:.2g} off", "15 tanh(x / 15)", "a cap of 15")
    logits, targets = (9 * torch.randn(4, 7, dtype=torch.float64)).requires_grad_(), torch.arange(4)
    kept = 5 * torch.tanh(logits[:, :6] / 5)
    wanted = torch.nn.functional.cross_entropy(kept, targets, reduction="sum")
    wanted.backward()
    loss, gradients = summed(mine, logits, targets, 6, 5.0)
    near(loss, wanted.item(), 1e-9, "the loss of logits capped at 5")
    off = (gradients - logits.grad).abs().max().item()
    expect(off < 1e-9, f"{off:.2g} off", "autograd's", "the gradient of logits capped at 5")
    equal(mine.GPT.softcap, 0.0, given="GPT-2's softcap")
