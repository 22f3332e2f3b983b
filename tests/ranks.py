"""Training processes such as torchrun starts, for tests: each forked from a process that has
imported torch and done nothing else, as one that has threads would hand on their locks, held."""

import faulthandler
import multiprocessing
import os
import sys
import time
from pathlib import Path

from torch.distributed import TCPStore

from buildgpt.gpt import runlog, train

HANGING_SECONDS = 200  # after which a process writes where it is, before a test gives up
PATIENCE_SECONDS = 300

if hasattr(os, "fork"):
    clean = multiprocessing.get_context("forkserver")
    clean.set_forkserver_preload(["buildgpt.gpt.train", "torch.distributed.fsdp"])


def train_as_rank(words: list[str], env: dict[str, str], errors: Path) -> None:
    """Train in this process; what it says on stderr goes into a file."""
    os.environ |= env
    for number, path in ((1, Path(os.devnull)), (2, errors)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w") for number in (1, 2))
    faulthandler.dump_traceback_later(HANGING_SECONDS, file=sys.stderr)
    try:
        os._exit(train.main(words))
    finally:
        os._exit(70)


class Ranks:
    """So many training processes; each one's stderr in a file.

    As with torchrun, the store that they share lies in another process, here.
    """

    def __init__(self, count: int, words: list[str], folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(self.store.port)}
        address["TORCHELASTIC_USE_AGENT_STORE"] = "True"
        self.errors = [folder / f"errors-{rank}" for rank in range(count)]
        self.processes = []
        for rank, errors in enumerate(self.errors):
            place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
            process = clean.Process(target=train_as_rank, args=(words, address | place, errors))
            process.start()
            self.processes.append(process)

    def signal(self, rank: int, number: int) -> None:
        pid = self.processes[rank].pid
        assert pid is not None
        os.kill(pid, number)

    def wait_for(self, *ranks: int) -> list[int | None]:
        """Those ranks' exit statuses, negative for a signal."""
        ends = time.monotonic() + PATIENCE_SECONDS
        for rank in ranks:
            self.processes[rank].join(max(0.0, ends - time.monotonic()))
        statuses = [self.processes[rank].exitcode for rank in ranks]
        assert None not in statuses, self.wrote()
        return statuses

    def wait(self) -> list[int | None]:
        """All exit statuses."""
        return self.wait_for(*range(len(self.processes)))

    def wait_for_step(self, run: Path, step: int) -> None:
        """Return once the run has reported this step in its newest attempt."""
        ends = time.monotonic() + PATIENCE_SECONDS
        while not has_reported(run, step):
            ended = all(process.exitcode is not None for process in self.processes)
            assert not ended and time.monotonic() < ends, self.wrote()
            time.sleep(0.01)

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
            process.join()

    def wrote(self) -> str:
        """All that they wrote on stderr, torch's warnings too."""
        return "\n".join(f"{path.name}:\n{path.read_text()}" for path in self.errors)

    def said(self) -> list[str]:
        """The errors that they told on stderr."""
        return [line for line in self.wrote().splitlines() if line.startswith("error: ")]


def has_reported(run: Path, step: int) -> bool:
    """Whether the run has reported this step in its newest attempt."""
    lines = runlog.read_metrics(run)
    newest = max((line["attempt"] for line in lines), default=0)
    return any(x["attempt"] == newest and x["step"] >= step for x in lines)
