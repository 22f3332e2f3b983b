import time

import torch

from buildgpt.course.recorded import show_recorded
from gpt.config import ModelConfig
from gpt.model import GPT
from gpt.runtime import Replica, Runtime, compiler_missing

model, ids = GPT(ModelConfig(vocab_size=257)), torch.randint(257, (2, 65))
found = torch._dynamo.explain(model)(ids[:, :-1], ids[:, 1:])
print(f"the model: {found.graph_count} graph of {found.op_count} operations,", end=" ")
print(f"{found.graph_break_count} breaks")
replica = Replica(model, Runtime(torch.device("cpu"), compile=True))
print(f"what trains is compiled: {replica.call is not model}, and the model is not")


def gelu(x):
    """GPT-2's GELU in eight operations, each of which goes through the memory."""
    return 0.5 * x * (1 + torch.tanh(0.7978845608 * (x + 0.044715 * x * x * x)))


def milliseconds(function, x):
    """Of one call, at its usual."""
    seconds = []
    for _ in range(15):
        began = time.perf_counter()
        function(x)
        seconds.append(time.perf_counter() - began)
    return 1000 * sorted(seconds)[7]


missing = compiler_missing(torch.device("cpu"))
if missing:
    show_recorded("23-compile/compile", f"no compiler here: {missing}")
else:
    x, compiled = torch.randn(2048, 1024), torch.compile(gelu)
    began = time.perf_counter()
    compiled(x)
    first, as_it_is, after = time.perf_counter() - began, milliseconds(gelu, x), 0.0
    after = milliseconds(compiled, x)
    print(f"GELU written out: {as_it_is:.1f} ms; compiled {after:.1f} ms, after {first:.0f} s")
    if after < as_it_is:
        print(f"    it has paid after {1000 * first / (as_it_is - after):,.0f} calls")
