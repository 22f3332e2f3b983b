"""What computing elsewhere and in fewer bits must be: the same training, the weights as before."""

import contextlib
import functools
import io
import os
from types import SimpleNamespace
from unittest import mock

import numpy as np

from buildgpt.course.checking import check, equal, expect, near, refused, small_trainer

TEXT = bytes(range(97, 123)) * 30
MODEL = {"context": 8, "layers": 2, "heads": 2, "width": 16, "init_std": 0.1}
TRAIN = {"tokens_per_step": 32, "lr": 0.01, "log_every": 1000, "grad_clip": 0.0, "micro_batch": 2}


@contextlib.contextmanager
def machine(cuda=0, mps=False):
    """A machine with so many CUDA devices, and Apple's or not, as far as torch can tell."""
    import torch

    kind = "cuda" if cuda else "mps" if mps else "cpu"
    with contextlib.ExitStack() as stack:
        for where, what, told in (
            (torch.cuda, "is_available", cuda > 0),
            (torch.cuda, "device_count", cuda),
            (torch.backends.mps, "is_available", mps),
            (torch.accelerator, "is_available", cuda > 0 or mps),
            (torch.accelerator, "device_count", cuda or int(mps)),
            (torch.accelerator, "current_accelerator", torch.device(kind)),
        ):
            stack.enter_context(mock.patch.object(where, what, lambda *_, told=told, **__: told))
        yield


def had(cuda, mps):
    """Such a machine in words."""
    return f"on a machine with {cuda} CUDA devices, " + ("Apple's" if mps else "none of Apple's")


@check("the best device of the machine is taken, or the one that is wished for", step="device")
def best(mine):
    import torch

    for cuda, mps, wish, wanted in (
        (0, False, "auto", "cpu"),
        (0, False, "cpu", "cpu"),
        (0, True, "auto", "mps"),
        (2, False, "auto", "cuda"),
        (1, True, "auto", "cuda"),
        (2, False, "cuda:1", "cuda:1"),
        (2, False, "cpu", "cpu"),
    ):
        with machine(cuda, mps):
            found = mine.choose_device(wish)
        given = f"choose_device({wish!r}) {had(cuda, mps)}"
        causes = ["the word is given back, not a torch.device"]
        expect(isinstance(found, torch.device), repr(found), "a torch.device", given, causes)
        equal(str(found), wanted, given=given)


@check("a device that is not here is refused, with those that are", step="device")
def not_here(mine):
    for cuda, mps, wish, there in (
        (0, False, "cuda", "cpu"),
        (0, False, "mps", "cpu"),
        (0, True, "cuda", "mps"),
        (2, False, "cuda:2", "cuda:1"),
        (1, False, "tpu", "cuda"),
    ):
        given = f"choose_device({wish!r}) {had(cuda, mps)}"
        causes = ["torch.device('cuda') is no question: it never looks whether there is one"]
        with machine(cuda, mps), refused(given, causes, the_wish=wish, what_is_here=there):
            mine.choose_device(wish)


def cpu(mine, dtype=None):
    """Their Runtime of this machine's CPU; fp32 unless a dtype is given."""
    import torch

    return mine.Runtime(torch.device("cpu"), *([dtype] if dtype else []))


@contextlib.contextmanager
def made(mine, dtype=None, **train):
    """A Trainer of a small GPT that computes in a dtype."""
    with small_trainer(mine, TEXT, MODEL, TRAIN | train, cpu(mine, dtype)) as own:
        yield own


def quiet(own):
    """Train it without a word."""
    with contextlib.redirect_stdout(io.StringIO()):
        own.run()


@check("what a model reads is sent to where it computes", step="runtime")
def sent(mine):
    import torch

    away = mine.Runtime(torch.device("meta"))
    found = away.send(torch.arange(4), torch.ones(2, 2))
    equal([str(t.device) for t in found], ["meta", "meta"], given="send of two tensors to meta")
    seen, send = [], mine.Runtime.send

    def note(runtime, *tensors):
        seen.extend(tensors)
        return send(runtime, *tensors)

    with made(mine) as own, mock.patch.object(mine.Runtime, "send", note):
        own.update()
        rows = sum(len(ids) for ids in seen[::2])
        equal(rows, 4, given="sequences sent in a step that has 4 of them")
        seen.clear()
        mine.evaluate(own.model, own.corpus, own.runtime)
    sizes = sum(ids.numel() for ids in seen)
    least = own.corpus.val_tokens
    expect(sizes >= least, f"{sizes} tokens", f"{least} at least", "sent in an evaluation")


@check("a recipe says where to compute, and a wish that cannot be met is refused", step="runtime")
def wished(mine):
    equal(mine.Recipe().runtime.device, "auto", given="runtime.device of a recipe without a wish")
    runtime = mine.start_runtime(mine.RuntimeConfig(device="cpu"))
    equal(str(runtime.device), "cpu", given='start_runtime of device = "cpu"')
    with refused('runtime.device = "tpu"', the_wish="tpu"):
        mine.start_runtime(mine.RuntimeConfig(device="tpu"))


@check("products are taken in the dtype, in training and in an evaluation", step="autocast")
def products(mine):
    import torch

    for dtype in (torch.bfloat16, torch.float32):
        given = f"the dtype of a product under Runtime(cpu, {dtype}).autocast()"
        with cpu(mine, dtype).autocast():
            product = torch.ones(2, 2) @ torch.ones(2, 2)
        causes = ["autocast is not enabled", "the dtype is not handed to it"]
        equal(str(product.dtype), str(dtype), given=given, causes=causes)
        with cpu(mine, dtype).autocast():
            exact = torch.ones(2, 2, dtype=torch.float64) @ torch.ones(2, 2, dtype=torch.float64)
        if dtype == torch.float32:
            equal(str(exact.dtype), "torch.float64", given=f"{given}, of numbers in float64")
    with made(mine, torch.bfloat16) as own:
        seen = []
        own.model.register_forward_hook(lambda *_: seen.append(torch.is_autocast_enabled("cpu")))
        own.update()
        count = len(seen)
        causes = ["the pass is not within runtime.autocast()"]
        equal(
            seen, [True] * count, given="whether autocast was on in a step's passes", causes=causes
        )
        seen.clear()
        mine.evaluate(own.model, own.corpus, own.runtime)
        given = "whether autocast was on in an evaluation"
        expect(seen and all(seen), seen, "True in each pass", given, causes)
        seen.clear()
        mine.evaluate(own.model, own.corpus, cpu(mine))
        expect(not any(seen), seen, "False in each pass", f"{given} whose dtype is float32")


@check("weights, their gradients and AdamW's means stay in four bytes", step="autocast")
def master(mine):
    import torch

    with made(mine, torch.bfloat16) as own:
        before = torch.cat([p.detach().flatten() for p in own.model.parameters()])
        own.update()
        after = torch.cat([p.detach().flatten() for p in own.model.parameters()])
        kept = [*own.model.parameters()]
        kept += [v for s in own.optimizer.state.values() for v in s.values() if v.dim()]
    causes = ["the model itself is turned into bf16: its small updates are rounded away"]
    found = sorted({str(tensor.dtype) for tensor in kept})
    equal(found, ["torch.float32"], given="dtypes of weights and means", causes=causes)
    moved = (after != before).double().mean().item()
    expect(moved > 0.5, f"{moved:.0%}", "most of them", "weights that a step in bf16 moved")


@check("what is kept for the backward pass is less", step="autocast")
def kept(mine):
    import torch

    held = {}
    for dtype in (torch.float32, torch.bfloat16):
        config = mine.ModelConfig(layers=2, heads=2, width=64, context=64, vocab_size=65)
        torch.manual_seed(1)
        model, ids, sizes = mine.GPT(config), torch.randint(65, (8, 65)), {}

        def note(tensor, sizes=sizes):
            sizes[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            with cpu(mine, dtype).autocast():
                model(ids[:, :-1], ids[:, 1:])
        held[dtype] = sum(sizes.values())
    share = held[torch.bfloat16] / held[torch.float32]
    given = "bytes kept in bf16, as a share of those in fp32"
    expect(share < 0.8, f"{share:.2f}", "below 0.8", given)


@check("a wish for a dtype is met where it works, and noted where it does not", step="dtype")
def wishes(mine):
    import torch

    device = torch.device("cpu")
    for wish, wanted in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        equal(mine.choose_dtype(wish, device), (wanted, []), given=f"choose_dtype({wish!r}, cpu)")
    found, notes = mine.choose_dtype("fp16", device)
    expect(found != torch.float16, found, "another one", "choose_dtype('fp16', cpu)")
    told = len(notes) == 1 and "fp16" in notes[0]
    expect(told, notes, "a note that names fp16", "what is noted of it")
    runtime = mine.start_runtime(mine.RuntimeConfig(device="cpu", dtype="fp16"))
    equal(runtime.notes, tuple(notes), given="notes of the runtime")
    for capability, wanted in (((7, 5), torch.float16), ((8, 0), torch.bfloat16)):
        with mock.patch.object(torch.cuda, "get_device_capability", return_value=capability):
            found, _ = mine.choose_dtype("auto", torch.device("cuda"))
        equal(found, wanted, given=f"choose_dtype('auto', cuda) of compute capability {capability}")
    with refused('RuntimeConfig(dtype="fp8")', the_key="dtype"):
        mine.RuntimeConfig(dtype="fp8")


@check("only fp16 is scaled", step="scale")
def needs(mine):
    import torch

    for dtype, wanted in ((torch.float16, True), (torch.bfloat16, False), (torch.float32, False)):
        with made(mine, dtype) as own:
            equal(own.runtime.needs_scaler, wanted, given=f"needs_scaler of {dtype}")
            equal(own.scaler.is_enabled(), wanted, given=f"whether {dtype} has a scaler")


def add_norm(norms, gradient):
    """Note how large a gradient is, when it arrives."""
    norms.append(gradient.norm().item())


@check("a scaled loss gives the same step: norm, loss and weights", step="scale")
def same(mine):
    import torch

    found = {}
    for dtype in (torch.float32, torch.float16):
        with made(mine, dtype, grad_clip=0.01) as own:
            arrived = []
            hook = functools.partial(add_norm, arrived)
            next(own.model.parameters()).register_hook(hook)
            own.update()
            weights = torch.cat([p.detach().flatten() for p in own.model.parameters()])
            found[dtype] = own.loss, own.norm, weights, max(arrived)
    one, other = found.values()
    causes = ["clipped before unscale_: the norm is tens of thousands of times too large"]
    near(other[1], one[1], 0.05 * one[1], "the norm of a step in fp16, and in fp32", causes)
    near(other[0], one[0], 0.02, "the loss", ["the scaled loss is reported"])
    alike = torch.nn.functional.cosine_similarity(one[2], other[2], dim=0).item()
    near(alike, 1.0, 1e-3, "how alike the weights are after a step in fp16 and in fp32")
    causes = ["the backward pass is that of the loss, not of the scaled loss"]
    times = other[3] / one[3]
    near(times, 65536, 8000, "times as large as in fp32 is what arrives in the pass", causes)


@check("what is no number in fp16 moves no weight, and the scale goes down", step="scale")
def too_high(mine):
    import torch

    with made(mine, torch.float16) as own:
        own.update()
        own.scaler.update(2.0**40)
        before = [p.detach().clone() for p in own.model.parameters()]
        own.log = SimpleNamespace(write=lambda *_, **__: None)
        with contextlib.suppress(Exception), contextlib.redirect_stdout(io.StringIO()):
            own.update()
        own_scale = own.scaler
        moved = any(not torch.equal(a, b) for a, b in zip(before, own.model.parameters()))
    causes = ["optimizer.step() is called itself, not through the scaler"]
    given = "weights after a step whose scaled gradients overflow"
    expect(not moved, "moved", "as before", given, causes)
    if mine.done("20-device/overflow"):
        causes = ["scaler.update() is missing, or before scaler.step()"]
        equal(own_scale.get_scale(), 2.0**39, given="the scale of 2^40 after it", causes=causes)


@check("an overflow costs one update, not the run", step="overflow")
def goes_on(mine):
    import torch

    with made(mine, torch.float16, steps=3) as own:
        own.update()
        own.scaler.update(2.0**30)
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            own.log = SimpleNamespace(write=lambda *_, **__: None)
            for _ in range(24):
                own.update()
        last = own.norm
    near(np.isfinite(last), 1, 0, "whether steps have finite gradients again")
    scale = own.scaler.get_scale()
    expect(scale < 2.0**30, scale, "below 2^30", "the scale")
    # But a loss that is no number stops a run, as before.

    for dtype in (torch.float32, torch.float16):
        with made(mine, dtype) as own:
            with torch.no_grad():
                next(own.model.parameters()).fill_(float("nan"))
            with refused(f"a step of a model of NaN in {dtype}", what="loss"):
                own.update()


@check("a run in fp16 goes on with its scale", step="overflow")
def resumed(mine):
    import torch

    with made(mine, torch.float16, steps=2) as own:
        own.update()
        own.scaler.update(2.0**10)
        quiet(own)
        found = [*(own.folder / "checkpoints").glob("step_*")]
        with made(mine, torch.float16, steps=2) as other:
            other.restore(found[-1])
            scale = other.scaler.state_dict().get("scale")
        equal(scale, 1024.0, given="the scale of a run that was saved with 1024 and restored")


@check("so many threads compute as the recipe wishes", step="threads")
def threads(mine):
    import torch

    before = torch.get_num_threads()
    try:
        for wish in (2, 1):
            runtime = mine.choose_threads(cpu(mine), wish, 0, 64)
            equal(torch.get_num_threads(), wish, given=f"threads with runtime.threads = {wish}")
            equal(runtime.notes, (), given="notes where threads were wished for")
        with mock.patch.dict(os.environ, {"OMP_NUM_THREADS": "1"}):
            torch.set_num_threads(1)
            mine.choose_threads(cpu(mine), 0, 0, 64)
            equal(torch.get_num_threads(), 1, given="threads with OMP_NUM_THREADS=1 and no wish")
        count = mine.fastest_threads(32, torch.float32)
        expect(count >= 1, count, "1 at least", "fastest_threads(32, float32)")
    finally:
        torch.set_num_threads(before)


@check("a run says what it computes on", step="facts")
def says(mine):
    import torch

    for dtype, word in ((torch.float32, "float32"), (torch.bfloat16, "bfloat16")):
        facts = cpu(mine, dtype).facts()
        equal((facts["device"], facts["dtype"]), ("cpu", word), given="device and dtype of facts")
        equal(facts["threads"], torch.get_num_threads(), given="threads of facts")
        expect(facts["device_name"], facts["device_name"], "a name", "device_name of facts")
    expect(cpu(mine).peak_memory() >= 0, "less", "0 at least", "peak_memory()")
    out = io.StringIO()
    with made(mine, torch.bfloat16, steps=1) as own, contextlib.redirect_stdout(out):
        own.run()
    expect("bfloat16 on cpu" in out.getvalue(), out.getvalue()[:150], "the two", "a run's words")
