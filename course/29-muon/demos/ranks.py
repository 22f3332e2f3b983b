import os
import subprocess
import sys
import tempfile

import torch
import torch.distributed as dist

from gpt import optim


def work(rank, place):
    """One of two processes."""
    dist.init_process_group("gloo", init_method=f"file://{place}", rank=rank, world_size=2)
    real, counts = optim.orthogonalise, []
    optim.orthogonalise = lambda given, dtype: counts.append(len(given)) or real(given, dtype)
    torch.manual_seed(1)
    matrices = torch.randn(6, 64, 64)
    found = optim.orthogonalise_together(matrices, torch.float32)
    same = torch.equal(found, real(matrices, torch.float32))
    print(f"rank {rank}: it did {counts[0]} of 6 matrices, has {len(found)}, the same bits: {same}")


if len(sys.argv) == 3 and sys.argv[1].isdigit():
    work(int(sys.argv[1]), sys.argv[2])
else:
    with tempfile.TemporaryDirectory() as folder:
        place = os.path.join(folder, "meeting")
        us = {**os.environ, "PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"}
        words = [[sys.executable, "-W", "ignore", __file__, str(rank), place] for rank in (0, 1)]
        how = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        both = [subprocess.Popen(w, env=us, **how) for w in words]
        print("".join(one.communicate()[0] for one in both), end="")
