"""The hands-on kits: as the lessons are, and right when they are filled in, and only then."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from buildgpt.course.runner import environment
from buildgpt.course.series import Series

ROOT = Path(__file__).parent.parent
SERIES = Series()
# Runs cells in order in one namespace, as a kernel does, and says what each printed.
RUNNER = """
import contextlib, io, json, sys, traceback
space, said = {"__name__": "__main__"}, []
for number, source in enumerate(json.load(sys.stdin)):
    out, error = io.StringIO(), ""
    with contextlib.redirect_stdout(out):
        try:
            exec(compile(source, f"cell {number}", "exec"), space)
        except BaseException:
            error = traceback.format_exc()
    said.append([out.getvalue(), error])
print(json.dumps([said, space["kit"].passed]))
"""


@pytest.fixture(scope="module")
def tool():
    """tools/course_notebooks.py"""
    sys.path.insert(0, str(ROOT / "tools"))
    import course_notebooks

    yield course_notebooks
    sys.path.remove(str(ROOT / "tools"))


@pytest.fixture(params=["attention-and-masks", "loss-and-sampling"])
def plan(request, tool):
    return next(plan for plan in tool.PLANS if plan.name == request.param)


def cells(tool, plan) -> list[tuple[str, str]]:
    """(role, source) of its cells of code."""
    found = json.loads(tool.path_of(plan).read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in found if cell["cell_type"] == "code"]
    return [(cell["metadata"]["role"], "".join(cell["source"])) for cell in code]


def run(sources: list[str]) -> tuple[list[tuple[str, str]], dict[str, bool]]:
    """What each cell printed and its error, and which steps were right."""
    command = [sys.executable, "-c", RUNNER]
    done = subprocess.run(
        command, input=json.dumps(sources), env=environment(), capture_output=True, text=True
    )
    said, passed = json.loads(done.stdout.splitlines()[-1])
    return [tuple(one) for one in said], passed


def filled(tool, plan) -> list[tuple[str, str]]:
    """The cells with the course's own code in those to be filled in."""
    answers = iter([tool.solution(SERIES, step) for step in tool.steps(SERIES, plan)])
    found = cells(tool, plan)
    return [(role, next(answers) if role == tool.EXERCISE else text) for role, text in found]


def test_they_are_as_the_lessons_are(tool, monkeypatch, tmp_path):
    assert tool.stale(SERIES) == [], "python tools/course.py notebooks"
    monkeypatch.setattr(tool, "FOLDER", tmp_path / "notebooks")
    assert len(tool.stale(SERIES)) == len(tool.PLANS)
    tool.write(SERIES)
    assert tool.stale(SERIES) == []


def test_they_are_notebooks_in_which_nothing_has_run(tool, plan):
    whole = json.loads(tool.path_of(plan).read_text(encoding="utf-8"))
    assert (whole["nbformat"], whole["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in whole["cells"]]
    assert len({*ids}) == len(ids) > 20
    for cell in whole["cells"]:
        assert all(line.endswith("\n") for line in cell["source"][:-1])
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
            compile("".join(cell["source"]), cell["id"], "exec")
    first = next(cell for cell in whole["cells"] if cell["cell_type"] == "code")
    assert '"pip", "install"' in "".join(first["source"])


def test_the_first_cell_installs_the_package_only_where_it_is_missing(tool, monkeypatch, tmp_path):
    import importlib.util

    first = cells(tool, tool.PLANS[0])[0][1].partition("\nfrom buildgpt")[0]
    ran: list[list[str]] = []
    monkeypatch.setattr(subprocess, "run", lambda command, check: ran.append(command))
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    exec(first, {})
    assert ran == []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(AssertionError, match="say in SOURCE"):
        exec(first, {})
    (tmp_path / "pyproject.toml").touch()
    exec(first, {})
    exec(first.replace('SOURCE = ""', 'SOURCE = "git+https://x.invalid/y"'), {})
    assert [command[-1] for command in ran] == ["..", "git+https://x.invalid/y"]


def test_filled_in_every_step_is_right_and_its_demo_runs(tool, plan):
    found = filled(tool, plan)
    said, passed = run([text for _, text in found])
    assert [error for _, error in said if error] == []
    assert passed == dict.fromkeys(plan.steps, True)
    for (role, _), (printed, _) in zip(found, said):
        assert bool(printed) == (role in (tool.CHECK, tool.TRY))
        assert role != tool.CHECK or printed.endswith("Right; go on.\n")


def test_as_they_are_nothing_is_right_and_all_is_told(tool, plan):
    found = [(role, text) for role, text in cells(tool, plan) if role != tool.TRY]
    said, passed = run([text for _, text in found])
    assert [error for _, error in said if error] == []
    assert passed == dict.fromkeys(plan.steps, False)
    for (role, _), (printed, _) in zip(found, said):
        if role == tool.CHECK:
            assert printed.startswith("NO:  ") and printed.endswith("Not yet.\n")
            assert "expected" in printed


def test_no_cell_to_be_filled_in_holds_its_solution(tool, plan):
    texts = [text for role, text in cells(tool, plan) if role == tool.EXERCISE]
    for step, text in zip(tool.steps(SERIES, plan), texts):
        new = [line for line in step.patch.added() if line.startswith(" " * 4)]
        lines = [line for line in new if not line.strip().startswith(('"""', "def ", "#", "class"))]
        missing = [line for line in lines if line.strip() and line not in text.split("\n")]
        assert missing, step.id


def test_what_was_right_is_used_in_later_steps(tool):
    """And what was wrong is not: there it is ours."""
    plan = next(plan for plan in tool.PLANS if plan.name == "attention-and-masks")
    found = filled(tool, plan)
    begin = 'kit.begin("06-head/scale")'
    stop = next(i for i, (_, text) in enumerate(found) if text.startswith(begin))
    mark = "def seen(name):\n    import gpt.model\n    return getattr(gpt.model, name).__code__"
    told = "print(seen('future').co_filename)"
    right = [text for _, text in found[: stop + 1]] + [mark, told]
    assert run(right)[0][-1][0].startswith("cell ")
    triangle = next(i for i, (_, text) in enumerate(found) if "def future" in text)
    wrong = [*right]
    wrong[triangle] = wrong[triangle].replace("triu(1)", "triu(2)")
    assert wrong != right
    said, passed = run(wrong)
    assert passed["06-head/triangle"] is False
    assert said[-1][0].strip().endswith("model.py")


def test_a_solution_is_shown_and_what_is_not_there_is_said():
    said, _ = run(
        [
            "from buildgpt.course.kit import Kit\nkit = Kit()",
            'kit.begin("06-head/triangle")\nkit.solution("future")',
            'kit.begin("06-head/nothing")',
            'kit.begin("06-head/triangle")\ndef other(): pass\nkit.check(other)',
        ]
    )
    assert said[1][0].startswith("def future(")
    assert "there is no step '06-head/nothing'" in said[2][1]
    assert "the step has no other" in said[3][1]
