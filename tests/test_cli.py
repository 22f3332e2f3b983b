"""The command line: every verb, and for every mistake one sentence and an exit status."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from buildgpt import api, program, watch
from buildgpt.gpt import checkpoint, runlog, train
from buildgpt.gpt.config import load_recipe

VERBS = ["demo", "train", "sample", "eval", "prepare", "import", "export", "plan", "doctor"]


def complaint(outcome, status: int) -> str:
    """The one sentence on stderr of words that ended with this status."""
    assert outcome.status == status, outcome.err
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1, outcome.err
    return outcome.err.removeprefix("error: ")


@pytest.fixture
def trains_here(monkeypatch):
    """The training process's work is done in this process: cheaper, and nothing else differs."""
    from buildgpt.gpt import train as training

    monkeypatch.setattr(watch, "launch", lambda core, words, *more: training.main(words))


@pytest.fixture
def bundled(monkeypatch, tmp_path, tiny):
    """The bundled recipes for Shakespeare, made tiny, and their data."""
    (tmp_path / "recipes").mkdir()
    for name in ("shakespeare", "modern-shakespeare"):
        (tmp_path / "recipes" / f"{name}.toml").write_text(tiny.read_text())
    monkeypatch.setattr(api, "RECIPES", tmp_path / "recipes")


# Help.


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb(say, verb):
    outcome = say(verb, "--help")
    assert (outcome.status, outcome.err) == (0, "")
    assert f"buildgpt {verb}" in outcome.out
    assert "--help" in outcome.out


def test_help_names_every_verb_and_no_words_mean_help(say):
    outcome = say("--help")
    assert (outcome.status, outcome.err) == (0, "")
    assert all(f"  {verb} " in outcome.out for verb in VERBS)
    assert say() == outcome


def test_version(say):
    import buildgpt

    assert say("--version").out == f"{buildgpt.__version__}\n"


@pytest.mark.parametrize(
    "words", [["--help"], ["plan", "--help"], ["train", "nonesuch"], ["prepare", "nothing.txt"]]
)
def test_words_that_compute_nothing_do_not_import_torch(words, environment, tmp_path):
    code = (
        "import sys\n"
        "from buildgpt import cli\n"
        "try:\n    cli.main()\n"
        "finally:\n    print('torch' in sys.modules, 'numpy' in sys.modules)\n"
    )
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "False False"
    assert done.returncode == (0 if "--help" in words else 2)


# Wrong words: status 2.


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nonesuch"], "No such command 'nonesuch'"),
        (["train"], "Missing argument 'RECIPE'"),
        (["train", "shakespeare", "--nonesuch"], "No such option: --nonesuch"),
        (["train", "shakespear"], "the nearest is 'shakespeare'"),
        (["train", "gpt2"], "the nearest is 'gpt2-124m'"),
        (["train", "missing.toml"], "there is no recipe 'missing.toml'"),
        (["train", "shakespeare", "--set", "train.stesp=3"], "nearest known one is 'train.steps'"),
        (["train", "shakespeare", "--set", "modle.layers=3"], "nearest known one is 'model.layers"),
        (["train", "shakespeare", "--set", "train.steps"], "write it as section.key=value"),
        (["train", "shakespeare", "--set", "train.steps=many"], "train.steps = 'many'"),
        (["train", "shakespeare", "--set", "model.heads=5"], "nearest that does: 4"),
        (["train", "shakespeare", "--set", "train.lr=-1"], "train.lr must be above 0"),
        (["train", "shakespeare", "--set", "runtime.dtype=fp8"], "not one of: auto, bf16"),
        (["demo", "--set", "train.stesp=3"], "nearest known one is 'train.steps'"),
        (["demo", "--seconds", "soon"], "Invalid value for '--seconds'"),
        (["sample"], "Missing argument 'RUN'"),
        (["sample", "x", "--temperature", "-1"], "temperature = -1.0 must not be negative"),
        (["sample", "x", "--temperature", "nan"], "temperature = nan"),
        (["sample", "x", "--top-k", "-1"], "top-k = -1 must not be negative"),
        (["sample", "x", "--top-p", "1.5"], "top-p = 1.5 must be above 0 and at most 1"),
        (["sample", "x", "--top-p", "0"], "top-p = 0.0"),
        (["sample", "x", "--samples", "0"], "samples must be at least 1"),
        (["sample", "x", "--max-tokens", "-5"], "max-tokens must not be negative"),
        (["prepare"], "Missing argument 'SOURCE...'"),
        (["prepare", "missing.txt"], "there is no file or folder missing.txt"),
        (["prepare", "a.txt", "--tokenizer", "word"], "--tokenizer = 'word' is not one of: char"),
        (["prepare", "a.txt", "--val-fraction", "1"], "--val-fraction"),
        (["prepare", "a.txt", "--out", "."], "exists already"),
        (["prepare", "a.txt", "--tokenizer", "bpe", "--vocab-size", "9"], "at least 257"),
    ],
)
def test_wrong_words_get_a_sentence_and_status_2(say, tmp_path, words, said):
    (tmp_path / "a.txt").write_text("some text\n" * 50)
    assert said in complaint(say(*words), 2)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("name", ["../escape", "a/b", "/absolute", ".."])
def test_a_run_name_with_a_path_in_it_is_refused(say, tiny, runs, trains_here, exported, name):
    said = complaint(say("train", tiny, "--name", name, "--runs", runs), 2)
    assert "is no plain name; use letters" in said
    assert "is no plain name" in complaint(say("import", exported, name, "--runs", runs), 2)
    assert not runs.exists()


def test_a_recipe_that_is_no_toml_is_refused(say, tmp_path):
    (tmp_path / "bad.toml").write_text("[model\n")
    assert "bad.toml is not TOML" in complaint(say("train", "bad.toml"), 2)


def test_a_name_that_exists_is_refused(say, tiny, trained, exported, trains_here):
    words = ["--runs", trained.parent]
    said = complaint(say("train", tiny, "--name", "tiny", *words), 2)
    assert "--resume" in said
    assert "choose another" in complaint(say("import", exported, "tiny", *words), 2)


def test_data_that_is_not_there_is_told_with_how_to_make_it(say, tiny, trains_here):
    said = complaint(say("train", tiny, "--set", "data.path=data/mine"), 2)
    assert "buildgpt prepare FILES --out data/mine" in said


# Work that fails: status 1.


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b" \n\t\n", "is empty"),
        (b"\x89PNG\x00\xff\xfe", "is not UTF-8 text"),
        (b"text with a \x00 in it", "is not UTF-8 text"),
        (b"caf\xe9", "is not UTF-8 text"),
    ],
)
@pytest.mark.parametrize("tokenizer", ["char", "byte"])
def test_files_that_hold_no_text_are_refused(say, tmp_path, content, said, tokenizer):
    (tmp_path / "file.txt").write_bytes(content)
    words = ["prepare", "file.txt", "--out", "shards", "--tokenizer", tokenizer]
    assert said in complaint(say(*words), 1)
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]


def test_a_folder_without_text_is_refused(say, tmp_path):
    (tmp_path / "folder").mkdir()
    assert "holds no .txt, .md, .jsonl" in complaint(say("prepare", "folder"), 1)


def test_a_file_shorter_than_the_context_is_refused(say, tmp_path, tiny, trains_here):
    (tmp_path / "short.txt").write_text("too short")
    assert say("prepare", "short.txt").status == 0
    said = complaint(say("train", tiny, "--set", "data.path=data/short"), 1)
    assert "fewer than the 17 of one sequence; give more text or a smaller model.context" in said
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def copy(trained, runs):
    """A copy of the finished run that may be damaged, below runs."""
    return shutil.copytree(trained, runs / "copy")


@pytest.mark.parametrize("verb", [["sample"], ["eval"], ["export"]])
def test_a_run_without_a_complete_checkpoint_is_refused(say, copy, verb):
    for folder in checkpoint.find_checkpoints(copy):
        (folder / "complete.json").unlink()
    words = [*verb, "copy", *(["out"] if verb == ["export"] else [])]
    assert "has no complete checkpoint" in complaint(say(*words), 1)


def test_a_half_deleted_checkpoint_is_passed_over(say, copy):
    (copy / "checkpoints" / "step_000008" / "model.safetensors").unlink()
    assert json.loads(say("eval", "copy", "--json").out)["step"] == 6
    assert "of step 8; it has those of: 6" in complaint(say("eval", "copy", "--step", "8"), 1)


def test_a_changed_byte_is_refused(say, copy):
    path = copy / "checkpoints" / "step_000008" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    assert "was changed or damaged" in complaint(say("sample", "copy"), 1)


@pytest.mark.parametrize("verb", ["sample", "eval", "export"])
def test_a_run_that_is_not_there_is_refused(say, copy, verb):
    words = [verb, "cpy", *(["out"] if verb == "export" else [])]
    assert "there is no run 'cpy'; runs has: copy" in complaint(say(*words), 1)


def test_the_tokenizer_of_another_run_is_refused(say, copy):
    (copy / "tokenizer.json").write_text('{"kind": "byte"}\n')
    assert "not this run's tokenizer" in complaint(say("sample", "copy"), 1)


def test_shards_of_another_tokenizer_are_refused(say, copy, tmp_path):
    (tmp_path / "other.txt").write_text("another alphabet altogether: " * 20)
    assert say("prepare", "other.txt").status == 0
    said = complaint(say("eval", "copy", "--data", "data/other"), 1)
    assert "another tokenizer" in said


def test_a_character_the_tokenizer_does_not_know_is_named(say, trained):
    said = complaint(say("sample", trained, "the @"), 1)
    assert "does not know the character '@' (U+0040)" in said
    assert say("sample", trained, "the @").out == ""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "llama"}, "its model_type is 'llama'"),
        ({"activation_function": "relu"}, "its activation_function is 'relu'"),
        ({"n_head": None}, "damaged or describes no GPT-2"),
    ],
)
def test_a_folder_of_another_architecture_is_refused(say, exported, tmp_path, change, said):
    folder = shutil.copytree(exported, tmp_path / "theirs")
    config = json.loads((folder / "config.json").read_text()) | change
    (folder / "config.json").write_text(json.dumps(config))
    assert said in complaint(say("import", folder, "new"), 1)
    assert said in complaint(say("sample", folder), 1)
    assert not (tmp_path / "runs").exists()


def test_a_folder_with_a_pickle_only_is_refused(say, exported, tmp_path):
    folder = shutil.copytree(exported, tmp_path / "theirs")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    said = complaint(say("import", folder, "new"), 1)
    assert "only pytorch_model.bin; pickles are not opened here" in said
    assert not (tmp_path / "runs").exists()


def test_a_folder_that_is_none_is_refused(say, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "has no config.json" in complaint(say("import", "empty", "new"), 1)


def test_a_model_that_cannot_be_downloaded_is_told_with_the_way_around(say, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    said = complaint(say("import", "hf:nobody/nothing", "new"), 1)
    assert "cannot download nobody/nothing" in said
    assert "folder" in said


def test_export_overwrites_nothing(say, trained, tmp_path):
    (tmp_path / "out").mkdir()
    outcome = say("export", trained, "out")
    assert "out exists already" in complaint(outcome, outcome.status)
    assert outcome.status in (1, 2)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_full_disk_is_told_in_one_sentence(say, trained, tmp_path, monkeypatch):
    import errno

    from buildgpt.gpt import hub

    def full(*words):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(hub, "save_tensors", full)
    assert "No space left on device" in complaint(say("export", trained, "out"), 1)
    assert list(tmp_path.iterdir()) == []


def test_a_gradient_that_is_no_number_is_told_in_one_sentence(say, tiny, trains_here):
    said = complaint(say("train", tiny, "--set", "train.lr=1e30", "--set", "train.steps=50"), 1)
    assert "the last good checkpoint is" in said or "there is no checkpoint yet" in said
    assert (Path("runs") / "tiny" / "state").read_text() == "FAILED\n"


# The verbs.


def test_train_in_a_process_of_its_own(cli, tiny, tmp_path):
    done = cli("train", tiny, "--name", "new", "--runs", "r", "--set", "train.steps=3", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    summary = json.loads(done.stdout.splitlines()[-1])
    assert list(summary) == [
        "run",
        "step",
        "tokens",
        "seconds",
        "tokens_per_second",
        "peak_memory_gb",
        "train_loss",
        "val_loss",
    ]
    assert (summary["run"], summary["step"], summary["tokens"]) == ("r/new", 3, 192)
    assert summary["seconds"] > 0
    assert summary["train_loss"] == runlog.read_metrics(tmp_path / "r" / "new")[-4]["loss"]
    assert (tmp_path / "r" / "new" / "state").read_text() == "DONE\n"
    assert "step      3  loss " in done.stdout


def test_train_takes_the_recipes_name_and_goes_on(say, tiny, trains_here):
    assert say("train", tiny).status == 0
    assert Path("runs/tiny/state").read_text() == "DONE\n"
    outcome = say("train", tiny, "--resume", "--json")
    assert outcome.status == 0
    assert outcome.out.splitlines()[0].endswith("is finished; there is nothing to resume")
    assert json.loads(outcome.out.splitlines()[-1])["step"] == 8
    outcome = say("train", tiny, "--resume", "--set", "train.steps=9", "--json")
    assert json.loads(outcome.out.splitlines()[-1])["step"] == 9


@pytest.mark.skipif(os.name == "nt", reason="signals as POSIX has them")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_program_saves_and_says_how_to_go_on(number, tiny, tmp_path, environment):
    words = ["train", tiny, "--name", "long", "--set", "train.steps=1000000"]
    settings = ["--set", "train.eval_every=0", "--set", "train.checkpoint_every=0", "--json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "buildgpt", *map(str, words), *settings],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    run = tmp_path / "runs" / "long"
    while process.poll() is None and len(runlog.read_metrics(run)) < 5:
        time.sleep(0.05)
    process.send_signal(number)
    out, err = process.communicate(timeout=100)
    assert (process.returncode, err) == (1, "")
    assert (run / "state").read_text() == "PREEMPTED\n"
    *_, words, summary = out.splitlines()
    assert "saved; go on with --resume" in words
    step = json.loads(summary)["step"]
    assert checkpoint.step_of(checkpoint.choose_checkpoint(run)) == step > 0


def test_sample_writes_the_prompt_and_what_follows(say, trained):
    words = ["sample", trained, "the cat", "--max-tokens", "20", "--seed", "3"]
    outcome = say(*words)
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.startswith("the cat")
    assert len(outcome.out) == len("the cat") + 20 + len("\n")
    assert say(*words).out == outcome.out
    assert say(*words[:-1], "4").out != outcome.out


def test_sample_without_a_seed_differs_each_time(say, trained):
    texts = {say("sample", trained, "--max-tokens", "30").out for _ in range(3)}
    assert len(texts) == 3


def test_samples_side_by_side(say, trained):
    words = ["sample", trained, "the cat", "--max-tokens", "9", "--seed", "3", "--samples", "3"]
    texts = say(*words).out.removesuffix("\n").split("\n---\n")
    assert len(texts) == 3
    assert all(text.startswith("the cat") for text in texts)
    assert len(set(texts)) == 3
    outcome = json.loads(say(*words, "--json").out.splitlines()[-1])
    assert outcome["texts"] == texts
    assert (outcome["seed"], outcome["step"]) == (3, 8)


def test_sample_at_temperature_0_and_top_k_1_are_greedy(say, trained):
    words = ["sample", trained, "the cat", "--max-tokens", "9", "--seed"]
    greedy = say(*words, "1", "--temperature", "0").out
    assert say(*words, "2", "--temperature", "0").out == greedy
    assert say(*words, "3", "--top-k", "1").out == greedy
    assert say(*words, "4", "--top-p", "1e-9").out == greedy


def test_eval_measures_what_training_measured(say, trained):
    outcome = say("eval", trained, "--json")
    found = json.loads(outcome.out.splitlines()[-1])
    assert {"run", "step", "val_loss", "bits_per_byte", "tokens"} <= found.keys()
    measured = [line for line in runlog.read_metrics(trained) if line["kind"] == "val"]
    assert found["val_loss"] == measured[-1]["loss"]
    assert f"validation loss {found['val_loss']:.4f}" in say("eval", trained).out
    earlier = json.loads(say("eval", trained, "--step", "6", "--json").out)
    assert earlier["val_loss"] == measured[-2]["loss"]


def test_a_run_is_meant_by_name_below_runs(say, trained):
    outcome = say("eval", "tiny", "--runs", trained.parent, "--json")
    assert json.loads(outcome.out)["run"] == str(trained)


def test_prepare_says_what_it_made(say, tmp_path, words):
    (tmp_path / "mine.txt").write_text(words)
    outcome = say("prepare", "mine.txt", "--out", "shards", "--val-fraction", "0.2", "--json")
    found = json.loads(outcome.out.splitlines()[-1])
    assert found["documents"] == 2
    # An end of text opens each part.
    assert found["train_tokens"] + found["val_tokens"] == len(words) + 2
    assert found["val_tokens"] == len(words) - round(len(words) * 0.8) + 1
    assert "data/mine: " in say("prepare", "mine.txt").out


@pytest.mark.parametrize("file, run", [("mine", "mine"), ("my façade", "my-fa-ade"), ("ü", "mine")])
def test_what_prepare_suggests_works(say, tmp_path, words, bundled, trains_here, file, run):
    (tmp_path / f"{file}.txt").write_text(words)
    suggested = say("prepare", f"{file}.txt").out.splitlines()[-1].removeprefix("train on it: ")
    program, *rest = shlex.split(suggested)
    assert Path(program).name == "buildgpt"
    assert say(*rest).status == 0
    assert Path(f"runs/{run}/state").read_text() == "DONE\n"


def test_export_and_import_give_the_same_model_back(say, trained):
    assert say("export", trained, "out").status == 0
    assert say("import", "out", "back").status == 0
    words = ["the cat", "--max-tokens", "30", "--seed", "5"]
    assert say("sample", "back", *words).out == say("sample", trained, *words).out
    assert say("sample", "out", *words).out == say("sample", trained, *words).out
    assert load_recipe(Path("runs/back/recipe.toml")).model == (
        load_recipe(trained / "recipe.toml").model
    )
    assert say("export", "back", "again").status == 0
    assert (
        Path("again/model.safetensors").read_bytes() == Path("out/model.safetensors").read_bytes()
    )


def test_export_of_an_earlier_step(say, trained):
    assert json.loads(say("export", trained, "out", "--step", "6", "--json").out) == {
        "folder": "out"
    }
    assert say("export", trained, "newest").status == 0
    one, other = (Path(name) / "model.safetensors" for name in ("out", "newest"))
    assert one.read_bytes() != other.read_bytes()


def test_demo_piped_prints_plain_lines_and_what_to_try_next(cli, corpus, tmp_path):
    small = ["model.layers=2", "model.width=16", "model.heads=2", "model.context=16"]
    small += ["train.tokens_per_step=64", "train.micro_batch=4", "train.steps=12"]
    small += ["train.log_every=5", "sample.at=[0,5]", "sample.max_tokens=5", "sample.prompt=the "]
    small += [f"data.path={corpus}", "data.val_tokens=200"]
    words = [word for setting in small for word in ("--set", setting)]
    done = cli("demo", *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    lines = done.stdout.splitlines()
    assert lines[0].startswith("buildgpt demo: ")
    assert any(line.startswith("step      5  loss ") for line in lines)
    assert any(line.startswith("step      0  a sample") for line in lines)
    *_, closing = done.stdout.partition("\nvalidation loss ")
    assert "after 12 steps" in closing
    assert "The run lies in runs/demo. Try next:" in closing
    for verb in ("sample demo", "eval demo", "prepare FILE"):
        assert f" {verb}" in closing
    assert (tmp_path / "runs" / "demo" / "state").read_text() == "DONE\n"


def test_demo_twice_makes_demo_2(say, bundled, trains_here):
    for name in ("demo", "demo-2", "demo-3"):
        outcome = say("demo")
        assert outcome.status == 0
        assert f"The run lies in runs/{name}." in outcome.out
        assert f"eval {name}\n" in outcome.out
    assert sorted(path.name for path in Path("runs").iterdir()) == ["demo", "demo-2", "demo-3"]


def test_demo_that_was_stopped_says_how_to_go_on(say, bundled, trains_here, monkeypatch):
    original = train.Trainer.accumulate

    def interrupted(self):
        if self.step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self)

    monkeypatch.setattr(train.Trainer, "accumulate", interrupted)
    outcome = say("demo", "--runs", "elsewhere")
    assert outcome.status == 1
    suggested = outcome.out.splitlines()[-1].partition("go on with: ")[2]
    assert suggested.endswith(" train modern-shakespeare --name demo --runs elsewhere --resume")
    assert say(*suggested.split()[1:]).status == 0
    assert Path("elsewhere/demo/state").read_text() == "DONE\n"


def test_the_bundled_corpus_is_prepared_when_it_is_wanted(say, tiny, trains_here, monkeypatch):
    wanted = []
    monkeypatch.setattr(
        api.text, "prepare", lambda core, sources, out: wanted.append((sources, out))
    )
    say("train", tiny, "--set", "data.path=data/shakespeare")
    say("train", tiny, "--set", "data.path=data/other")
    assert wanted == [([Path("shakespeare")], Path("data/shakespeare"))]


def test_a_console_that_lacks_characters_shows_others(environment, cli, words, tmp_path, tiny):
    environment["PYTHONIOENCODING"] = "ascii"
    (tmp_path / "russian.txt").write_text("дом" * 2000, encoding="utf-8")
    assert cli("prepare", "russian.txt", "--out", "russian").returncode == 0
    words = ["--set", "data.path=russian", "--set", "train.steps=2", "--name", "new"]
    done = cli("train", tiny, *words)
    assert (done.returncode, done.stderr) == (0, "")
    done = cli("sample", "new", "дом", "--max-tokens", "5")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("???")


def test_what_is_suggested_can_be_typed(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    monkeypatch.setattr(sys, "argv", [str(tmp_path / ".venv" / "bin" / "buildgpt")])
    assert program.program_name() == os.path.join(".venv", "bin", "buildgpt")
