"""The figures that lesson 25 quotes: name -> (value, how it is shown, tolerance)."""

import runpy
from pathlib import Path

errors = runpy.run_path(str(Path(__file__).parent / "demos" / "replica.py"))["errors"]

FIGURES = {
    "error of the late flag": (errors["too late"], "{:.2f}", 0.3),
    "error of the early flag": (errors["in time"], "{:.0e}", 1e-5),
}
