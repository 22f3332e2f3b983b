"""report: a run's figures, its findings, its place beside the published curves, and the page."""

import importlib.util
import io
import itertools
import json
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from buildgpt import api
from buildgpt.gpt.config import load_recipe, to_toml
from buildgpt.reproduce import arithmetic
from buildgpt.reproduce.report import Report, drawing, findings, loggers, references, words
from buildgpt.reproduce.report.history import History

SIZE = 524288
GPU = "NVIDIA H100 80GB HBM3"
STEP_SECONDS = 0.5


class Maker:
    """Writes a run folder as the loop does."""

    def __init__(self, folder: Path, settings: list[str] | None = None, tokenizer: str = "gpt2"):
        self.folder = folder
        folder.mkdir(parents=True)
        settings = ["model.vocab_size=50257", *(settings or [])]
        self.recipe = load_recipe(api.RECIPES / "gpt2-124m.toml", settings)
        (folder / "recipe.toml").write_text(to_toml(self.recipe))
        (folder / "tokenizer.json").write_text(json.dumps({"kind": tokenizer}))
        self.state("RUNNING")
        self.attempt, self.seconds = 1, 0.0

    def state(self, word: str) -> None:
        (self.folder / "state").write_text(word + "\n")

    def line(self, kind: str, step: int, **values) -> None:
        """One line of metrics."""
        size = self.recipe.train.tokens_per_step
        stamp = {"kind": kind, "attempt": self.attempt, "step": step, "tokens": step * size}
        row = stamp | {"seconds": self.seconds} | values
        with (self.folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")

    def start(self, step: int = 0, event: str = "start", **values) -> None:
        environment = {"torch": "2.13", "threads": 1, "device": "cuda", "device_name": GPU}
        environment |= {"dtype": "bfloat16", "compiled": True, "ranks": 8, "parallel": "ddp"}
        environment |= {"parameters": 124439808} | values
        self.line("event", step, event=event, message="training", **environment)

    def train(self, step: int, loss: float | None, **values) -> None:
        self.seconds += values.pop("took", STEP_SECONDS * self.recipe.train.log_every)
        figures = {"loss": loss, "lr": 6e-4, "grad_norm": 0.5, "tokens_per_second": 1e6}
        figures |= {"step_seconds": STEP_SECONDS, "slowest_step_seconds": 1.1 * STEP_SECONDS}
        self.line("train", step, **(figures | values))

    def val(self, step: int, loss: float | None) -> None:
        self.line("val", step, loss=loss, bits_per_byte=None, scored=10485760)


def trained_loss(step: int) -> float:
    """A smooth curve with a little noise, the same each time."""
    return 3.2 + 8 * (step + 20) ** -0.4 + 0.01 * np.sin(step * 1.7)


@pytest.fixture
def make(runs):
    """make("name", "data.path=data/fineweb") starts a run's folder."""

    def make(name: str = "run", *settings: str, tokenizer: str = "gpt2") -> Maker:
        return Maker(runs / name, list(settings), tokenizer)

    return make


@pytest.fixture
def facts(core, runs):
    """facts("name") is what --json says of that run."""

    def facts(name: str = "run", against: str = "") -> dict:
        return Report(core, [name], runs, against).facts[0]

    return facts


@pytest.fixture
def page(core, runs, tmp_path):
    """page("name", ...) is the HTML of the report on those runs."""

    def page(*names: str, against: str = "") -> str:
        path = tmp_path / "page.html"
        Report(core, names or ["run"], runs, against).write(path)
        return path.read_text()

    return page


def shown(core, runs, *names: str) -> str:
    console = Console(width=80, file=io.StringIO(), color_system=None)
    Report(core, names, runs).show(console)
    return console.file.getvalue()


def fineweb_loss(step: int) -> float:
    """llm.c's published loss on FineWeb, read from the table anew."""
    rows = tomllib.loads(references.FILE.read_text())["curve"]
    points = next(row for row in rows if row["corpus"] == "fineweb")["points"]
    for (a, low), (b, high) in itertools.pairwise(points):
        if a <= step <= b:
            return low + (high - low) * (step - a) / (b - a)
    raise ValueError(step)


# The history: attempts merged.


def test_a_later_attempt_replaces_the_steps_it_does_again_but_not_the_time_they_took(make, facts):
    run = make()
    run.start()
    for step in (10, 20, 30, 40):
        run.train(step, 5.0)
        run.val(step, 4.9)
    run.attempt, run.seconds = 2, 10.0  # the checkpoint of step 20 was saved at 10 s
    run.start(20, "resume")
    run.train(30, 4.0)
    found = facts()
    assert found["step"] == 30
    assert [row["step"] for row in found["losses"]["evaluations"]] == [10, 20]
    assert found["losses"]["train"] == 4.0
    assert [a["seconds"] for a in found["attempts"]] == [20.0, 5.0]
    assert [a["ending"] for a in found["attempts"]] == ["ended without a word", "running"]
    assert found["cost"]["device_hours"] == pytest.approx(25.0 * 8 / 3600)


def test_an_attempt_that_starts_anew_counts_its_own_time(make, facts):
    run = make()
    run.start()
    run.train(10, 5.0)
    run.attempt, run.seconds = 2, 0.0
    run.start(0)
    run.train(10, 4.0)
    assert [a["seconds"] for a in facts()["attempts"]] == [5.0, 5.0]


@pytest.mark.parametrize(
    "junk",
    [
        b"[1]\n",
        b"\xff\n",
        b'{"kind": "train"}\n',
        b'{"kind": "event", "attempt": 1, "step": 1, "seconds": 1}\n',
        b'{"kind": "train", "attempt": 1, "step": 1, "seconds": 1, "loss": "x"}\n',
        b'{"kind": "val", "attempt": 1, "step": "x", "seconds": 1, "loss": 1}\n',
        b'{"kind": "val", "st',
    ],
)
def test_what_is_no_line_is_skipped(make, facts, junk):
    run = make()
    run.start()
    run.train(10, 5.0)
    with (run.folder / "metrics.jsonl").open("ab") as file:
        file.write(junk)
    assert facts()["losses"]["train"] == 5.0


def test_losses_that_are_no_numbers_are_left_out(make, facts, page):
    run = make()
    run.start()
    run.train(10, 5.0)
    run.train(20, None, grad_norm=None, lr=None)
    run.val(20, None)
    found = facts()
    assert (found["losses"]["train"], found["losses"]["val"], found["step"]) == (5.0, None, 20)
    assert "NaN" not in json.dumps(found)
    page()


# On the curve or not.


def evaluated(run: Maker, share: dict[int, float], every: int = 500, last: int = 6000) -> None:
    """Evaluations on llm.c's curve, from each step in `share` on so much above it."""
    run.start()
    for step in range(every, last + 1, every):
        run.train(step, trained_loss(step))
        above = [share[s] for s in sorted(share) if s <= step]
        run.val(step, fineweb_loss(step) * (1 + (above[-1] if above else 0.0)))


def test_a_run_on_the_curve_is_said_to_be_on_it(make, facts):
    evaluated(make("run", "data.path=data/fineweb"), {0: 0.004})
    verdict = facts()["verdict"]
    assert (verdict["status"], verdict["left_at_step"]) == ("on", None)
    assert verdict["deviation"] == pytest.approx(0.004)
    assert "On the reference curve, llm.c's GPT-2 124M on FineWeb" in verdict["sentence"]
    assert "0.4% above" in verdict["sentence"]


@pytest.mark.parametrize("side, word", [(0.02, "above"), (-0.02, "below")])
def test_a_run_that_left_is_told_with_the_step(make, facts, side, word):
    evaluated(make("run", "data.path=data/fineweb"), {0: 0.0, 4000: side})
    verdict = facts()["verdict"]
    assert (verdict["status"], verdict["left_at_step"]) == ("left", 4000)
    assert (
        f"at step 4,000: since then 5 evaluations in a row lie more than 1% {word}"
        in (verdict["sentence"])
    )


def test_one_or_two_noisy_evaluations_are_not_leaving(make, facts):
    evaluated(make("run", "data.path=data/fineweb"), {0: 0.0, 2000: 0.03, 3000: 0.0})
    assert facts()["verdict"]["status"] == "on"
    evaluated(make("late", "data.path=data/fineweb"), {0: 0.0, 5500: 0.03})
    verdict = facts("late")["verdict"]
    assert verdict["status"] == "on"
    assert "may be noise" in verdict["sentence"]


def test_a_run_that_came_back_says_from_where_to_where_it_was_off(make, facts):
    evaluated(make("run", "data.path=data/fineweb"), {0: 0.0, 2000: 0.03, 4000: 0.0})
    verdict = facts()["verdict"]
    assert (verdict["status"], verdict["left_at_step"]) == ("back", 2000)
    assert "from step 2,000 to 3,500" in verdict["sentence"]


def test_two_evaluations_are_too_few(make, facts):
    evaluated(make("run", "data.path=data/fineweb"), {0: 0.5}, last=1000)
    assert facts()["verdict"]["status"] == "few"


@pytest.mark.parametrize(
    "path, tokenizer, words",
    [
        ("data/shakespeare", "gpt2", "no reference for the corpus shakespeare"),
        ("data/fineweb", "char", "hold for GPT-2's tokenizer, not for char"),
    ],
)
def test_another_corpus_or_tokenizer_has_no_reference(make, facts, page, path, tokenizer, words):
    run = make("run", f"data.path={path}", tokenizer=tokenizer)
    evaluated(run, {0: 0.0})
    found = facts()
    assert found["verdict"]["status"] == "none"
    assert words in found["verdict"]["sentence"]
    assert found["levels"] == []
    text = page()
    assert "3.4250" not in text and "3.2924" not in text


def test_each_corpus_has_its_own_levels(make, facts, page):
    for corpus in ("fineweb", "fineweb-edu"):
        evaluated(make(corpus, f"data.path=data/{corpus}"), {0: 0.0})
    assert [v["loss"] for v in facts("fineweb")["levels"]] == [3.4250, 3.28]
    assert [v["loss"] for v in facts("fineweb-edu")["levels"]] == [3.2924]
    text = page("fineweb-edu")
    assert "3.2924" in text and "3.4250" not in text
    assert "FineWeb-Edu" in text


def test_a_level_is_reached_at_the_first_evaluation_below_it(make, facts):
    run = make("run", "data.path=data/fineweb")
    run.start()
    for step, loss in ((100, 3.5), (200, 3.42), (300, 3.41), (400, 3.43)):
        run.val(step, loss)
    assert [v["reached_at_step"] for v in facts()["levels"]] == [200, None]


def test_a_model_of_another_size_is_not_judged_by_the_curve(make, facts):
    run = make("run", "data.path=data/fineweb", "model.size=355M")
    run.start(parameters=354823168)
    run.val(1000, 3.0)
    verdict = facts()["verdict"]
    assert verdict["status"] == "none"
    assert "354,823,168" in verdict["sentence"]


def test_every_reference_has_corpus_protocol_source_and_date():
    rows = references.load()
    for row in rows["level"] + rows["curve"]:
        assert row["corpus"] in references.NAMES
        assert row["protocol"] and row["source"] and row["date"]
    for row in rows["hellaswag"]:
        assert row["protocol"] and row["source"]
    for row in rows["curve"]:
        steps, losses = zip(*row["points"])
        assert list(steps) == sorted(set(steps)) and list(losses) == sorted(losses, reverse=True)


def test_another_run_may_be_the_reference(make, facts):
    for name, off in (("good", 0.0), ("same", 0.001), ("bad", 0.1)):
        run = make(name, "data.path=data/novel", tokenizer="char")
        run.start()
        for step in range(100, 1100, 100):
            run.train(step, trained_loss(step))
            run.val(step, trained_loss(step) * (1 + off * (step >= 500)))
    assert facts("same", "good")["verdict"]["status"] == "on"
    verdict = facts("bad", "good")["verdict"]
    assert (verdict["status"], verdict["left_at_step"]) == ("left", 500)
    assert "the run good on novel" in verdict["sentence"]


def test_runs_without_evaluations_are_compared_by_their_training(make, facts):
    for name, off in (("good", 0.0), ("bad", 0.1)):
        run = make(name, "data.path=data/novel", tokenizer="char")
        run.start()
        for step in range(10, 1010, 10):
            run.train(step, trained_loss(step) * (1 + off * (step > 600)))
    verdict = facts("bad", "good")["verdict"]
    assert (verdict["status"], verdict["left_at_step"]) == ("left", 620)
    assert facts("good", "good")["verdict"]["status"] == "on"


def test_runs_on_different_corpora_are_not_compared(make, facts):
    for name in ("one", "two"):
        run = make(name, f"data.path=data/{name}", tokenizer="char")
        run.start()
        run.train(10, 3.0)
    assert "cannot be compared" in facts("one", "two")["verdict"]["sentence"]


# Findings.


def long_run(run: Maker, last: int = 600, loss=None, values=None) -> None:
    """Lines every 10 steps; `loss` is added at some, `values` replace figures at some."""
    run.start()
    for step in range(10, last + 1, 10):
        added = (loss or {}).get(step, 0.0)
        run.train(step, trained_loss(step) + added, **(values or {}).get(step, {}))


def test_a_spike_is_found_and_its_gradient_norm_named(make, facts):
    long_run(
        make("run", "train.warmup_steps=50"),
        loss={400: 1.5, 410: 0.8},
        values={400: {"grad_norm": 9.0}},
    )
    (spike,) = facts()["spikes"]
    assert (spike["step"], spike["from_step"], spike["until_step"]) == (400, 400, 410)
    assert spike["loss"] == pytest.approx(trained_loss(400) + 1.5)
    earlier = [trained_loss(step) for step in range(190, 400, 10)]
    assert spike["expected"] == pytest.approx(np.median(earlier))
    assert "gradient norm rose with it (9, usually 0.5)" in spike["cause"]
    assert "learning rate is too high" in spike["cause"]


@pytest.mark.parametrize(
    "warmup, words", [(400, "end of warm-up"), (50, "gradient norm stayed as usual")]
)
def test_a_spike_s_likely_cause_follows_from_where_it_stands(make, facts, warmup, words):
    long_run(make("run", f"train.warmup_steps={warmup}"), loss={400: 1.5})
    (spike,) = facts()["spikes"]
    assert words in spike["cause"]


def test_a_spike_after_a_resume_and_one_with_a_skip_say_so(make, facts):
    run = make("run", "train.warmup_steps=50")
    long_run(run, 300)
    run.attempt = 2
    run.start(300, "resume")
    for step in range(310, 700, 10):
        if step == 600:
            run.line("event", 595, event="skip", message="step 596 has a loss of nan")
        run.train(step, trained_loss(step) + (1.5 if step in (320, 600) else 0.0))
    first, second = facts()["spikes"]
    assert "right after a resume" in first["cause"]
    assert "without finite gradients" in second["cause"]
    assert facts()["skipped"] == [{"step": 595, "message": "step 596 has a loss of nan"}]


def test_an_ordinary_curve_has_no_findings(make, facts):
    long_run(make())
    assert (facts()["spikes"], facts()["slow_steps"]) == ([], [])


def test_a_jump_that_stays_is_one_spike(make, facts):
    long_run(make(), loss=dict.fromkeys(range(300, 610, 10), 2.0))
    assert [spike["from_step"] for spike in facts()["spikes"]] == [300]


def test_slow_steps_are_found_with_what_stands_beside_them(make, facts):
    run = make("run", "train.checkpoint_every=250")
    slow = {"slowest_step_seconds": 4.0}
    values = dict.fromkeys((10, 110, 260, 400), slow)
    run.start()
    for step in range(10, 500, 10):
        run.train(step, trained_loss(step), **values.get(step, {}))
        if step == 100:
            run.val(step, 5.0)
    found = {row["step"]: row for row in facts()["slow_steps"]}
    assert list(found) == [10, 110, 260, 400]
    assert found[110]["seconds"] == 4.0 and found[110]["usual"] == STEP_SECONDS
    assert "first step of attempt 1: compiling" in found[10]["cause"]
    assert found[110]["cause"] == "an evaluation stands beside it"
    assert found[260]["cause"] == "a checkpoint stands beside it"
    assert "another program" in found[400]["cause"]


def test_the_first_step_after_a_resume_is_slow_for_that(make, facts):
    run = make()
    long_run(run, 200)
    run.attempt = 2
    run.start(200, "resume", compiled=False)
    run.train(210, 5.0, slowest_step_seconds=9.0)
    (found,) = facts()["slow_steps"]
    assert found["cause"] == "the first step of attempt 2: warming up"


# Speed, cost and what is left.


def test_speed_and_cost_are_arithmetic_on_the_metrics(make, facts):
    run = make()
    long_run(run, 600)
    found = facts()
    per_token = arithmetic.flops_per_token(run.recipe.model)
    peak = arithmetic.peak_flops(GPU, "bfloat16")
    dollars, date, source = arithmetic.price(GPU)
    assert found["speed"]["utilisation"] == pytest.approx(1e6 * per_token / (8 * peak))
    hours = 600 * STEP_SECONDS * 8 / 3600
    left = (19073 - 600) * STEP_SECONDS
    assert found["seconds_left"] == pytest.approx(left)
    assert found["tokens_left"] == (19073 - 600) * SIZE
    assert found["cost"]["so_far"] == pytest.approx(hours * dollars)
    assert found["cost"]["in_all"] == pytest.approx((hours + left * 8 / 3600) * dollars)
    assert (found["cost"]["price_date"], found["cost"]["price_source"]) == (date, source)


def test_an_unknown_gpu_has_no_utilisation_and_no_price(make, facts, page, core, runs):
    run = make()
    run.start(device_name="Own GPU 9000")
    for step in range(10, 100, 10):
        run.train(step, 5.0)
    found = facts()
    assert (found["speed"]["utilisation"], found["cost"]["so_far"]) == (None, None)
    text = page()
    assert "no peak is known for Own GPU 9000" in text
    assert "unknown for Own GPU 9000" in text
    assert "utilisation  unknown" in shown(core, runs, "run")


def test_a_finished_run_has_nothing_left(make, facts):
    run = make()
    long_run(run, 300)
    run.line("event", 300, event="done", message="done", summary={"peak_memory_gb": 40.5})
    run.state("DONE")
    found = facts()
    assert (found["seconds_left"], found["tokens_left"], found["steps"]) == (0.0, 0, 300)
    assert found["cost"]["in_all"] == found["cost"]["so_far"]
    assert found["environment"]["peak_memory_gb"] == 40.5
    assert found["attempts"][0]["ending"] == "done"


def test_a_time_limit_bounds_what_is_left(make, facts):
    run = make("run", "train.max_seconds=200")
    long_run(run, 300)  # 150 s of 200
    assert facts()["seconds_left"] == pytest.approx(50.0)
    assert facts()["steps"] == 400


@pytest.mark.parametrize(
    "seconds, words_",
    [(None, "unknown"), (0.2, "0 s"), (119, "119 s"), (5400, "1 h 30 min"), (90000, "1 d 1 h")],
)
def test_durations_are_words(seconds, words_):
    assert words.duration(seconds) == words_


# The recipe.


def test_differences_from_the_bundled_recipe_are_listed(make, facts):
    make("gpt2-124m", "train.lr=1e-3")
    found = facts("gpt2-124m")
    assert found["bundled"] == "gpt2-124m"
    assert found["differences"] == [{"key": "train.lr", "run": 1e-3, "bundled": 6e-4}]


def test_a_run_of_another_name_is_held_against_the_nearest_recipe(make, facts):
    make("mine")
    assert (facts("mine")["bundled"], facts("mine")["differences"]) == ("gpt2-124m", [])


# States.


def test_a_run_that_has_just_started(make, facts, page, core, runs):
    run = make()
    (run.folder / "metrics.jsonl").touch()
    found = facts()
    assert (found["step"], found["seconds_left"], found["verdict"]["status"]) == (0, None, "none")
    page()
    assert "time left" in shown(core, runs, "run")
    run.start()
    page()


@pytest.mark.parametrize("lines", [1, 3])
def test_few_lines_make_a_report(make, page, core, runs, lines):
    run = make()
    run.start()
    for step in range(lines):
        run.train(step + 1, 5.0 - step)
    page()
    assert "5.0000" in shown(core, runs, "run") or lines > 1


def test_imported_weights_have_a_report(exported, runs, core, page):
    api.import_run(str(exported), "weights", runs)
    text = page("weights")
    assert "Imported weights" in text
    assert "weights" in shown(core, runs, "weights")


def test_a_real_run_has_a_report(trained, core, tmp_path):
    report = Report(core, [str(trained)], trained.parent)
    report.write(tmp_path / "page.html")
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").open()]
    found = report.facts[0]
    assert found["losses"]["train"] == [r for r in lines if r["kind"] == "train"][-1]["loss"]
    assert found["losses"]["val"] == [r for r in lines if r["kind"] == "val"][-1]["loss"]
    assert found["state"] == "DONE"


def test_twenty_thousand_lines_are_thinned_but_keep_their_extremes(make, page):
    run = make()
    run.start()
    rows = []
    for step in range(1, 20001):
        row = {"kind": "train", "attempt": 1, "step": step, "tokens": step * SIZE, "seconds": step}
        rows.append(row | {"loss": trained_loss(step), "lr": 1e-3, "grad_norm": 1.0})
    rows[12345]["loss"] = 9.0
    with (run.folder / "metrics.jsonl").open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    points = drawing.points_of(rows, "loss")
    assert len(points) <= 2 * drawing.BINS + 2
    assert (12346 * SIZE, 9.0) in points
    assert len(page()) < 300_000


# The page.


class Checker(HTMLParser):
    """Well nested, nothing fetched, ids used once."""

    VOID = ("meta", "br")

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.images, self.headings = [], [], [], []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag not in self.VOID:
            self.open.append(tag)
        assert tag not in ("script", "link", "img", "iframe", "object", "base", "style") or (
            tag == "style" and self.open == ["html", "head", "style"]
        )
        for name, value in attrs:
            assert name not in ("src", "srcset", "action") and not name.startswith("on")
            if name in ("href", "xlink:href"):
                assert value.startswith("#")
            assert "url(" not in (value or "") or "url(#" in value
        self.ids += [values["id"]] if "id" in values else []
        if tag == "svg":
            self.images.append(values.get("aria-label"))
        if tag in ("h1", "h2", "h3", "h4"):
            self.headings.append(int(tag[1]))

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def checked(text: str) -> Checker:
    checker = Checker()
    checker.feed(text)
    checker.close()
    assert checker.open == []
    assert len(checker.ids) == len(set(checker.ids))
    assert all(checker.images)
    assert checker.headings[0] == 1
    assert all(b <= a + 1 for a, b in zip(checker.headings, checker.headings[1:]))
    assert "http:" not in text and "https:" not in text
    return checker


EVIL = '<script>alert("1")</script> & $x$ \x1b[31m [bold]'


def full_run(run: Maker) -> None:
    evaluated(run, {0: 0.0})
    run.line("hellaswag", 3000, acc=0.27, acc_norm=0.29, items=10042)
    run.line("sample", 3000, text=EVIL)
    run.line("event", 3000, event="skip", message=EVIL)
    run.attempt = 2
    run.start(6000, "resume", device_name=EVIL)
    run.line("event", 6000, event="failed", message=EVIL)
    run.state("FAILED")


def test_the_page_is_self_contained_and_well_formed(make, page):
    full_run(make("run", "data.path=data/fineweb"))
    checker = checked(page())
    assert len(checker.images) == 6
    assert any("HellaSwag" in words for words in checker.images)


def test_texts_are_escaped(make, page):
    full_run(make("run", "data.path=data/fineweb", f"sample.prompt={EVIL!r}"))
    text = page()
    assert "<script" not in text
    assert text.count("&lt;script&gt;") >= 3
    checked(text)


def test_a_name_with_signs_is_a_name(make, page):
    full_run(make("a_b-$c$ & <i>", "data.path=data/fineweb"))
    full_run(make("_hidden", "data.path=data/fineweb"))
    text = page("a_b-$c$ & <i>", "_hidden")
    assert "<i>" not in text
    checked(text)


def test_several_runs_share_a_picture_and_a_table(make, page, core, runs):
    for name in ("one", "two"):
        evaluated(make(name, "data.path=data/fineweb"), {0: 0.0})
    text = page("one", "two")
    both = [
        words for words in checked(text).images if "one, valid" in words and "two, valid" in words
    ]
    assert len(both) == 1
    assert "Side by side" in text
    assert "cannot be compared" not in text
    shown_ = shown(core, runs, "one", "two")
    assert "validation" in shown_ and "two" in shown_


def test_runs_on_several_corpora_get_a_warning(make, page):
    for name in ("one", "two"):
        evaluated(make(name, f"data.path=data/{name}"), {0: 0.0})
    assert "Losses on different corpora (one, two) cannot be compared." in page("one", "two")


def test_the_same_run_gives_the_same_page(make, page):
    full_run(make("run", "data.path=data/fineweb"))
    assert page() == page()


def test_hellaswag_stands_beside_chance_and_the_published_models(make, page, facts):
    full_run(make("run", "data.path=data/fineweb"))
    assert facts()["hellaswag"][0]["acc_norm"] == 0.29
    text = page()
    for words_ in ("chance: 25 %", "29.55 %", "33.7 %"):
        assert words_ in text


# In the terminal.


def test_the_view_in_the_terminal_fits_and_quotes_texts_as_they_are(make, core, runs):
    run = make("run", "data.path=data/fineweb")
    long_run(run, loss={400: 1.5})
    run.line("event", 600, event="failed", message="[bold]x[/bold]")
    text = shown(core, runs, "run")
    assert max(map(len, text.splitlines())) <= 80
    assert "loss spike at step 400" in text
    assert "$" in text and "19,073" in text


def test_the_command_prints_and_writes(make, say, runs):
    evaluated(make("run", "data.path=data/fineweb"), {0: 0.0})
    outcome = say("report", "run", "--runs", runs)
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.splitlines()[-1] == f"the whole report: {runs / 'run' / 'report.html'}"
    checked((runs / "run" / "report.html").read_text())


def test_json_is_the_last_line_and_writes_no_page_unasked(make, say, runs, tmp_path):
    evaluated(make("run", "data.path=data/fineweb"), {0: 0.0})
    outcome = say("report", "run", "--runs", runs, "--json")
    (found,) = json.loads(outcome.out.splitlines()[-1])["runs"]
    assert found["losses"]["evaluations"][0]["loss"] == fineweb_loss(500)
    assert not (runs / "run" / "report.html").exists()
    say("report", "run", "--runs", runs, "--json", "--out", tmp_path / "deep" / "page.html")
    checked((tmp_path / "deep" / "page.html").read_text())


def test_an_unknown_run_is_one_sentence(say, runs):
    outcome = say("report", "nobody", "--runs", runs)
    assert outcome.status == 1
    assert outcome.err.startswith("error: there is no run 'nobody'")


def test_without_matplotlib_the_rest_still_works(make, say, runs, monkeypatch):
    evaluated(make("run", "data.path=data/fineweb"), {0: 0.0})
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, *a: None if name == "matplotlib" else find(name, *a),
    )
    assert say("report", "run", "--runs", runs, "--json").status == 0
    outcome = say("report", "run", "--runs", runs)
    assert outcome.status == 1
    assert "On the reference curve" in outcome.out
    assert "pip install 'buildgpt[reproduce]'" in outcome.err


# TensorBoard and Weights & Biases.


def read_events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The scalars of a folder of event files, by TensorBoard's own reader."""
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="TensorBoard is missing"
    ).EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    accumulator.Reload()
    tags = accumulator.Tags()
    found = {tag: [(e.step, e.value) for e in accumulator.Scalars(tag)] for tag in tags["scalars"]}
    texts = [
        (e.step, e.tensor_proto.string_val[0].decode())
        for tag in tags["tensors"]
        for e in accumulator.Tensors(tag)
    ]
    return found | {"texts": texts}


def test_tensorboard_reads_what_was_measured_once_even_after_a_second_call(
    make, say, runs, tmp_path
):
    run = make("run", "data.path=data/fineweb")
    evaluated(run, {0: 0.0})
    run.line("sample", 3000, text="a sample")
    for _ in range(2):
        outcome = say("report", "run", "--runs", runs, "--json", "--tensorboard", tmp_path / "tb")
        assert outcome.status == 0
    (tmp_path / "tb" / "run" / "mine.txt").touch()
    say("report", "run", "--runs", runs, "--json", "--tensorboard", tmp_path / "tb")
    assert (tmp_path / "tb" / "run" / "mine.txt").exists()
    found = read_events(tmp_path / "tb" / "run")
    steps = range(500, 6001, 500)
    assert found["val/loss"] == [(s, pytest.approx(fineweb_loss(s), rel=1e-6)) for s in steps]
    assert [step for step, _ in found["train/loss"]] == list(steps)
    assert found["texts"] == [(3000, "    a sample")]


def test_wandb_gets_each_step_once_under_a_lasting_id(make, core, runs, monkeypatch):
    run = make("run", "data.path=data/fineweb")
    evaluated(run, {0: 0.0}, last=1000)
    logged, begun = [], []

    def init(**values):
        begun.append(values)
        return SimpleNamespace(
            log=lambda values, step: logged.append((step, values)), finish=lambda: None
        )

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    for _ in range(2):
        loggers.write_wandb(core, Report(core, ["run"], runs).runs[0], "project")
    assert begun[0] == begun[1]
    assert (begun[0]["project"], begun[0]["name"], begun[0]["resume"]) == (
        "project",
        "run",
        "allow",
    )
    assert begun[0]["config"]["train"]["lr"] == 6e-4
    assert [step for step, _ in logged] == [500, 1000, 500, 1000]
    assert logged[0][1]["val/loss"] == fineweb_loss(500)
    assert logged[0][1]["train/lr"] == 6e-4


@pytest.mark.parametrize("option, module", [("--tensorboard", "tensorboard"), ("--wandb", "wandb")])
def test_a_missing_package_is_one_sentence(make, say, runs, monkeypatch, option, module):
    make().start()
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    outcome = say("report", "run", "--runs", runs, "--json", option, "x")
    assert outcome.status == 1
    assert outcome.err == f"error: {option} wants {module}: pip install 'buildgpt[{module}]'\n"


def test_a_folder_is_no_page(make, say, runs):
    make().start()
    outcome = say("report", "run", "--runs", runs, "--out", ".")
    assert (outcome.status, outcome.err) == (2, "error: --out . is a folder; name a file in it\n")


def test_history_takes_lines_as_they_come(tmp_path):
    history = History(tmp_path / "metrics.jsonl")
    history.follow()
    assert (history.rows["train"], findings.stretches(np.array([], bool))) == ({}, [])


def test_what_the_report_reads_is_shipped():
    root = Path(__file__).parent.parent
    patterns = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert "*.toml" in patterns["package-data"]["buildgpt.reproduce"]
    assert "*.css" in patterns["package-data"]["buildgpt.reproduce.report"]
