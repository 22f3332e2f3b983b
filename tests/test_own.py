"""--code: a learner's own package does the work of the real tools, or is told what it lacks."""

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from buildgpt import core as core_module
from buildgpt import watch
from buildgpt.course import own, verbs
from buildgpt.course.series import CORE, Series
from buildgpt.gpt import train as training

SERIES = Series()


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A learner's folder that holds a copy of the core, to be changed by mine(file, old, new)."""
    folder = tmp_path / "mine"
    shutil.copytree(CORE, folder / "gpt", ignore=shutil.ignore_patterns("__pycache__"))

    def change(file: str, old: str, new: str) -> Path:
        path = folder / "gpt" / file
        text = path.read_text("utf-8")
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {file}"
        path.write_text(text.replace(old, new), "utf-8")
        return folder

    place = [*sys.path]
    yield change
    sys.path[:] = place
    for name in [name for name in sys.modules if name.partition(".")[0] == "gpt"]:
        del sys.modules[name]
    importlib.invalidate_caches()


@pytest.fixture
def run(trained, tmp_path):
    """A finished run's folder."""
    return shutil.copytree(trained, tmp_path / "runs" / "tiny")


def complaint(outcome, status: int) -> str:
    """The one sentence on stderr of words that ended with this status."""
    assert (outcome.status, outcome.err.count("\n")) == (status, 1), outcome.err
    return outcome.err.removeprefix("error: ")


# Another package really is the one that runs.


def test_training_is_done_by_the_package_of_that_folder(mine, tiny, say, monkeypatch):
    """In this process, which is quicker; that the other one finds the package, the next test says.
    A learning rate of theirs shows in what is written."""
    monkeypatch.setattr(watch, "launch", lambda core, words, *more: core.train.main(words))
    mine("train.py", 'f"training {parameters:,} parameters,"', 'f"MINE has {parameters:,},"')
    folder = mine("optim.py", "return config.lr * warmup", "return 0.125 + 0 * warmup")
    said = say("train", tiny, "--name", "x", "--code", folder, "--set", "train.steps=2")
    assert (said.status, said.err) == (0, "")
    assert "MINE has " in said.out
    metrics = (folder.parent / "runs" / "x" / "metrics.jsonl").read_text().splitlines()
    rates = [line["lr"] for line in map(json.loads, metrics) if line["kind"] == "train"]
    assert rates == [0.125, 0.125]


def test_a_training_process_finds_their_package_first_and_ours_too(mine):
    """`train --profile` runs buildgpt.profiling, whosever the core is."""
    folder = mine("optim.py", "return config.lr * warmup", "return 0.125 + 0 * warmup")
    places = watch.environment(core_module.load_core(folder / "gpt"))["PYTHONPATH"].split(
        os.pathsep
    )
    assert places[:2] == [str(folder), str(CORE.parent.parent)]


def test_sampling_is_done_by_their_model_and_their_sampling(mine, run, say):
    mine("generate.py", "return best.indices.cpu()", "return best.indices.cpu() * 0 + 7")
    folder = mine(
        "model.py", "return self.norm(x)\n", "print('MINE')\n        return self.norm(x)\n"
    )
    words = ["sample", run, "the ", "--temperature", 0, "--max-tokens", 3]
    said = say(*words, "--code", folder)
    assert said.status == 0
    assert said.out.count("MINE\n") == 3
    assert "MINE" not in say(*words).out


def test_evaluation_is_done_by_their_loss(mine, run, say):
    plain = json.loads(say("eval", run, "--json").out)["val_loss"]
    folder = mine("evaluate.py", "Evaluation(total /", "Evaluation(100 + total /")
    theirs = json.loads(say("eval", run, "--json", "--code", folder).out)["val_loss"]
    assert theirs == pytest.approx(100 + plain, abs=1e-4)


def test_weights_go_in_and_out_by_their_hub(mine, run, exported, say, tmp_path):
    mine("hub.py", '    "model_type": "gpt2"', '    "by": "me",\n    "model_type": "gpt2"')
    folder = mine(
        "checkpoint.py", 'json.dumps({"step": step}', 'json.dumps({"by": "me", "step": step}'
    )
    assert say("export", run, tmp_path / "out", "--code", folder).status == 0
    assert json.loads((tmp_path / "out" / "config.json").read_text())["by"] == "me"
    assert say("import", exported, "back", "--code", folder).status == 0
    state = tmp_path / "runs" / "back" / "checkpoints" / "step_000000" / "state.json"
    assert json.loads(state.read_text())["by"] == "me"


def test_a_text_is_prepared_by_their_tokenizer(mine, say, tmp_path, words):
    folder = mine(
        "data.py", "MAGIC, VERSION, HEADER_BYTES = 20240520", "MAGIC, VERSION, HEADER_BYTES = 7"
    )
    (tmp_path / "text.txt").write_text(words)
    assert say("prepare", "text.txt", "--code", folder).status == 0
    shard = next((tmp_path / "data" / "text").glob("*.bin"))
    assert shard.read_bytes()[:4] == (7).to_bytes(4, "little")


# What is not there yet.


def test_a_package_of_lesson_5_is_told_what_it_lacks_and_until_when(say, tmp_path):
    folder = verbs.start(SERIES, tmp_path / "my-gpt", "5").path
    for verb, rest in (("prepare", ["x"]), ("sample", ["x"]), ("eval", ["x"])):
        said = complaint(say(verb, *rest, "--code", folder), 2)
        assert f"{folder / 'gpt'} has no " in said
        assert f"yet, which buildgpt {verb} needs" in said
        assert "comes with a later lesson" in said or "comes with lesson " in said
        assert (f"buildgpt train RECIPE --code {folder}" in said) == (verb == "sample")
    assert "gpt" not in sys.modules


@pytest.mark.parametrize("lesson", ["8", "20"])
def test_a_package_on_its_way_trains_by_its_own_command_on_any_text(lesson, say, tmp_path):
    """From lesson 8 on one's own text, as the course promises; here a name is their own, too."""
    folder = verbs.start(SERIES, tmp_path / "my-gpt", lesson).path
    code = folder / "gpt" / "train.py"
    code.write_text(code.read_text("utf-8").replace("main(", "go("), "utf-8")
    with (folder / "learn.toml").open("a") as file:
        file.write('main = "train.go"\n')
    (tmp_path / "mine.txt").write_text("In my own words. " * 400)
    recipe = "recipe.toml" if lesson == "8" else "small.toml"
    place = tmp_path / "mine.txt"
    if lesson == "20":
        subprocess.run([sys.executable, "prepare.py", place, "mine"], cwd=folder, check=True)
        place = folder / "mine"
    words = ["train", folder / recipe, "--code", folder, "--set", f"data.path={place}"]
    wrong = say(*words, "--set", "train.step=2")
    assert (wrong.status, "train.steps" in wrong.err) == (1, True)
    said = say(*words, "--set", "train.steps=2", "--set", "sample.prompt=In my")
    assert said.status == 0
    assert "\nIn my" in "\n" + said.out
    assert complaint(say(*words, "--gpus", 2), 2).endswith("which has no --gpus\n")
    assert "gpt" not in sys.modules


def test_a_package_without_a_command_is_told_what_it_lacks(say, tmp_path):
    folder = verbs.start(SERIES, tmp_path / "my-gpt", "3").path
    said = complaint(say("train", "recipe.toml", "--code", folder), 2)
    assert "yet, which buildgpt train needs; the last of it comes with lesson 27" in said


def test_the_lesson_that_brings_something_is_named(tmp_path):
    package = verbs.start(SERIES, tmp_path / "my-gpt", "3").path / "gpt"
    assert own.lacking(package, ["config.load_recipe", "data.Batches"]) == ["config.load_recipe"]
    said = own.told(package, ["config.load_recipe", "generate.Sampling"], "train")
    assert "has no config.py, generate.py yet" in said
    assert "the last of it comes with lesson 5, One model, three moods" in said
    assert "it comes with lesson 4, Settings in a file" in own.told(
        package, ["config.load_recipe"], "train"
    )


def test_the_core_has_all_that_the_verbs_need():
    for needs in own.NEEDS.values():
        assert own.lacking(CORE, f"{own.ERRORS} {needs}".split()) == []


def test_what_verbs_take_from_a_core_is_listed(monkeypatch, tiny, exported, say, tmp_path, words):
    """Each verb is run with a core that notes what it is asked for."""
    asked: set[str] = set()

    class Noting:
        def __init__(self, module) -> None:
            self.module = module

        def __getattr__(self, name):
            if name.isidentifier() and not name.startswith("_"):
                asked.add(f"{self.module.__name__.rpartition('.')[2]}.{name}")
            return getattr(self.module, name)

    plain = core_module.Core.__getattr__
    monkeypatch.setattr(
        core_module.Core, "__getattr__", lambda self, name: Noting(plain(self, name))
    )
    monkeypatch.setattr(core_module.Core, "is_ours", False)
    monkeypatch.setattr(watch, "launch", lambda core, words, *more: training.main(words))
    (tmp_path / "text.txt").write_text(words)
    run = tmp_path / "runs" / "x"
    for verb, rest in (
        ("train", [tiny, "--name", "x"]),
        ("sample", [run, "the "]),
        ("sample", [run, "the ", "--samples", 2]),
        ("eval", [run]),
        ("report", [run]),
        ("export", [run, tmp_path / "out"]),
        ("import", [exported, "y"]),
        ("prepare", ["text.txt"]),
    ):
        asked.clear()
        said = say(verb, *rest)
        assert (said.status, said.err) == (0, ""), verb
        assert asked <= {*f"{own.ERRORS} {own.NEEDS[verb]}".split()}, verb


# Mistakes of theirs.


def test_an_error_in_their_code_is_one_sentence_with_its_place(mine, run, say):
    folder = mine("generate.py", "return best.indices.cpu()", "return best.indeces.cpu()")
    said = complaint(say("sample", run, "--temperature", 0, "--code", folder), 1)
    assert "AttributeError: " in said
    assert "has no attribute 'indeces'" in said
    assert "in gpt/generate.py, line " in said


def test_a_user_error_of_theirs_keeps_its_status(mine, run, say):
    folder = mine("config.py", "class UserError(Exception):", "class UserError(LookupError):")
    assert "temperature" in complaint(say("sample", run, "--temperature", -1, "--code", folder), 2)
    assert "nowhere" in complaint(say("eval", "nowhere", "--code", folder), 1)


def test_names_of_learn_toml_count_as_ours(mine, run, say):
    folder = mine("evaluate.py", "def evaluate(", "def measure(")
    words = ["eval", run, "--code", folder]
    assert "has no evaluate.evaluate" in complaint(say(*words), 2)
    (folder / "learn.toml").write_text('[names]\nevaluate = "evaluate.measure"\n')
    assert say(*words).status == 0


def test_a_function_that_is_missing_within_is_named(mine, run, say):
    folder = mine("runlog.py", "def known(", "def knows(")
    said = complaint(say("eval", run, "--code", folder), 2)
    assert "gpt has no runlog.known yet, which buildgpt eval needs" in said


def test_a_folder_without_a_package_and_one_that_is_no_python(say, tmp_path):
    assert "is no folder with Python files" in complaint(say("eval", "x", "--code", "nowhere"), 2)
    package = tmp_path / "mine" / "gpt"
    package.mkdir(parents=True)
    (package / "config.py").write_text("class UserError\n")
    assert "config.py is no Python yet" in complaint(say("eval", "x", "--code", "mine"), 1)
    (tmp_path / "mine" / "learn.toml").write_text('package = "my-own"\n')
    shutil.copytree(package, tmp_path / "mine" / "my-own")
    assert "cannot be imported" in complaint(say("eval", "x", "--code", "mine"), 2)
