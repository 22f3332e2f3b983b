"""Several ranks on one machine, for lessons and their checks: forked, which takes no second."""

import importlib
import json
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

SECONDS = 60.0  # after which ranks are taken to wait for each other in vain
GRACE = 2.0  # for the others when one has failed: they may have a reason of their own to tell
LOOPBACK = {"linux": "lo", "darwin": "lo0"}


SILENT = "it did not end"


class RankFailed(Exception):
    """A rank ended with an error, or not at all."""


def on_ranks(count: int, work: Callable[[int], Any], seconds: float = SECONDS) -> list[Any]:
    """What work(rank) returns, as JSON, in so many processes that torch.distributed can join.

    The variables of the environment are those that torchrun sets. Raises RankFailed where one of
    them fails, or all wait.
    """
    if not can_fork():
        raise RankFailed("this system cannot fork processes")
    prepare()
    sys.stdout.flush()
    place = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    if name := LOOPBACK.get(sys.platform):
        place["GLOO_SOCKET_IFNAME"] = name
    children = [start(rank, place, work) for rank in range(count)]
    answers = listen([pipe for _, pipe in children], seconds)
    for child, _ in children:
        os.kill(child, signal.SIGKILL)  # whoever has answered is done
        os.waitpid(child, 0)
    failed = [(error == SILENT, rank, error) for rank, (_, error) in enumerate(answers) if error]
    if failed:  # those who only waited come last
        _, rank, error = min(failed)
        raise RankFailed(f"rank {rank}: {error}")
    return [value for value, _ in answers]


def prepare() -> None:
    """Import what DistributedDataParallel and FSDP import when they begin, which takes seconds, so
    that forked processes have it."""
    for name in ("torch._dynamo", "torch.distributed.fsdp"):
        importlib.import_module(name)


def can_fork() -> bool:
    """Whether this system has several ranks to offer."""
    return hasattr(os, "fork")


def free_port() -> str:
    """A port that nobody listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def start(rank: int, place: dict[str, str], work: Callable[[int], Any]) -> tuple[int, int]:
    """A rank's process, and the end of a pipe where its answer comes."""
    read, write = os.pipe()
    child = os.fork()
    if child:
        os.close(write)
        return child, read
    try:
        os.close(read)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what libraries say when a rank is lost
        os.environ |= place | {"RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"}
        compute_alone()
        answer = [work(rank), ""]
    except BaseException:
        answer = [None, traceback.format_exc().strip().splitlines()[-1]]
    try:
        sys.stdout.flush()
        with os.fdopen(write, "w", encoding="utf-8") as pipe:
            pipe.write(json.dumps(answer))
        time.sleep(SECONDS)  # others may still want something of this rank's store
    finally:
        os._exit(0)


def compute_alone() -> None:
    """One thread a rank, as with torchrun. Besides, the threads with which the process before the
    fork has computed are not there in this one, and would be waited for in vain."""
    import torch

    torch.set_num_threads(1)


def listen(pipes: list[int], seconds: float) -> list[tuple[Any, str]]:
    """Each rank's answer and its error; soon after one has failed, the others are not heard."""
    said, ends = dict.fromkeys(pipes, b""), time.monotonic() + seconds
    with selectors.DefaultSelector() as open_pipes:
        for pipe in pipes:
            open_pipes.register(pipe, selectors.EVENT_READ)
        while open_pipes.get_map() and (left := ends - time.monotonic()) > 0:
            for pipe in (key.fd for key, _ in open_pipes.select(left)):
                more = os.read(pipe, 1 << 16)
                said[pipe] += more
                if not more:
                    open_pipes.unregister(pipe)
                    failed = understood(said[pipe], ended=True)[1]
                    ends = min(ends, time.monotonic() + GRACE) if failed else ends
        waiting = [key.fd for key in open_pipes.get_map().values()]
    for pipe in pipes:
        os.close(pipe)
    return [understood(said[pipe], ended=pipe not in waiting) for pipe in pipes]


def understood(said: bytes, ended: bool) -> tuple[Any, str]:
    """A rank's answer and its error, of the words that it has left."""
    if not ended:
        return None, SILENT
    try:
        value, error = json.loads(said)
    except ValueError:
        return None, "it died"
    return value, error
