import tempfile
from pathlib import Path

from gpt.runlog import Log, read_metrics

with tempfile.TemporaryDirectory() as name:
    run = Path(name)
    for _ in (1, 2):
        for rank in (0, 1):
            log = Log(run, rank == 0)
            for step in (10, 20):
                words = {"step": step, "tokens": 1024 * step, "loss": 2.5, "lr": 0.001}
                log.write("train", **words, grad_norm=1.0)
        with (run / "metrics.jsonl").open("a") as file:
            file.write('{"kind": "train", "att')  # the power fails
            file.write("\n")
    print("\nmetrics.jsonl:")
    print((run / "metrics.jsonl").read_text())
    print(f"{len(read_metrics(run))} lines are whole")
