"""One picture of a record of cpu.py."""

from pathlib import Path
from typing import Any

OURS, THEIRS = "#1f6f8b", "#b8c4ca"


def draw(record: dict[str, Any], path: Path) -> None:
    """Bars for what is compared, curves for what is learnt; the same bytes for the same record."""
    import matplotlib

    matplotlib.use("agg")
    matplotlib.rcParams |= {"svg.hashsalt": "buildgpt", "font.size": 9}
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 3, figsize=(12, 6.4), layout="constrained")
    panels = ("training", "decoding", "prefill", "batch")
    for axis, panel in zip(axes.flat, panels):
        bars(axis, *chosen(record, panel))
    starts(axes.flat[4], record.get("starting", {}))
    curves(axes.flat[5], record.get("learning", {}))
    hardware = record["hardware"]
    figure.suptitle(
        f"{hardware['cores']} cores of an {hardware['processor']}, torch {hardware['torch']},"
        f" {record['date']}, commit {record['commit']}"
        + (", a quick rehearsal" if record.get("quick") else "")
    )
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else {})
    pyplot.close(figure)
    print(f"drawn in {path}")


def chosen(record: dict[str, Any], panel: str) -> tuple[str, dict[str, Any], str]:
    """A panel's title, rows and the share that is written beside its bars."""
    generating = record.get("generating", {})
    return {
        "training": (
            "training, 10.7M parameters:\ntokens/s (share of the matmul peak)",
            record.get("training", {}).get("rows", {}),
            "share_of_peak",
        ),
        "decoding": (
            "decoding, 124M, one sample:\ntokens/s (share of the memory's speed)",
            record.get("decoding", {}).get("rows", {}),
            "share_of_read",
        ),
        "prefill": ("a prompt of 512 tokens, 124M:\ntokens/s", generating.get("prefill", {}), ""),
        "batch": ("32 samples at once, 124M:\ntokens/s", generating.get("batch", {}), ""),
    }[panel]


def bars(axis: Any, title: str, rows: dict[str, Any], share: str) -> None:
    """A bar a contender, ours in colour."""
    axis.set_title(title, fontsize=9)
    names = [
        name.split(maxsplit=1)[1].replace("bfloat", "bf").replace("float", "fp") for name in rows
    ]
    rates = [row["median"] for row in rows.values()]
    found = axis.barh(names, rates, color=[OURS if "ours" in n else THEIRS for n in names])
    words = [
        f" {row['median']:,.0f}" + (f" ({row[share]:.0%})" if share in row else "")
        for row in rows.values()
    ]
    axis.bar_label(found, words)
    axis.invert_yaxis()
    axis.margins(x=0.3)
    axis.spines[["top", "right"]].set_visible(False)


def starts(axis: Any, rows: dict[str, Any]) -> None:
    """Seconds to the first step."""
    axis.set_title("from the command to the first step:\nseconds", fontsize=9)
    rows = {name: row for name, row in rows.items() if isinstance(row, dict)}
    found = axis.barh([*rows], [row["later"] for row in rows.values()], 0.5, color=OURS)
    axis.bar_label(found, [f" {row['later']:.1f}" for row in rows.values()])
    axis.margins(x=0.3, y=0.5)
    axis.spines[["top", "right"]].set_visible(False)


def curves(axis: Any, rows: dict[str, Any]) -> None:
    """The losses as the recipes learn."""
    title = "learning Shakespeare's characters:\ntraining loss; validation in the end"
    axis.set_title(title, fontsize=9)
    for name, row in rows.items():
        if isinstance(row, dict) and row.get("curve"):
            xs, ys = zip(*((p["seconds"], p["loss"]) for p in row["curve"]))
            axis.plot(xs, ys, label=f"{name}: {row['val_loss']:.3f}")
    if axis.lines:
        axis.legend(frameon=False, fontsize=7, handlelength=1, loc="upper right")
    axis.spines[["top", "right"]].set_visible(False)
