"""GPT-2 straight from a Hugging Face folder, by their names: no module, nothing that is fast.

It shares no line with your code, so what both agree on is probably right.
"""

import json
import math
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

SMALL = {"n_layer": 2, "n_head": 4, "n_embd": 32, "n_positions": 16, "vocab_size": 257}


def make(folder: Path, **changes) -> None:
    """A folder as they write it, of a small model with random weights."""
    torch.manual_seed(1)
    config = {"model_type": "gpt2", "activation_function": "gelu_new"} | SMALL | changes
    config |= dict.fromkeys(("bos_token_id", "eos_token_id"), config["vocab_size"] - 1)
    width, positions, ids = config["n_embd"], config["n_positions"], config["vocab_size"]
    shapes = {"wte.weight": (ids, width), "wpe.weight": (positions, width)}
    shapes |= {f"ln_f.{kind}": (width,) for kind in ("weight", "bias")}
    for layer in range(config["n_layer"]):
        for name, size in (("ln_1", width), ("ln_2", width)):
            shapes |= {f"h.{layer}.{name}.{kind}": (size,) for kind in ("weight", "bias")}
        wides = {"attn.c_attn": (width, 3 * width), "attn.c_proj": (width, width)}
        wides |= {"mlp.c_fc": (width, 4 * width), "mlp.c_proj": (4 * width, width)}
        for name, (size, out) in wides.items():
            shapes |= {f"h.{layer}.{name}.weight": (size, out), f"h.{layer}.{name}.bias": (out,)}
    tensors = {name: torch.randn(shape) * 0.3 for name, shape in shapes.items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {f"transformer.{name}": t for name, t in tensors.items()}, folder / "model.safetensors"
    )
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    tokenizer = json.dumps({"kind": "byte"}) + "\n"
    (folder / "buildgpt_tokenizer.json").write_text(tokenizer, encoding="utf-8")


def logits(folder: Path, ids: list[int]) -> torch.Tensor:
    """The scores (T, V) of ids, computed from the files alone."""
    heads = json.loads((folder / "config.json").read_text(encoding="utf-8"))["n_head"]
    tensors = load_file(folder / "model.safetensors")
    weights = {name.removeprefix("transformer."): t.double() for name, t in tensors.items()}

    def layer(name: str, x: torch.Tensor) -> torch.Tensor:
        return x @ weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def norm(name: str, x: torch.Tensor) -> torch.Tensor:
        spread = (x.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
        return (x - x.mean(1, keepdim=True)) / spread * weights[f"{name}.weight"] + weights[
            f"{name}.bias"
        ]

    x = weights["wte.weight"][ids] + weights["wpe.weight"][: len(ids)]
    for number in range(sum(name.endswith("ln_1.weight") for name in weights)):
        block = f"h.{number}"
        parts = layer(f"{block}.attn.c_attn", norm(f"{block}.ln_1", x)).chunk(3, 1)
        found = []
        for q, k, v in zip(*(part.chunk(heads, 1) for part in parts)):
            scores = q @ k.T / math.sqrt(q.shape[1])
            hidden = torch.ones_like(scores).triu(1).bool()
            found.append(scores.masked_fill(hidden, -math.inf).softmax(1) @ v)
        x = x + layer(f"{block}.attn.c_proj", torch.cat(found, 1))
        up = layer(f"{block}.mlp.c_fc", norm(f"{block}.ln_2", x))
        bend = (1 + (math.sqrt(2 / math.pi) * (up + 0.044715 * up**3)).tanh()) / 2
        x = x + layer(f"{block}.mlp.c_proj", up * bend)
    return norm("ln_f", x) @ weights["wte.weight"].T
