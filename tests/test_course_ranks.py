"""Ranks in forked processes, as the lessons' checks use them."""

import os
import subprocess
import sys
import time

import pytest

from buildgpt.course import ranks

pytestmark = pytest.mark.skipif(not ranks.can_fork(), reason="this system cannot fork")


def test_each_rank_answers_in_its_place():
    def work(rank: int) -> list:
        return [rank, os.environ["RANK"], os.environ["WORLD_SIZE"], "x" * 100_000]

    found = ranks.on_ranks(3, work)
    assert found == [[rank, str(rank), "3", "x" * 100_000] for rank in range(3)]
    assert "RANK" not in os.environ


def test_they_add_up_by_gloo():
    def work(rank: int) -> float:
        import torch.distributed as dist

        dist.init_process_group("gloo")
        value = dist.torch.tensor(float(rank + 1))
        dist.all_reduce(value)
        return value.item()

    assert ranks.on_ranks(2, work) == [3.0, 3.0]


COMPUTING = """
import torch
from buildgpt.course.ranks import on_ranks

def work(rank):
    return (torch.ones(600, 600) @ torch.ones(600, 600)).softmax(dim=1).sum().item()

torch.set_num_threads(2)
print([round(work(0)), *map(round, on_ranks(2, work, 20.0))])
"""


def test_ranks_compute_though_the_process_before_has_computed_on_threads():
    command = [sys.executable, "-c", COMPUTING]
    found = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert found.stdout == "[600, 600, 600]\n", found.stderr


def test_who_fails_is_named_though_others_wait_for_it():
    def work(rank: int) -> None:
        if rank == 1:
            raise ValueError("no such luck")
        time.sleep(1000)

    began = time.monotonic()
    with pytest.raises(ranks.RankFailed, match="rank 1: ValueError: no such luck"):
        ranks.on_ranks(2, work, seconds=300.0)
    assert time.monotonic() - began < 200  # of the 300 for which the other would have waited


@pytest.mark.parametrize("how", ["it died", "it did not end"])
def test_who_dies_or_never_ends_is_told(how):
    def work(rank: int) -> None:
        if rank == 1:
            os._exit(1) if how == "it died" else time.sleep(1000)

    with pytest.raises(ranks.RankFailed, match=f"rank 1: {how}"):
        ranks.on_ranks(2, work, seconds=5.0)
