"""Which changes pay: what is trained, how it is compared, that it goes on after a pause."""

import importlib.util
import json
import math
import statistics
from dataclasses import dataclass

import pytest
from rich.console import Console

from buildgpt import ablate as ablation
from buildgpt import api
from buildgpt.ablate import comparing, showing, training, variations
from buildgpt.gpt import config, runlog
from buildgpt.gpt.config import UsageError, UserError, load_recipe


@dataclass(frozen=True)
class Switches:
    """A section of them, and something else."""

    norm: bool = True
    rotary: bool = True
    relu2: bool = True
    base: int = 1024


@pytest.fixture
def switches(monkeypatch):
    monkeypatch.setitem(config.SECTIONS, "modern", Switches)


# The comparison.


def upper_tail(t, freedom):
    """P(T > t) of Student's distribution, by Simpson's rule with x = t / u, u from 0 to 1."""
    scale = math.gamma((freedom + 1) / 2) / math.sqrt(freedom * math.pi) / math.gamma(freedom / 2)

    def density(u):
        if u == 0:
            return scale * freedom / t if freedom == 1 else 0.0  # the limit of what follows
        x = t / u
        return scale * (1 + x * x / freedom) ** (-(freedom + 1) / 2) * t / u**2

    n = 2000
    weights = [1, *(4 if i % 2 else 2 for i in range(1, n)), 1]
    return sum(w * density(i / n) for i, w in enumerate(weights)) / (3 * n)


@pytest.mark.parametrize("freedom", range(1, comparing.MOST_SEEDS))
def test_the_table_of_student_s_t(freedom):
    """Against the integral of its density: 2.5 % lie above."""
    assert upper_tail(comparing.STUDENT_T[freedom - 1], freedom) == pytest.approx(0.025, rel=1e-4)


def test_a_gain_is_paired_by_seed():
    """Seeds differ by far more than the change gains, yet it is clear."""
    worse, better = {1: 1.50, 2: 1.71, 3: 1.93}, {1: 1.48, 2: 1.70, 3: 1.90}
    found = comparing.compare(worse, better)
    # By hand: 0.02, 0.01, 0.03; mean 0.02, sd 0.01, 4.3027 * 0.01 / sqrt(3) = 0.02484.
    assert list(found["differences"].values()) == pytest.approx([0.02, 0.01, 0.03])
    assert found["mean"] == pytest.approx(0.02)
    assert found["deviation"] == pytest.approx(0.01)
    assert found["half_width"] == pytest.approx(0.024842, abs=1e-5)
    assert found["verdict"] == "within noise"
    assert comparing.compare(worse, {1: 1.48, 2: 1.691, 3: 1.91})["verdict"] == "helps"
    assert comparing.compare({1: 1.48, 2: 1.691, 3: 1.91}, worse)["verdict"] == "hurts"


@pytest.mark.parametrize(
    ("worse", "better", "verdict"),
    [
        ({1: 2.0}, {1: 1.0}, "one seed: noise unknown"),
        ({1: 2.0}, {2: 1.0}, "not measured"),
        ({1: 2.0, 2: 2.5}, {1: 2.0, 2: 2.5}, "within noise"),  # the same bits
        ({1: 2.00001, 2: 2.50001}, {1: 2.0, 2: 2.5}, "within noise"),  # another order of sums
        ({1: 2.0, 2: 2.0, 3: 9.0}, {1: 1.99, 2: 1.99}, "helps"),  # a seed without a partner
    ],
)
def test_a_verdict(worse, better, verdict):
    assert comparing.compare(worse, better)["verdict"] == verdict


# What is trained.


@pytest.mark.usefixtures("switches")
def test_switches_are_removed_and_added_one_at_a_time(core):
    plan = variations.by_switches(core, "norm, rotary")
    on = {
        v.name: {s.partition("=")[0] for s in v.settings if s.endswith("=true")}
        for v in plan.variations
    }
    norm, rotary = "modern.norm", "modern.rotary"
    assert on == {
        "all-on": {norm, rotary},
        "without-norm": {rotary},
        "without-rotary": {norm},
        "all-off": set(),
        "only-norm": {norm},
        "only-rotary": {rotary},
    }
    assert all(len(v.settings) == 2 for v in plan.variations)
    pairs = {c.what: (c.worse, c.better) for c in plan.comparisons}
    assert pairs == {
        "norm": ("without-norm", "all-on"),
        "rotary": ("without-rotary", "all-on"),
        "all together": ("all-off", "all-on"),
        "norm alone": ("all-off", "only-norm"),
        "rotary alone": ("all-off", "only-rotary"),
    }


@pytest.mark.usefixtures("switches")
def test_nothing_is_trained_twice(core):
    """Of two switches, one alone is all without the other."""
    assert set(variations.by_switches(core, "norm,rotary").trained().values()) == {
        "all-on",
        "without-norm",
        "without-rotary",
        "all-off",
    }
    assert len(variations.by_switches(core, "all").trained()) == 8


@pytest.mark.usefixtures("switches")
def test_switches_that_share_runs_share_losses(core, tmp_path):
    plan = variations.by_switches(core, "norm,rotary")
    names = ["all-on", "without-norm", "without-rotary", "all-off"]
    jobs = [training.Job(name, 7, name, None, tmp_path) for name in names]
    figures = {"step": 1, "tokens": 1, "seconds": 1.0, "error": ""}
    found = {job.name: figures | {"val_loss": float(i)} for i, job in enumerate(jobs)}
    results = ablation.collect(core, plan, jobs, found, {})
    gains = {c["what"]: c["mean"] for c in results["comparisons"]}
    assert gains == {
        "norm": 1.0,
        "rotary": 2.0,
        "all together": 3.0,
        "norm alone": 1.0,  # 3 of all off, 2 of all without rotary
        "rotary alone": 2.0,
    }


@pytest.mark.usefixtures("switches")
def test_every_switch_and_a_dotted_one(core):
    assert variations.switch_keys(core, "all") == ["modern.norm", "modern.rotary", "modern.relu2"]
    assert variations.switch_keys(core, "modern.norm,norm") == ["modern.norm"]
    assert len(variations.by_switches(core, "norm").variations) == 2


@pytest.mark.usefixtures("switches")
@pytest.mark.parametrize(
    ("wish", "word"),
    [
        ("normm", "nearest known one is 'modern.norm'"),
        ("base", "not on or off"),
        ("train.lr", "not on or off"),
        (" , ", "no switch"),
    ],
)
def test_what_is_no_switch_is_told(core, wish, word):
    with pytest.raises(UsageError, match=word):
        variations.switch_keys(core, wish)


def test_values_are_compared_with_the_recipe_s_own(core, tiny):
    recipe = load_recipe(tiny)  # lr = 1e-2
    plan = variations.by_values(core, recipe, "train.lr=1e-3, 0.01,4e-2")
    assert [v.settings for v in plan.variations] == [
        ("train.lr=1e-3",),
        ("train.lr=0.01",),
        ("train.lr=4e-2",),
    ]
    assert {(c.worse, c.better) for c in plan.comparisons} == {
        ("lr-0.01", "lr-1e-3"),
        ("lr-0.01", "lr-4e-2"),
    }
    plan = variations.by_values(core, recipe, "train.schedule=wsd,x")
    assert plan.comparisons[0].worse == "schedule-wsd"
    assert len(variations.by_values(core, recipe, "model.size=124M,355M").variations) == 2


@pytest.mark.parametrize(
    "wish", ["train.lr", "train.lr=1", "train.lr=1,1", "lr=1,2", "train=1,2", "train.x=1,2"]
)
def test_what_cannot_be_varied_is_told(core, tiny, wish):
    with pytest.raises(UsageError):
        variations.by_values(core, load_recipe(tiny), wish)


@pytest.mark.parametrize(
    ("wish", "seconds", "tokens"),
    [
        ("", 0, 0),
        ("60s", 60, 0),
        ("1.5 min", 90, 0),
        ("2h", 7200, 0),
        ("2M", 0, 2_000_000),
        ("500k", 0, 500_000),
    ],
)
def test_a_budget_is_time_or_tokens(core, wish, seconds, tokens):
    assert variations.parse_budget(core, wish) == (seconds, tokens)


@pytest.mark.parametrize("wish", ["2m", "x", "-5s", "0s", "60 seconds"])
def test_what_is_no_budget_is_told(core, wish):
    with pytest.raises(UsageError, match="--budget"):
        variations.parse_budget(core, wish)


def test_a_budget_of_tokens_is_so_many_steps_of_each_variation(core, tiny):
    def resolved(*settings, budget=(0.0, 640)):
        return variations.resolve(core, tiny, settings, budget, 7).train

    assert (resolved().steps, resolved().seed, resolved().eval_every) == (10, 7, 0)
    assert resolved("train.tokens_per_step=128").steps == 5
    assert resolved("train.max_seconds=9").max_seconds == 0
    assert (resolved(budget=(60.0, 0)).max_seconds, resolved(budget=(60.0, 0)).steps) == (60, 8)
    assert resolved(budget=(0.0, 0)).steps == 8


# Training them.


def tiny_ablation(core, tiny, runs, vary="train.lr=1e-2,3e-3", seeds=2):
    """Two values of one key."""
    return ablation.ablate(core, str(tiny), vary=vary, seeds=seeds, runs=runs)


@pytest.fixture
def trainer(monkeypatch):
    """Stands in for training: the loss is a function of variation and seed; lists what it did."""
    done = []

    def losses(variation, seed):
        return 2.0 + seed / 1000 + (0.1 if variation == "lr-3e-3" else 0)

    def train(core, job, env, display):
        done.append(job.name)
        loss = losses(job.variation, job.seed)
        job.folder.mkdir(parents=True)
        summary = {"val_loss": loss, "step": 8, "tokens": 512}
        summary |= {"seconds": 1.0, "tokens_per_second": 500.0}
        line = {"kind": "event", "attempt": 1, "event": "done", "summary": summary}
        (job.folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")
        (job.folder / "state").write_text("DONE\n")
        return training.outcome(core, job)

    monkeypatch.setattr(ablation, "train", train)
    return done


def test_it_is_trained_compared_written_and_drawn(core, tiny, runs, trainer):
    results = tiny_ablation(core, tiny, runs, seeds=3)
    names = [f"lr-{value}-seed{seed}" for seed in (1337, 1338, 1339) for value in ("1e-2", "3e-3")]
    assert trainer == names  # the seeds one after another
    (found,) = results["comparisons"]
    assert (found["worse"], found["better"]) == ("lr-1e-2", "lr-3e-3")
    assert found["mean"] == pytest.approx(-0.1)
    assert found["verdict"] == "hurts"
    row = results["variations"][0]
    assert row["mean"] == pytest.approx(statistics.fmean([3.337, 3.338, 3.339]))
    assert row["deviation"] == pytest.approx(0.001)
    folder = runs / "tiny-train.lr"
    stored = json.loads((folder / "results.json").read_text())
    assert stored["complete"] and stored["criterion"] == comparing.CRITERION
    assert stored["variations"][1]["losses"].keys() == {"1337", "1338", "1339"}
    assert (folder / "ablation.png").read_bytes().startswith(b"\x89PNG")
    assert results["picture"] == str(folder / "ablation.png")


def test_what_is_finished_is_not_trained_again_and_seeds_can_be_added(core, tiny, runs, trainer):
    first = tiny_ablation(core, tiny, runs)
    again = tiny_ablation(core, tiny, runs)
    assert (first, len(trainer)) == (again, 4)
    tiny_ablation(core, tiny, runs, seeds=3)
    assert trainer[4:] == ["lr-1e-2-seed1339", "lr-3e-3-seed1339"]


def test_another_ablation_does_not_mix_with_it(core, tiny, runs, trainer):
    tiny_ablation(core, tiny, runs)
    changed = tiny.with_name("other") / tiny.name
    changed.parent.mkdir(exist_ok=True)
    changed.write_text(tiny.read_text().replace("steps = 8", "steps = 9"))
    with pytest.raises(UsageError, match="--out"):
        tiny_ablation(core, changed, runs)
    assert len(trainer) == 4


def test_a_variation_that_fails_is_shown_and_the_others_are_compared(
    core, tiny, runs, trainer, monkeypatch, capsys
):
    good = ablation.train

    def train(core, job, env, display):
        if job.variation == "lr-9":
            return {"val_loss": None, "step": 0, "tokens": 0, "seconds": 0, "error": "it diverged"}
        return good(core, job, env, display)

    monkeypatch.setattr(ablation, "train", train)
    results = tiny_ablation(core, tiny, runs, vary="train.lr=1e-2,9,3e-3")
    assert [found["verdict"] for found in results["comparisons"]] == ["not measured", "hurts"]
    capsys.readouterr()
    ablation.show(results, Console(width=80))
    lines = capsys.readouterr().out.splitlines()
    assert "lr = 9: it diverged" in lines
    assert any(line.startswith("lr = 9") and "failed" in line for line in lines)
    json.dumps(results, allow_nan=False)


def test_a_variation_that_cannot_be_is_told_before_anything_is_trained(core, tiny, runs, trainer):
    with pytest.raises(UsageError, match=r"context = 7: train\.tokens_per_step"):
        tiny_ablation(core, tiny, runs, vary="model.context=16,7")
    assert not trainer and not runs.exists()


def test_the_results_are_there_after_each_run(core, tiny, runs, trainer, monkeypatch):
    good = ablation.train

    def train(core, job, env, display):
        if len(trainer) == 3:
            raise UserError("stopped")
        return good(core, job, env, display)

    monkeypatch.setattr(ablation, "train", train)
    with pytest.raises(UserError, match="stopped"):
        tiny_ablation(core, tiny, runs)
    stored = json.loads((runs / "tiny-train.lr" / "results.json").read_text())
    assert not stored["complete"]
    assert stored["comparisons"][0]["verdict"] == "one seed: noise unknown"


def test_the_command_line_prints_a_table_or_an_object(say, tiny, trainer):
    words = ("ablate", tiny, "--vary", "train.lr=1e-2,3e-3", "--seeds", 3, "--out", "x")
    done = say(*words)
    assert (done.status, done.err) == (0, "")
    rows = [line.split() for line in done.out.splitlines()]
    assert ["lr", "=", "1e-2", "3.3380", "(0.0010)", "512", "baseline"] in rows
    assert "of twenty" in " ".join(done.out.split())
    found = json.loads(say(*words, "--json").out.splitlines()[-1])
    assert found["complete"] and found["seeds"] == [1337, 1338, 1339]
    assert len(trainer) == 6


@pytest.mark.parametrize(
    "wrong",
    [("--switches", "all", "--vary", "train.lr=1,2"), (), ("--vary", "a.b=1,2", "--seeds", 0)],
)
def test_wrong_words_are_told(say, tiny, wrong):
    done = say("ablate", tiny, *wrong)
    assert done.status == 2
    assert done.err.startswith("error: ") and done.err.count("\n") == 1


def test_without_matplotlib_characters_draw(core, tiny, runs, trainer, monkeypatch, capsys):
    found = importlib.util.find_spec
    without = lambda name: None if name == "matplotlib" else found(name)  # noqa: E731
    monkeypatch.setattr(showing.importlib.util, "find_spec", without)
    results = tiny_ablation(core, tiny, runs)
    assert results["picture"] == ""
    capsys.readouterr()
    ablation.show(results, Console(width=80))
    out = capsys.readouterr().out
    assert "█│" in out  # a loss, to the left
    assert "buildgpt[reproduce]" in out


def test_bars_are_as_long_as_the_gains():
    rows = [{"what": "a", "mean": 0.2, "half_width": None}]
    rows += [{"what": "bb", "mean": -0.1, "half_width": None}]
    first, second = showing.bars({"comparisons": rows}).splitlines()
    assert (first.count("█"), second.count("█")) == (20, 10)
    assert first.index("│") < first.index("█")
    assert second.index("│") > second.index("█")


@pytest.mark.usefixtures("switches")
def test_gains_of_switches_are_drawn(core, tmp_path):
    plan = variations.by_switches(core, "norm,rotary")
    losses = {v.name: {1: 2.0 + i / 10, 2: 2.1 + i / 9} for i, v in enumerate(plan.variations)}
    rows = [
        {"what": c.what, "row": c.row} | comparing.compare(losses[c.worse], losses[c.better])
        for c in plan.comparisons
    ]
    results = {"varied": "", "comparisons": rows, "recipe": "x", "seeds": [1, 2], "budget": "1s"}
    path = showing.draw(core, results, tmp_path)
    assert (tmp_path / "ablation.png").stat().st_size > 10_000
    assert path == str(tmp_path / "ablation.png")


# For real.


def test_a_real_ablation_trains_what_train_does_and_goes_on(core, tiny, runs, monkeypatch):
    """Stopped after two runs, and called again: each run ends as it does by itself."""
    real, count = ablation.train, []

    def train(core, job, env, display):
        if len(count) == 2:
            raise UserError("stopped")
        count.append(job.name)
        return real(core, job, env, display)

    monkeypatch.setattr(ablation, "train", train)
    with pytest.raises(UserError):
        tiny_ablation(core, tiny, runs)
    metrics = runs / "tiny-train.lr" / "runs" / count[0] / "metrics.jsonl"
    before = metrics.read_bytes()
    monkeypatch.setattr(ablation, "train", real)
    results = tiny_ablation(core, tiny, runs)
    assert metrics.read_bytes() == before
    own = ["train.seed=1338", "train.lr=3e-3", "train.eval_every=0"]
    alone = api.train(tiny, "alone", runs, own)
    assert results["variations"][1]["losses"][1338] == alone["val_loss"]
    assert results["variations"][1]["tokens"] == alone["tokens"]
    assert results["complete"] and results["threads"] == 1
    assert not (metrics.parent / "checkpoints").exists()


def test_a_run_that_diverges_is_an_outcome(core, tiny, tmp_path):
    recipe = load_recipe(tiny, ["train.lr=1e38", "train.checkpoint_every=0"])
    job = training.Job("hot", 1, "hot, seed 1", recipe, tmp_path)
    training.write_recipes(core, [job])
    display = training.Display(Console(), False, 1)
    found = training.train(core, job, training.environment_of(core, []), display)
    assert found["val_loss"] is None
    assert "train.lr" in found["error"]
    assert runlog.read_state(job.folder) == "FAILED"
    assert training.outcome(core, job) is None  # it is tried again


@pytest.mark.parametrize(("limit", "attempts"), [(0, {1, 2}), (60, {1})])
def test_a_run_that_was_stopped_goes_on_unless_its_time_is_measured(
    core, tiny, tmp_path, limit, attempts
):
    settings = ["train.checkpoint_every=2", f"train.max_seconds={limit}"]
    job = training.Job("a", 1, "a", load_recipe(tiny, settings), tmp_path)
    training.write_recipes(core, [job])
    api.train(job.file, job.name, tmp_path / "runs", ["train.steps=4"])
    (job.folder / "state").write_text("PREEMPTED\n")
    display, env = training.Display(Console(), False, 1), training.environment_of(core, [])
    # The run's own recipe would have it end here, at 4 steps.
    (job.folder / "recipe.toml").write_text(config.to_toml(job.recipe))
    assert training.train(core, job, env, display)["step"] == 8
    assert {line["attempt"] for line in runlog.read_metrics(job.folder)} == attempts


def test_a_run_that_cannot_start_stops_it_all(core, tiny, tmp_path):
    recipe = load_recipe(tiny, [f"data.path={tmp_path / 'none'}"])
    job = training.Job("lost", 1, "lost, seed 1", recipe, tmp_path)
    training.write_recipes(core, [job])
    display, env = training.Display(Console(), False, 1), training.environment_of(core, [])
    with pytest.raises(UserError, match=r"lost, seed 1: .*none"):
        training.train(core, job, env, display)


def test_all_runs_get_the_threads_of_the_first(core, tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS")
    job = training.Job("a", 1, "a", config.Recipe(), tmp_path)
    job.folder.mkdir(parents=True)
    line = {"kind": "event", "attempt": 1, "device": "cpu", "threads": 3}
    (job.folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    assert training.environment_of(core, [job])["OMP_NUM_THREADS"] == "3"
    assert "OMP_NUM_THREADS" not in training.environment_of(core, [])
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert training.environment_of(core, [job])["OMP_NUM_THREADS"] == "2"


def test_recipes_are_written_in_full(core, tiny, tmp_path):
    recipe = load_recipe(tiny)
    job = training.Job("a", 1, "a", recipe, tmp_path)
    for _ in range(2):
        training.write_recipes(core, [job])
        assert load_recipe(job.file) == recipe
