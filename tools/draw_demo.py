"""Draw what `buildgpt demo` showed, from a run's metrics: python tools/draw_demo.py RUN FILE.svg"""

import re
import sys
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

from buildgpt.core import load_core
from buildgpt.watch import Progress, picture

WIDTH, HEIGHT = 92, 34


def main(run: Path, target: Path) -> None:
    """Write the last picture of the live view as an SVG."""
    progress = Progress(run / "metrics.jsonl")
    progress.follow()
    recipe = load_core().config.load_recipe(run / "recipe.toml")
    console = Console(record=True, file=StringIO(), width=WIDTH, height=HEIGHT, force_terminal=True)
    console.print(Text("$ make demo", "bold"))
    console.print(picture(progress, recipe, "demo", console.size))
    summary = progress.summary
    console.print(
        f"\nvalidation loss {summary['val_loss']:.4f} after {summary['step']:,} steps and"
        f" {summary['seconds']:.0f} s. The run lies in runs/demo.",
        highlight=False,
    )
    picture_text = console.export_svg(title="buildgpt demo")
    # Without the web font that it would load: whoever looks at it has a monospaced one.
    picture_text = picture_text.replace("<svg ", '<svg xml:space="preserve" ', 1)
    target.write_text(re.sub(r"@font-face \{.*?\}", "", picture_text, flags=re.S), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
