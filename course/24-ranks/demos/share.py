import dataclasses
import tempfile
from pathlib import Path

from gpt.config import TrainConfig, divide, load_recipe, tokens_before, tokens_of
from gpt.runtime import start_runtime
from gpt.train import Trainer

recipe = load_recipe(Path("small.toml"), ["train.micro_batch=2"])
runtime = start_runtime(recipe.runtime)


def read(rank, ranks):
    """The positions that one of several ranks reads in step 3."""
    with tempfile.TemporaryDirectory() as runs:
        trainer = Trainer(Path(runs), recipe, runtime)
        trainer.step, seen = 3, []
        trainer.runtime = dataclasses.replace(runtime, rank=rank, world_size=ranks)
        trainer.micro_batch = divide(recipe, ranks)
        batches = trainer.batches
        trainer.batches = lambda *place: seen.append(place) or batches(*place)
        trainer.accumulate()
    return [first + i for first, count in seen for i in range(count)]


for ranks in (1, 2, 4):
    for rank in range(ranks):
        print(f"rank {rank} of {ranks}: {' '.join(map(str, read(rank, ranks)))}")

train = TrainConfig(tokens_per_step=1024, double_at=(2, 4))
for step in range(6):
    first, size = tokens_before(step, train), tokens_of(step, train)
    print(f"step {step} reads {size:5,} tokens from {first:5,} on   {'#' * (size // 32)}")

# The published loader: each of 8 ranks keeps its own place in files of 100 million tokens.
step_reads, places, apart = 64 * 1024, [[0, 64 * 1024 * rank] for rank in range(8)], 0
for _ in range(19_073):
    apart += len({file for file, _ in places}) > 1
    for rank, place in enumerate(places):
        place[1] += 8 * step_reads
        if place[1] + 8 * step_reads + 1 > 100_000_000:
            place[:] = [place[0] + 1, step_reads * rank]
print(f"the published loader: its ranks read different files in {apart:,} of 19,073 steps")
