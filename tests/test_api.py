"""The same from Python, three lines each."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import buildgpt
from buildgpt import api
from buildgpt.core import Core, load_core
from buildgpt.gpt import checkpoint, runlog
from buildgpt.gpt.config import UsageError, UserError, load_recipe

README = Path(__file__).parent.parent / "README.md"


def snippets() -> list[str]:
    """The README's Python."""
    if not README.exists():
        return []
    return re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.S | re.M)


def test_importing_the_package_costs_nothing(environment):
    code = "import buildgpt, sys; print('torch' in sys.modules, buildgpt.__version__)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert done.stdout == f"False {buildgpt.__version__}\n"


def test_the_package_has_what_it_promises_and_no_more():
    for name in buildgpt.__all__:
        assert getattr(buildgpt, name) is getattr(api, name)
    with pytest.raises(AttributeError, match="nonesuch"):
        _ = buildgpt.nonesuch


def test_a_run_is_loaded_and_generates(trained):
    gpt = buildgpt.load(trained)
    assert gpt.step == 8
    text = gpt.generate("the cat", max_tokens=12, seed=1)
    assert text.startswith("the cat")
    assert len(text) == len("the cat") + 12
    assert gpt.generate("the cat", max_tokens=12, seed=1) == text
    assert "the cat" + "".join(gpt.stream("the cat", max_tokens=12, seed=1)) == text
    assert gpt.generate("the cat", max_tokens=12, seed=2) != text


def test_several_samples_at_once(trained):
    texts = buildgpt.load(trained).continuations("the", samples=4, max_tokens=9)
    assert len(set(texts)) == 4


def test_a_step_can_be_chosen(trained):
    assert buildgpt.load("tiny", step=6, runs=trained.parent).step == 6
    with pytest.raises(UserError, match="no complete checkpoint of step 5"):
        buildgpt.load(trained, step=5)


def test_evaluation_is_that_of_training(trained):
    last = [line for line in runlog.read_metrics(trained) if line["kind"] == "val"][-1]
    result = buildgpt.load(trained).evaluate()
    assert (result.loss, result.tokens) == (last["loss"], last["scored"])
    assert result.bits_per_byte == last["bits_per_byte"]


def test_evaluation_on_other_shards_of_the_same_tokenizer(trained, corpus):
    result = buildgpt.load(trained).evaluate(corpus)
    assert result.tokens > 199  # all of the split, where the recipe has 200 tokens of it


def test_a_hugging_face_folder_is_loaded(exported, trained):
    theirs, ours = buildgpt.load(exported), buildgpt.load(trained)
    wishes = {"max_tokens": 20, "seed": 3}
    assert theirs.generate("the", **wishes) == ours.generate("the", **wishes)


def test_a_hugging_face_folder_is_evaluated_on_given_shards(exported, trained, corpus):
    expected = buildgpt.load(trained).evaluate(corpus).loss
    found = buildgpt.load(exported).evaluate(corpus).loss
    assert found == pytest.approx(expected, abs=2e-3)  # maybe in bf16, as the device chooses


def test_training_returns_the_summary(tiny, runs):
    summary = buildgpt.train(tiny, name="mine", runs=runs, settings=["train.steps=3"])
    assert (summary["step"], summary["tokens"]) == (3, 192)
    assert buildgpt.load("mine", runs=runs).evaluate().loss == summary["val_loss"]
    assert buildgpt.train(tiny, name="mine", runs=runs, resume=True) == summary


def test_preparing_returns_what_was_made(words, tmp_path):
    (tmp_path / "a.txt").write_text(words)
    made = buildgpt.prepare([tmp_path / "a.txt"], tmp_path / "out", val_fraction=0.25)
    assert made["documents"] == 2
    assert made["train_tokens"] > 2.9 * made["val_tokens"]


def test_importing_makes_a_run_that_can_be_used(exported, runs):
    folder = api.import_run(str(exported), "imported", runs)
    assert sorted(path.name for path in folder.iterdir()) == [
        "checkpoints",
        "recipe.toml",
        "state",
        "tokenizer.json",
    ]
    found = checkpoint.choose_checkpoint(folder)
    assert sorted(path.name for path in found.iterdir()) == [
        "complete.json",
        "model.safetensors",
        "state.json",
    ]
    assert load_recipe(folder / "recipe.toml").model.context == 16
    assert buildgpt.load(folder).generate("the", max_tokens=3)
    with pytest.raises(UsageError, match="choose another name"):
        api.import_run(str(exported), "imported", runs)


def test_an_import_that_failed_leaves_nothing_in_the_way(exported, runs, monkeypatch):
    def full(*words):
        raise OSError("no space")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_checkpoint", full)
        with pytest.raises(OSError, match="no space"):
            api.import_run(str(exported), "imported", runs)
    assert list(runs.iterdir()) == []
    api.import_run(str(exported), "imported", runs)


def test_a_bundled_recipe_is_found_by_name_and_a_file_by_path(tiny, tmp_path, monkeypatch):
    core = load_core()
    assert api.find_recipe(core, "shakespeare") == api.RECIPES / "shakespeare.toml"
    assert api.find_recipe(core, tiny) == tiny
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shakespeare").write_text("")
    assert api.find_recipe(core, "shakespeare") == Path("shakespeare")


def test_a_learners_own_core_is_loaded_from_its_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "my_gpt_core").mkdir()
    (tmp_path / "my_gpt_core" / "model.py").write_text("NAME = 'mine'\n")
    core = load_core(tmp_path / "my_gpt_core")
    assert isinstance(core, Core)
    assert core.model.NAME == "mine"


def test_there_are_three_snippets_in_the_readme():
    assert not README.exists() or len(snippets()) >= 3


@pytest.mark.parametrize("code", snippets(), ids=range(len(snippets())))
def test_the_readmes_python_runs(code, trained, tiny, tmp_path, monkeypatch, capsys):
    """With a tiny run as runs/demo, and a tiny recipe as `shakespeare`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "demo").symlink_to(trained, target_is_directory=True)
    (tmp_path / "recipes").mkdir()
    text = tiny.read_text().replace("steps = 8", "steps = 1000")
    (tmp_path / "recipes" / "shakespeare.toml").write_text(text)
    monkeypatch.setattr(api, "RECIPES", tmp_path / "recipes")
    code = code.replace("JULIET:", "the cat").replace("train.steps=100", "train.steps=4")
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out
