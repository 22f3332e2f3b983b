"""Loss spikes and slow steps, each with its likely cause in words."""

import numpy as np

from .history import Row, Run

WINDOW = 21  # lines before one, whose median says what was to be expected
FEWEST = 8  # lines before one, or there is nothing to expect
DEVIATIONS = 8.0  # a spike stands so many robust standard deviations above the median
SMALLEST = 0.03  # and at least so much of the loss
TO_SIGMA = 1.4826  # times the median absolute deviation is a normal distribution's sigma
LOUD = 2.0  # times its median, the gradient norm counts as raised
SLOW = 2.0  # times the median, a step counts as slow
NEAR_LINES = 5  # lines after a resume are close to it


def spikes(run: Run) -> list[Row]:
    """The stretches in which the training loss jumps above its running median.

    Each holds step, until, tokens, loss (the highest), expected, grad_norm and cause.
    """
    rows = run.history.series("train", "loss")
    if len(rows) <= FEWEST:
        return []
    losses = np.array([row["loss"] for row in rows])
    middle, sigma = expected(losses)
    high = losses - middle > np.maximum(DEVIATIONS * sigma, SMALLEST * middle)
    high[:FEWEST] = False
    found = []
    for first, last in stretches(high):
        peak = first + int(np.argmax(losses[first : last + 1]))
        row = {key: rows[peak][key] for key in ("step", "tokens", "loss")}
        row |= {"from_step": rows[first]["step"], "until_step": rows[last]["step"]}
        row |= {"expected": float(middle[first]), "grad_norm": rows[peak].get("grad_norm")}
        found.append(row | {"cause": cause_of_spike(run, rows, first, peak)})
    return found


def expected(losses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each loss the median of those before it, and their robust standard deviation.

    What stands above the median of a falling curve is unexpected, so a window that looks back
    is on the safe side.
    """
    padded = np.concatenate([np.full(WINDOW, np.nan), losses[:-1]])
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)
    windows = np.where(np.isnan(windows), losses[0], windows)
    middle = np.median(windows, axis=1)
    deviations = np.abs(windows - middle[:, None])
    return middle, TO_SIGMA * np.median(deviations, axis=1)


def stretches(marks: np.ndarray) -> list[tuple[int, int]]:
    """The first and last index of each unbroken run of True."""
    edges = np.diff(np.concatenate([[0], marks.astype(int), [0]]))
    return [(int(a), int(b) - 1) for a, b in zip(np.where(edges > 0)[0], np.where(edges < 0)[0])]


def cause_of_spike(run: Run, rows: list[Row], first: int, peak: int) -> str:
    """Why the loss probably jumped there."""
    step, before = rows[first]["step"], rows[max(first - 1, 0)]["step"]
    if any(before < event["step"] + 1 <= step for event in events(run, "skip")):
        return "an update without finite gradients stands here: see the skipped updates"
    resumed = [e["step"] for e in events(run, "resume")]
    near = rows[max(first - NEAR_LINES, 0)]["step"]
    if any(near <= resume < step for resume in resumed):
        return (
            "right after a resume: something did not come back as it was; compare settings,"
            " ranks and versions of the two attempts"
        )
    norm, usual = loudness(rows, first, peak)
    words = f"the gradient norm rose with it ({norm:.2g}, usually {usual:.2g})"
    warmup, loud = run.recipe.train.warmup_steps, norm > LOUD * usual
    if warmup and abs(step - warmup) <= max(warmup // 5, step - before):
        rose = f"; {words}" if loud else ""
        return f"at the end of warm-up, where the learning rate is highest: too high?{rose}"
    if loud:
        return f"{words}: the learning rate is too high, or a batch of unusual text"
    return "the gradient norm stayed as usual: probably a batch of unusual text"


def loudness(rows: list[Row], first: int, peak: int) -> tuple[float, float]:
    """The largest gradient norm around a spike, and the median of those before it."""
    around = [row.get("grad_norm") for row in rows[max(first - 1, 0) : peak + 1]]
    earlier = [row.get("grad_norm") for row in rows[max(first - WINDOW, 0) : max(first - 1, 0)]]
    largest = max((norm for norm in around if norm is not None), default=0.0)
    known = [norm for norm in earlier if norm is not None]
    return largest, float(np.median(known)) if known else largest


def events(run: Run, name: str) -> list[Row]:
    """The events of that name, of every attempt."""
    return [event for event in run.history.events if event["event"] == name]


def skipped(run: Run) -> list[Row]:
    """Updates that were left out: step, message."""
    return [{key: event.get(key) for key in ("step", "message")} for event in events(run, "skip")]


def slow_steps(run: Run) -> list[Row]:
    """The stretches between two lines whose slowest step took SLOW times the usual one.

    Each holds step (the stretch ends there), seconds (of its slowest step), usual and cause.
    """
    rows = run.history.series("train", "slowest_step_seconds")
    if len(rows) < FEWEST:
        return []
    usual = float(np.median([row.get("step_seconds") or 0.0 for row in rows]))
    found = []
    starts = stretch_starts(run)
    for row in rows:
        if row["slowest_step_seconds"] > SLOW * usual > 0:
            step, seconds = row["step"], row["slowest_step_seconds"]
            cause = cause_of_slowness(run, row, starts[step])
            found.append({"step": step, "seconds": seconds, "usual": usual, "cause": cause})
    return found


def stretch_starts(run: Run) -> dict[int, int]:
    """For each training line's step the step of the line before, or where its attempt began."""
    steps = sorted(run.history.rows["train"])
    before = dict(zip(steps, [0, *steps]))
    begins = {attempt.number: attempt.first_step for attempt in run.history.attempts}
    rows = run.history.rows["train"]
    return {s: max(before[s], begins.get(rows[s]["attempt"], 0)) for s in steps}


def cause_of_slowness(run: Run, row: Row, start: int) -> str:
    """Why a step between `start` and this line was probably slow."""
    step = row["step"]
    for attempt in run.history.attempts:
        if attempt.number == row["attempt"] and attempt.first_step == start:
            compiled = "compiling and " if attempt.environment.get("compiled") else ""
            return f"the first step of attempt {attempt.number}: {compiled}warming up"
    if any(start < event["step"] + 1 <= step for event in events(run, "skip")):
        return "an update was skipped here"
    beside = [words for words, there in neighbours(run, start, step) if there]
    if beside:
        verb = "stands" if len(beside) == 1 else "stand"
        return f"{listed(beside)} {verb} beside it"
    return "nothing of the run's own stands beside it: reading data, or another program"


def neighbours(run: Run, start: int, step: int) -> list[tuple[str, bool]]:
    """What else the run did from a step on and before another."""
    train, rows = run.recipe.train, run.history.rows

    def due(every: int) -> bool:
        return bool(every) and (step - 1) // every * every >= max(start, 1)

    return [
        ("an evaluation", any(start <= s < step for s in rows["val"])),
        ("HellaSwag", any(start <= s < step for s in rows["hellaswag"])),
        ("a sample", any(start <= s < step for s in rows["sample"])),
        ("a checkpoint", due(train.checkpoint_every)),
    ]


def listed(words: list[str]) -> str:
    """a, b and c."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


def by_cause(slow: list[Row]) -> list[Row]:
    """Slow steps of a cause taken together: how many, and the slowest; that of all comes first."""
    groups: dict[str, list[Row]] = {}
    for row in slow:
        groups.setdefault(row["cause"], []).append(row)
    found = [
        max(rows, key=lambda r: r["seconds"]) | {"times": len(rows)} for rows in groups.values()
    ]
    return sorted(found, key=lambda row: -row["seconds"])
