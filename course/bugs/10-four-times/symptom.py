"""One step of 8 sequences, taken at once and in parts."""

import contextlib
import io
import json
import tempfile
from pathlib import Path

import numpy as np

from gpt.data import ShardWriter, write_manifest
from gpt.tokenizer import build_tokenizer
from gpt.train import train

RECIPE = """
model = {{layers = 1, heads = 2, width = 16, context = 16}}
data = {{path = "{data}"}}
train = {{steps = 1, tokens_per_step = 128, micro_batch = {rows}, log_every = 1}}
runtime = {{device = "cpu", dtype = "fp32", compile = "off", threads = 1}}
sample = {{max_tokens = 1}}
"""


def prepare(folder):
    """Some shards of bytes that mean nothing."""
    splits = {}
    for split in ("train", "val"):
        writer = ShardWriter(folder, split)
        writer.add(np.random.RandomState(1).randint(97, 123, 2000))
        splits[split] = writer.close()
    write_manifest(folder, build_tokenizer({"kind": "byte"}), splits)


with tempfile.TemporaryDirectory() as place:
    data = Path(place) / "data"
    data.mkdir()
    prepare(data)
    for rows in (8, 4, 2):
        recipe = Path(place) / f"{rows}.toml"
        recipe.write_text(RECIPE.format(data=data.as_posix(), rows=rows))
        with contextlib.redirect_stdout(io.StringIO()):
            train(recipe, f"rows-{rows}", Path(place) / "runs")
        lines = (Path(place) / "runs" / f"rows-{rows}" / "metrics.jsonl").read_text().splitlines()
        step = next(line for line in map(json.loads, lines) if line["kind"] == "train")
        parts = "at once" if rows == 8 else f"in {8 // rows} parts"
        print(f"{parts:>10}: loss {step['loss']:.4f}, gradient {step['grad_norm']:.4f}")
