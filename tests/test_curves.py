"""A loss over the band of several seeds: no false alarms, and a fault is told by its step."""

import dataclasses
import json
import math
import random
import sys
from pathlib import Path

import pytest
from learners import forget

from buildgpt import chart
from buildgpt.course import curves, verbs
from buildgpt.course.checking import Mine
from buildgpt.course.folder import END
from buildgpt.course.runner import steps_done
from buildgpt.course.series import COURSE, Series, write_tree
from buildgpt.course.trying import script, write_text
from buildgpt.gpt.config import UserError

SERIES = Series()
LESSON = SERIES.find("4")
RECORDED = curves.records(COURSE)["curves"]
BAND = curves.band_of(SERIES, LESSON)


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    """What curves are recorded on."""
    return write_text(tmp_path_factory.mktemp("text") / "text.txt")


@pytest.fixture
def losses(tmp_path, text):
    """losses(seed, file=(old, new)) are those of the reference of a lesson, of 4 if none is named,
    changed so."""
    path = [*sys.path]

    def losses(seed: int, lesson=LESSON, **changes: tuple[str, str]) -> list[float]:
        tree = dict(SERIES.tree(SERIES.after(lesson)))
        for name, (old, new) in changes.items():
            assert old in tree[f"gpt/{name}.py"]
            tree[f"gpt/{name}.py"] = tree[f"gpt/{name}.py"].replace(old, new)
        place = tmp_path / f"mine-{len([*tmp_path.iterdir()])}"
        write_tree(place, tree)
        forget()
        mine = Mine(place / "gpt", SERIES.entries(), {}, steps_done(SERIES, lesson))
        return script(COURSE, lesson.name, "curve").losses(mine, text, seed)

    yield losses
    forget()
    sys.path[:] = path


# The rule.


def test_under_one_in_a_hundred_recorded_held_out_seeds_left_the_band():
    for name, curve in RECORDED.items():
        held_out = curve["held_out"]
        assert held_out["runs"] >= 100
        assert held_out["alarms"] < 0.01 * held_out["runs"], name
        assert held_out["longest_stretch"] < curve["in_a_row"], name
        assert (held_out["ends"]["runs"], held_out["ends"]["alarms"]) == (90, 0), name


def test_seeds_that_nobody_recorded_stay_within(losses):
    for seed in (90001, 90002):
        run = losses(seed)
        assert (BAND.leaves(run), BAND.ends(run)) == (None, 0)


def test_simulated_runs_stay_within_even_where_neighbouring_steps_agree():
    """A third of the variance is shared with the step before: more than real runs do."""
    draw, alarms, runs = random.Random(0), 0, 3000
    for _ in range(runs):
        noise, run = 0.0, []
        for middle, spread in zip(BAND.mean, BAND.spread):
            noise = 0.33 * noise + math.sqrt(1 - 0.33**2) * draw.gauss(0, 1)
            run.append(middle + noise * spread)
        alarms += BAND.leaves(run) is not None
    assert alarms < 0.01 * runs


def test_a_band_is_the_mean_and_the_spread_around_each_step():
    runs = [[1.0 + i, 5.0, 2.0 - i] for i in (-1, 0, 1)]
    band = curves.Band.of(runs)
    assert band.mean == [1.0, 5.0, 2.0]
    assert band.spread == pytest.approx([math.sqrt(2 / 3)] * 3)


def test_several_steps_in_a_row_and_on_one_side_are_needed():
    band = curves.Band([0.0] * 20, [1.0] * 20)
    row = curves.IN_A_ROW
    assert band.leaves([0.0] * 7 + [2.1] * (row - 1) + [0.0] * (13 - row + 1)) is None
    assert band.leaves([0.0] * 7 + [2.1] * row + [0.0] * (13 - row)) == (8, 1)
    assert band.leaves([0.0] * 7 + [-2.1] * row + [0.0] * (13 - row)) == (8, -1)
    assert band.leaves([2.1, -2.1] * 10) is None
    assert band.leaves([0.0] * 10 + [math.nan] * 10) == (11, 1)
    assert band.longest([2.1, 2.1, -2.1, -2.1, -2.1, 0.0]) == 3


def test_where_runs_end_is_their_last_third_and_half_as_far_again():
    runs = [[9.0] * 4 + [last] * 2 for last in (1.0, 2.0, 3.0)]
    low, high = curves.ends_of(runs)
    assert (low, high) == pytest.approx((0.5, 3.5))
    band = curves.Band([9.0] * 6, [99.0] * 6, end=(low, high))
    for last, side in ((0.5, 0), (3.5, 0), (0.4, -1), (3.6, 1), (math.nan, 1)):
        assert band.ends([0.0] * 4 + [last] * 2) == side
    assert curves.Band([9.0] * 6, [1.0] * 6).ends([-99.0] * 6) == 0


# Faults are seen.


@pytest.mark.parametrize(
    ("changes", "side"),
    [
        ({"data": ("both[:, 1:]", "both[:, :-1]")}, -1),  # the model sees its targets
        ({"train": ("        self.optimizer.zero_grad()\n", "")}, -1),  # it gathers speed at first
        ({"train": ("lr=recipe.train.lr", "lr=recipe.train.lr / 2")}, 1),
        ({"model": ("std=self.config.init_std", "std=1.0")}, 1),
    ],
    ids=["copies", "adds up", "half the rate", "begins elsewhere"],
)
def test_a_fault_leaves_the_band_at_an_early_step(losses, changes, side):
    step, found = BAND.leaves(losses(1337, **changes))
    assert (step <= 40, found) == (True, side)


def test_a_mask_that_is_off_by_one_ends_below_all_seeds(losses):
    """No step is far outside for long. (With five seeds of twelve it does, and this is one.)"""
    lesson, seed = SERIES.find("9"), 1002
    run, band = losses(seed, lesson, model=("triu(1)", "triu(2)")), curves.band_of(SERIES, lesson)
    assert (band.leaves(run), band.ends(run)) == (None, -1)
    assert band.ends(losses(seed, lesson)) == 0


@pytest.mark.parametrize(
    ("changes", "side"),
    [
        ({"optim": ("left = 0.5 *", "left = 0.25 *")}, 1),
    ],
    ids=["half the rate"],
)
def test_a_fault_in_a_small_gpt_leaves_its_band(losses, changes, side):
    lesson = SERIES.find("13")
    _, found = curves.band_of(SERIES, lesson).leaves(losses(1337, lesson, **changes))
    assert found == side


def test_the_losses_are_seen_however_the_loop_is_written():
    import torch

    model = torch.nn.Linear(2, 1)
    model.forward = lambda x: x.sum() * model.weight.sum()

    def work():
        for _ in range(3):
            model(torch.ones(2)).backward()
        with torch.no_grad():
            model(torch.ones(2))  # an evaluation counts nothing

    assert len(curves.watched(model, work)) == 3


def test_the_third_lesson_has_the_same_curve():
    """Its loop became the Trainer, and nothing else: so it was recorded once."""
    third, fourth = RECORDED["03-bigram"], RECORDED["04-recipe"]
    assert fourth["same_as"] == "03-bigram"
    assert third["mean"] == fourth["mean"]


# The command.


@pytest.fixture
def course(say, monkeypatch, tmp_path):
    """course("curve", at="5") is typed in a learner's folder at a lesson."""

    def course(*words: str, at: str = "5"):
        folder = tmp_path / f"mine-{at}"
        if not folder.exists():
            verbs.start(SERIES, folder, at)
        monkeypatch.setattr(Path, "cwd", classmethod(lambda cls: folder))
        return say("course", *words)

    return course


def test_curve_shows_the_run_over_its_band(course, monkeypatch):
    monkeypatch.setattr(curves, "run", lambda folder, lesson: [*BAND.mean])
    said = course("curve")
    assert said.status == 0
    assert "Your loss stays within the band." in said.out
    assert "whether the model is right is what check says" in " ".join(said.out.split())
    assert f"150 steps of lesson 4; {chart.SHADE} the reference's with 24 seeds" in said.out
    assert said.out.count("│") == 12
    off = [m + (1.0 if step >= 60 else 0.0) for step, m in enumerate(BAND.mean, 1)]
    monkeypatch.setattr(curves, "run", lambda folder, lesson: off)
    said = course("curve")
    assert said.status == 1
    assert "Your loss leaves the band at step 60: it lies above it." in said.out
    assert "likely causes" in said.out
    found = json.loads(course("curve", "--json").out.splitlines()[-1])
    assert (found["left_at"], found["side"], len(found["losses"])) == (60, "above", 150)
    band = dataclasses.replace(BAND, end=(curves.ending(BAND.mean), 9.0))
    monkeypatch.setattr(curves, "band_of", lambda series, lesson: band)
    tilted = [m - 1.9 * s for m, s in zip(BAND.mean, BAND.spread)]
    monkeypatch.setattr(curves, "run", lambda folder, lesson: tilted)
    said = course("curve")
    assert said.status == 1
    assert "Your loss stays within the band, but ends below all seeds." in said.out
    assert "a mask that is off by one" in said.out
    found = json.loads(course("curve", "--json").out.splitlines()[-1])
    assert (found["left_at"], found["ends"]) == (None, "below")
    monkeypatch.setattr(curves, "run", lambda folder, lesson: [1.0] * 300)
    assert "150 steps have given 300 losses" in course("curve").err


def test_before_a_model_is_trained_there_is_no_curve(course):
    said = course("curve", at="2")
    assert (said.status, "at the end of lesson 3" in said.err) == (2, True)


def test_a_learners_run_is_done_in_a_process_of_its_own(course, tmp_path):
    """Code that fails is told with its place."""
    course("status")
    package = tmp_path / "mine-5" / "gpt"
    text = (package / "train.py").read_text()
    (package / "train.py").write_text(text.replace("loss.backward()", "loss.backwards()"))
    said = course("curve")
    assert said.status == 1
    assert "'Tensor' object has no attribute 'backwards', in gpt/train.py, line " in said.err
    assert said.err.count("\n") == 1


def test_a_band_is_drawn_behind_the_points():
    low, high = ([(x, y) for x in range(1, 11)] for y in (1.0, 2.0))
    rows = chart.draw_over([(1, 3.0), (10, 0.0)], low, high, 28, 6)
    assert rows[0].startswith("  3.00 │")
    assert rows[-1].startswith("  0.00 │")
    shaded = [chart.SHADE in row for row in rows]
    assert shaded == [False, False, True, True, True, False]


def test_an_unknown_folder_is_told(tmp_path):
    folder = verbs.start(SERIES, tmp_path / "mine", "1")
    with pytest.raises(UserError, match="there is a curve at the end of lesson 3"):
        curves.lesson_with_curve(folder)


@pytest.mark.parametrize("number", ["6", "9"])
def test_a_model_that_is_being_built_is_not_measured_by_the_band_before(course, number):
    said = course("curve", at=number)
    assert said.status == 2
    assert f"there is a curve at the end of lesson {number}" in said.err
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("number", ["10", "20", "30"])
def test_the_reference_of_later_lessons_stays_within_the_band_that_still_holds(tmp_path, number):
    """What is computed is the same, though data, precision and optimizer are other code by then."""
    folder = verbs.start(SERIES, tmp_path / "mine", number)
    write_tree(folder.path, SERIES.tree(SERIES.after(folder.lesson)))
    folder.state.step = END
    folder.arrive()
    judged = curves.judge(folder)
    assert judged.lesson.number == (9 if number == "10" else 13)
    assert (judged.left, judged.ends) == (None, 0)
