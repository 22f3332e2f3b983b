"""What a machine cannot do is shown as it was recorded."""

import subprocess
import sys

from buildgpt.course import prose
from buildgpt.course.series import COURSE, Series, write_tree

SERIES = Series()
RANKS = [
    (step.id, step.lesson.demo(step))
    for step in SERIES.steps
    if step.lesson.demo(step) and "on_ranks" in step.lesson.demo(step).read_text("utf-8")
]
RUN = """
import os, runpy, sys
vars(os).pop("fork", None)
for demo in sys.argv[1:]:
    try:
        runpy.run_path(demo, run_name="__main__")
    except SystemExit as end:
        assert not end.code
    print("=====")
"""


def run(environment, folder, code: str, *words: object) -> str:
    """What a script prints that ends well, with the code of lesson 27's end beside it."""
    write_tree(folder, SERIES.tree(SERIES.after(SERIES.find("27"))))
    command = [sys.executable, "-c", code, *map(str, words)]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_fork_a_demo_of_ranks_ends_with_what_was_recorded(environment, tmp_path):
    assert len(RANKS) > 5
    said = run(environment, tmp_path, RUN, *(demo for _, demo in RANKS)).split("=====\n")
    for (name, _), words in zip(RANKS, said, strict=False):
        first, _, rest = words.partition("\n\n")
        assert first.startswith("this system cannot fork processes; where it was recorded (")
        assert rest.strip() == prose.records(COURSE)["outputs"][name].strip(), name


def test_without_a_compiler_a_demo_ends_with_what_was_recorded(environment, tmp_path):
    demo = COURSE / "23-compile" / "demos" / "compile.py"
    lacking = "import gpt.runtime; gpt.runtime.compiler_missing = lambda device: 'there is none'"
    said = run(environment, tmp_path, f"{lacking}\n{RUN}", demo)
    recorded = prose.records(COURSE)["outputs"]["23-compile/compile"].strip()
    assert "no compiler here: there is none; where it was recorded (" in said
    assert said.removesuffix("=====\n").strip().endswith(recorded)
