"""Tasks of text to ids, by a pool of processes that never changes what comes out."""

import multiprocessing
import os
import signal
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np

from buildgpt.core import Core

from .reading import Task

FEW_TASKS = 8  # so little that starting processes would take longer
AHEAD = 3  # tasks a process that are under way, so that memory stays bounded


@dataclass
class Encoded:
    """What a task came to: for each split its ids and how many documents begin in it."""

    ids: dict[str, np.ndarray]
    documents: Counter[str]
    empty: int  # documents without text; they are counted and take no token


def encode(core: Core, task: Task, tokenizer: Any) -> Encoded:
    """A task's ids; an end of text opens each document."""
    ids: defaultdict[str, list[np.ndarray]] = defaultdict(list)
    documents: Counter[str] = Counter()
    empty = 0
    opening = np.array([tokenizer.end_of_text], dtype=np.uint16)
    for split, begins, text in task.parts(core):
        if text:
            documents[split] += begins
            ids[split] += [opening] if begins else []
            ids[split].append(tokenizer.encode_array(text))
        else:
            empty += begins
    return Encoded({split: np.concatenate(parts) for split, parts in ids.items()}, documents, empty)


def encode_all(
    core: Core, tasks: Iterable[Task], tokenizer: Any, processes: int = 0
) -> Generator[tuple[Task, Encoded], None, None]:
    """Each task with its ids, in order, whatever the number of processes (0: one a core)."""
    tasks = iter(tasks)
    first = list(islice(tasks, FEW_TASKS))
    if len(first) < FEW_TASKS and not processes:
        return ((task, encode(core, task, tokenizer)) for task in first)
    return encode_in_pool(core, chain(first, tasks), tokenizer, processes or usable_cores())


def usable_cores() -> int:
    """How many cores this process may use; no more than Windows lets one wait for."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(cores or 1, 60)


def encode_in_pool(
    core: Core, tasks: Iterator[Task], tokenizer: Any, processes: int
) -> Generator[tuple[Task, Encoded], None, None]:
    """The same by a pool of processes; a few tasks each are under way at a time."""
    description = (core.package, tokenizer.to_dict())
    spawned = multiprocessing.get_context("spawn")  # threads, such as torch's, do not mix with fork
    pool = ProcessPoolExecutor(processes, spawned, start_worker, description)
    waiting: deque[tuple[Task, Future[Encoded]]] = deque()
    try:
        for task in tasks:
            waiting.append((task, pool.submit(work, task)))
            if len(waiting) >= AHEAD * processes:
                done, result = waiting.popleft()
                yield done, result.result()
        for done, result in waiting:
            yield done, result.result()
    except BrokenProcessPool:
        raise core.config.UserError(
            "a process that encodes text died: there may be too little memory, or a script that"
            ' calls this lacks: if __name__ == "__main__":'
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


worker: tuple[Core, Any]  # of a process of the pool: the core and the tokenizer


def start_worker(package: str, description: dict[str, Any]) -> None:
    """What each process of the pool does first. Ctrl-C is the main process's affair."""
    global worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=die_with_parent, daemon=True).start()
    core = Core(package)
    worker = core, core.tokenizer.build_tokenizer(description)


def die_with_parent() -> None:
    """End this process as soon as the main one is gone, even if it was killed."""
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os._exit(1)


def work(task: Task) -> Encoded:
    """What a process of the pool does with each task."""
    core, tokenizer = worker
    return encode(core, task, tokenizer)
