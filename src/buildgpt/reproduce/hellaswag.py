"""HellaSwag of a model beside the published figures, each with its protocol."""

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .report import references

PROTOCOL = """\
completion style, as build-nanogpt measures it: acc_norm goes by the smallest mean loss of an
ending's tokens, acc by the smallest sum; ± is one standard error"""


def measure(model: Any, file: str, limit: int) -> dict[str, Any]:
    """What `--json` prints. A bar on stderr counts the items meanwhile, if that is a terminal."""
    console = Console(stderr=True)
    columns = TextColumn("HellaSwag"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("", total=None)
        result = model.hellaswag(
            file, limit, lambda done, items: bar.update(task, completed=done, total=items)
        )
    known = model.core.runlog.known
    return {
        "run": model.source,
        "step": model.step,
        "acc": known(result.acc),
        "acc_norm": known(result.acc_norm),
        "acc_error": known(result.standard_error(result.acc)),
        "acc_norm_error": known(result.standard_error(result.acc_norm)),
        "items": result.items,
        "cut": result.cut,
        "references": references.load()["hellaswag"],
    }


def describe(facts: dict[str, Any]) -> str:
    """The result in words."""
    if facts["acc_norm"] is None:
        return (
            f"HellaSwag: the model's losses are no numbers; its weights are broken ({facts['run']})"
        )
    both = (
        f"{name} {facts[name]:.2%} ± {facts[name + '_error']:.2%}" for name in ("acc_norm", "acc")
    )
    cut = f"{facts['cut']:,} items are longer than the model's context and lost their beginning"
    rows = [f"  {r['acc_norm']:.2%}  {r['label']}: {r['protocol']}" for r in facts["references"]]
    return "\n".join(
        [
            f"HellaSwag: {', '.join(both)}, over {facts['items']:,} items"
            f" ({facts['run']}, step {facts['step']:,})",
            *([cut] if facts["cut"] else []),
            PROTOCOL,
            "beside it, acc_norm:",
            *rows,
        ]
    )
