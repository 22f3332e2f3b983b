"""Checkpoints: whole or not there, exact, without pickle, refused when tampered with."""

import errno
import json
import os
import pickletools
import shutil
import threading
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from buildgpt.gpt import checkpoint, config, runlog, train
from buildgpt.gpt import mirror as mirror_module
from buildgpt.gpt.config import ModelConfig, UsageError, UserError
from buildgpt.gpt.model import GPT

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(3)}
NAMES = ["complete.json", "model.safetensors", "optimizer.safetensors", "state.json"]


def save(run: Path, step: int, keep: int = 0) -> Path:
    return checkpoint.save_checkpoint(run, step, TENSORS, {"a/exp_avg": TENSORS["a"]}, {}, keep)


def steps(run: Path) -> list[int]:
    return [checkpoint.step_of(folder) for folder in checkpoint.find_checkpoints(run)]


@pytest.fixture
def copy(trained, tmp_path):
    """A copy of the finished run that may be damaged."""
    return shutil.copytree(trained, tmp_path / "runs" / "copy")


def test_what_is_saved_is_read_back(tmp_path):
    folder = save(tmp_path, 500)
    assert folder == tmp_path / "checkpoints" / "step_000500"
    assert sorted(path.name for path in folder.iterdir()) == NAMES
    found = checkpoint.read_tensors(folder, "model.safetensors")
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[name], TENSORS[name]) for name in TENSORS)
    assert checkpoint.read_state(folder)["step"] == 500


def test_state_holds_what_the_next_step_depends_on(trained):
    state = checkpoint.read_state(checkpoint.choose_checkpoint(trained))
    assert {"step", "tokens", "seconds", "scaler", "versions"} <= state.keys()
    assert (state["step"], state["tokens"]) == (8, 512)
    assert state["versions"]["torch"] == torch.__version__


def test_complete_json_promises_every_other_file(trained):
    folder = checkpoint.choose_checkpoint(trained)
    promised = json.loads((folder / "complete.json").read_text())
    assert sorted([*promised, "complete.json"]) == NAMES
    for name, promise in promised.items():
        assert promise["bytes"] == (folder / name).stat().st_size
        assert promise["sha256"] == checkpoint.sha256(folder / name)


def test_complete_json_is_written_last_and_renaming_comes_after(tmp_path, monkeypatch):
    written = []
    seal, replace = checkpoint.seal, Path.replace

    def watched_seal(folder):
        written.append(sorted(path.name for path in folder.iterdir()))
        seal(folder)

    def watched_replace(self, target):
        if Path(target).name == "step_000001":
            written.append(sorted(path.name for path in self.iterdir()))
        return replace(self, target)

    monkeypatch.setattr(checkpoint, "seal", watched_seal)
    monkeypatch.setattr(Path, "replace", watched_replace)
    save(tmp_path, 1)
    assert written == [NAMES[1:], NAMES]


def test_names_are_those_of_the_plain_module(trained):
    tensors = load_file(checkpoint.choose_checkpoint(trained) / "model.safetensors")
    model = checkpoint.load_run(trained).model
    assert tensors.keys() == dict(model.named_parameters()).keys()


def test_the_newest_are_kept(tmp_path):
    for step in (2, 4, 999_999, 1_000_000):
        save(tmp_path, step, keep=2)
    assert steps(tmp_path) == [999_999, 1_000_000]
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2


def test_none_is_deleted_without_retention(tmp_path):
    for step in (1, 2, 3):
        save(tmp_path, step)
    assert steps(tmp_path) == [1, 2, 3]


def test_retention_in_training(fit):
    assert steps(fit("run", "train.keep_checkpoints=3")) == [4, 6, 8]
    assert steps(fit("one", "train.keep_checkpoints=1")) == [8]


def test_an_incomplete_one_does_not_count_for_retention(tmp_path):
    for step in (1, 2):
        save(tmp_path, step)
    (tmp_path / "checkpoints" / "step_000002" / "complete.json").unlink()
    save(tmp_path, 3, keep=2)
    assert steps(tmp_path) == [1, 3]


# Damage.


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_with_a_file_missing_is_none(copy, name):
    (copy / "checkpoints" / "step_000008" / name).unlink()
    assert steps(copy) == [6]
    assert checkpoint.load_run(copy).step == 6


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_with_a_file_cut_is_none(copy, name):
    path = copy / "checkpoints" / "step_000008" / name
    path.write_bytes(path.read_bytes()[:-5])
    assert steps(copy) == [6]


def test_a_half_deleted_checkpoint_is_none(copy, monkeypatch):
    monkeypatch.setattr(shutil, "rmtree", lambda *words, **more: None)  # killed right before it
    checkpoint.remove_checkpoint(copy / "checkpoints" / "step_000008")
    assert (copy / "checkpoints" / "step_000008" / "model.safetensors").exists()
    assert steps(copy) == [6]


@pytest.mark.parametrize("name", NAMES[1:])
def test_a_changed_byte_is_refused_on_resume(copy, name):
    (copy / "state").write_text("PREEMPTED\n")
    path = copy / "checkpoints" / "step_000008" / name
    content = bytearray(path.read_bytes())
    content[-4] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"step_000008/{name} was changed or damaged"):
        train.train(copy / "recipe.toml", "copy", copy.parent, ["train.steps=9"], resume=True)
    shutil.rmtree(path.parent)
    train.train(copy / "recipe.toml", "copy", copy.parent, ["train.steps=9"], resume=True)
    assert steps(copy)[-1] == 9


def test_changed_weights_are_refused_on_loading(copy):
    path = copy / "checkpoints" / "step_000006" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="was changed or damaged"):
        checkpoint.load_run(copy, step=6)
    assert checkpoint.load_run(copy).step == 8


@pytest.mark.parametrize("promise", ["[]", "{", "{}", '{"model.safetensors": 3}', "null", "\xff"])
def test_a_senseless_promise_is_none(copy, promise):
    path = copy / "checkpoints" / "step_000008" / "complete.json"
    path.write_text(promise, encoding="latin-1")
    assert steps(copy) == [6]


@pytest.mark.parametrize("name", ["step_x", ".step_000009.tmp", "step_000009.bak"])
def test_other_folders_are_no_checkpoints(copy, name):
    shutil.copytree(copy / "checkpoints" / "step_000008", copy / "checkpoints" / name)
    assert steps(copy) == [6, 8]


def test_a_step_that_is_not_there_is_refused_with_those_that_are(trained):
    with pytest.raises(UserError, match="no complete checkpoint of step 7; it has those of: 6, 8"):
        checkpoint.load_run(trained, step=7)


def test_a_run_without_checkpoint_is_refused(copy):
    shutil.rmtree(copy / "checkpoints")
    with pytest.raises(UserError, match="has no complete checkpoint"):
        checkpoint.load_run(copy)


def test_a_run_with_the_tokenizer_of_another_is_refused(copy):
    (copy / "tokenizer.json").write_text('{"kind": "byte"}')
    with pytest.raises(UserError, match="not this run's tokenizer"):
        checkpoint.load_run(copy)


def test_weights_of_another_shape_are_refused_by_name():
    model = GPT(ModelConfig(layers=1, heads=1, width=8, context=4, vocab_size=9))
    tensors = dict(model.state_dict())
    tensors["norm.bias"] = torch.zeros(9)
    with pytest.raises(UserError, match=r"norm\.bias is \(9,\), not \(8,\)"):
        checkpoint.load_weights(model, tensors, "here")
    del tensors["norm.bias"]
    with pytest.raises(UserError, match=r"norm\.bias is nothing, not \(8,\)"):
        checkpoint.load_weights(model, tensors, "here")
    with pytest.raises(UserError, match="extra is"):
        checkpoint.load_weights(model, {**model.state_dict(), "extra": torch.zeros(1)}, "here")


# A disk that is full.


def full(*words, **more):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_earlier_checkpoints_as_they_were(tmp_path, monkeypatch):
    first = save(tmp_path, 1)
    before = {path.name: path.read_bytes() for path in first.iterdir()}
    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        save(tmp_path, 2, keep=1)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step_000001"]
    assert {path.name: path.read_bytes() for path in first.iterdir()} == before


@pytest.mark.parametrize("where", ["save_file", "write_text", "sync"])
def test_a_full_disk_stops_the_run_with_one_sentence(where, tiny, runs, fit, monkeypatch, capsys):
    original, saves = getattr(checkpoint, where), []

    def until_full(*words, **more):
        saves.append(words)
        if len(saves) == 5:
            raise SafetensorError("No space left") if where == "save_file" else full()
        return original(*words, **more)

    whole = fit("whole", "model.dropout=0.1")
    capsys.readouterr()
    monkeypatch.setattr(checkpoint, where, until_full)
    words = [str(tiny), "--name", "run", "--runs", str(runs), "--set", "model.dropout=0.1"]
    assert train.main(words) == 1
    monkeypatch.undo()
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("error: ")
    assert "No space left" in error
    assert "--resume" in error
    run = runs / "run"
    assert (run / "state").read_text() == "FAILED\n"
    assert train.main([*words, "--resume"]) == 0
    ours, theirs = (load_file(checkpoint.choose_checkpoint(r) / NAMES[1]) for r in (run, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_file_that_cannot_grow_is_told_by_the_writing_itself(tmp_path):
    """The kernel refuses: no mock is between the file and the sentence."""
    import resource

    save(tmp_path, 1)
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        try:
            save(tmp_path, 2)
        except OSError as error:
            os._exit(0 if "step_000002" in str(error) else 2)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step_000001"]


# No pickle.


def looks_like_a_pickle(content: bytes) -> bool:
    if content.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
        return True
    try:
        return sum(1 for _ in pickletools.genops(content)) > 0
    except Exception:
        return False


def test_no_file_holds_a_pickle(trained, exported, corpus, tmp_path):
    torch.save({"a": 1}, tmp_path / "pickle.pt")
    assert looks_like_a_pickle((tmp_path / "pickle.pt").read_bytes())
    for folder in (trained, exported, corpus):
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert files
        for path in files:
            assert path.suffix in (".json", ".jsonl", ".safetensors", ".toml", ".txt", ".bin", "")
            assert not looks_like_a_pickle(path.read_bytes()), path


# Names.


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "a\\b", "", ".hidden", "-x", "..", "a b", "é", "a\n"]
)
def test_a_name_that_is_no_plain_word_is_refused(name):
    with pytest.raises(UsageError):
        config.check_run_name(name)


@pytest.mark.parametrize("name", ["demo", "demo-2", "gpt2-124m", "a.b_c", "7"])
def test_a_plain_name_is_taken(name):
    config.check_run_name(name)


def test_a_run_is_found_by_folder_and_by_name(trained):
    assert checkpoint.find_run(str(trained), Path("nowhere")) == trained
    assert checkpoint.find_run("tiny", trained.parent) == trained


def test_a_run_that_is_not_there_is_told_with_those_that_are(trained, tmp_path):
    with pytest.raises(UserError, match=r"there is no run 'tony'; .* has: tiny"):
        checkpoint.find_run("tony", trained.parent)
    with pytest.raises(UserError, match="train one with: buildgpt demo"):
        checkpoint.find_run("tony", tmp_path)


# The mirror.


@pytest.fixture
def mirrored(fit, tmp_path):
    """A finished run and its mirror."""
    bucket = tmp_path / "bucket"
    return fit("run", f"train.mirror={bucket}"), bucket / "run"


def contents(folder: Path) -> dict[str, bytes]:
    """A run's files, but for the lock."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name[0] != "."]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_mirror_is_a_run_like_the_run(mirrored):
    run, mirror = mirrored
    assert contents(mirror) == contents(run)
    assert checkpoint.load_run(mirror).step == 8


def test_a_run_goes_on_from_the_mirror_on_a_new_machine(fit, tmp_path, monkeypatch):
    """In the same bits as one that had its disk all the time."""
    whole, update = fit("whole"), train.Trainer.update

    def fail_in_step_7(self):
        if self.step == 6:
            self.mirror.wait()
            raise OSError("the machine is taken away")
        update(self)

    monkeypatch.setattr(train.Trainer, "update", fail_in_step_7)
    setting = f"train.mirror={tmp_path / 'bucket'}"
    with pytest.raises(OSError, match="taken away"):
        fit("run", setting)
    shutil.rmtree(tmp_path / "runs" / "run")
    monkeypatch.setattr(train.Trainer, "update", update)
    run = fit("run", setting, resume=True)
    attempts = {x["attempt"] for x in runlog.read_metrics(run)}
    assert attempts == {1, 2}  # its past came along
    for name in NAMES[1:3]:
        ends = [checkpoint.choose_checkpoint(folder) / name for folder in (whole, run)]
        assert ends[0].read_bytes() == ends[1].read_bytes()
    assert contents(tmp_path / "bucket" / "run") == contents(run)


def test_the_newer_of_run_and_mirror_counts(mirrored, fit, tmp_path):
    run, mirror = mirrored
    shutil.rmtree(run / "checkpoints" / "step_000008")
    mirror_module.take_from_mirror(run, mirror)
    assert steps(run) == [6, 8]
    shutil.rmtree(mirror / "checkpoints" / "step_000008")
    mirror_module.take_from_mirror(run, mirror)
    assert steps(run) == [6, 8]


def change_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", NAMES[1:])
def test_of_a_damaged_mirror_the_checkpoint_before_counts(mirrored, name, capsys):
    run, mirror = mirrored
    shutil.rmtree(run)
    change_a_byte(mirror / "checkpoints" / "step_000008" / name)
    mirror_module.take_from_mirror(run, mirror)
    assert steps(run) == [6]
    assert f"{name} was changed or damaged" in capsys.readouterr().out
    shutil.rmtree(run)
    change_a_byte(mirror / "checkpoints" / "step_000006" / name)
    with pytest.raises(UserError, match=rf"{name} was changed or damaged"):
        mirror_module.take_from_mirror(run, mirror)
    assert steps(run) == []


def test_what_is_cut_off_does_not_stay(mirrored, tmp_path):
    """Of a save, a copy or a deletion, as any of them may be gigabytes."""
    run, mirror = mirrored
    for folder in (run, mirror):
        (folder / "checkpoints" / ".step_000777.tmp").mkdir()
        (folder / "checkpoints" / "step_000777").mkdir()
        (folder / "checkpoints" / "step_000777" / "model.safetensors").write_bytes(b"half of it")
        before = steps(folder)
        checkpoint.sweep(folder)
        assert len(list((folder / "checkpoints").iterdir())) == len(before)
        assert steps(folder) == before == [6, 8]


def test_a_mistake_in_the_background_does_not_stay_there(trained, tmp_path, monkeypatch):
    mirror = mirror_module.Mirror(trained, tmp_path / "bucket", 2)

    def mistaken(run, target, write):
        raise KeyError("a slip of ours")

    monkeypatch.setattr(mirror_module, "copy_run_files", mistaken)
    mirror.start(checkpoint.find_checkpoints(trained)[-1])
    with pytest.raises(KeyError, match="a slip of ours"):
        mirror.wait()


def test_a_mirror_that_was_full_takes_the_next_checkpoint(trained, tmp_path, monkeypatch):
    told, copyfile = [], shutil.copyfile
    mirror = mirror_module.Mirror(trained, tmp_path / "bucket", 2, told.append)

    def full(source, target):
        Path(target).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    old, new = checkpoint.find_checkpoints(trained)
    monkeypatch.setattr(shutil, "copyfile", full)
    mirror.copy(old)
    assert len(told) == 1
    assert "did not take step_000006: [Errno 28] No space left on device" in told[0]
    assert list((tmp_path / "bucket" / "checkpoints").iterdir()) == []
    monkeypatch.setattr(shutil, "copyfile", copyfile)
    mirror.copy(new)
    assert steps(tmp_path / "bucket") == [8]


def test_a_mirror_that_cannot_work_is_refused_before_the_training(fit, tmp_path, runs):
    (tmp_path / "bucket").write_text("a file, no folder")
    with pytest.raises(UserError, match=r"train.mirror: cannot write .*bucket/run"):
        fit("run", f"train.mirror={tmp_path / 'bucket'}")
    for place in (runs, runs / "here" / "within"):
        with pytest.raises(UsageError, match="give another folder"):
            fit("here", f"train.mirror={place}", resume=True)


def test_a_copy_that_was_cut_off_is_no_checkpoint(mirrored, monkeypatch):
    """Whichever file it was at, as complete.json comes last; also where one was overwritten."""
    run, mirror = mirrored
    source, target = (f / "checkpoints" / "step_000008" for f in (run, mirror))
    copied, copyfile = [], shutil.copyfile

    def copy_and_die(source, target):
        copied.append(target)
        if len(copied) > whole_files:
            Path(target).write_bytes(Path(source).read_bytes()[:10])
            raise OSError("the bucket is gone")
        copyfile(source, target)

    monkeypatch.setattr(shutil, "copyfile", copy_and_die)
    for whole_files in (0, 1, 2, 3):  # read by copy_and_die
        assert checkpoint.is_complete(target) == (whole_files == 0)
        copied.clear()
        with pytest.raises(OSError, match="the bucket is gone"):
            mirror_module.copy_checkpoint(source, target)
        assert steps(mirror) == [6]
    monkeypatch.undo()
    mirror_module.copy_checkpoint(source, target)
    assert steps(mirror) == [6, 8]


def test_a_slow_mirror_holds_nobody_up_and_takes_the_newest(trained, tmp_path, monkeypatch):
    """Of those that are started while one is in hand, only the last is copied."""
    mirror, taken = mirror_module.Mirror(trained, tmp_path / "bucket", 9), []
    begun, goes_on = threading.Event(), threading.Event()

    def copy(folder):
        taken.append(folder.name)
        begun.set()
        goes_on.wait(60)

    monkeypatch.setattr(mirror, "copy", copy)
    for name in ("a", "b", "c"):
        mirror.start(Path(name))
        assert begun.wait(60)
    assert taken == ["a"]
    goes_on.set()
    mirror.wait()
    assert taken == ["a", "c"]


def test_a_mirror_that_fails_leaves_a_note_and_the_run_goes_on(fit, tmp_path, monkeypatch):
    def fail(source, target, write):
        raise OSError("the bucket is gone")

    monkeypatch.setattr(mirror_module, "copy_run_files", fail)
    run = fit("run", f"train.mirror={tmp_path / 'bucket'}")
    notes = [x["message"] for x in runlog.read_metrics(run) if x.get("event") == "note"]
    assert len(notes) >= 1
    assert all("bucket/run did not take step_00000" in note for note in notes)
    assert train.read_state(run) == "DONE"
    assert steps(run) == [6, 8]


def test_a_run_in_the_mirror_is_not_overwritten_by_another_of_that_name(mirrored, fit, tmp_path):
    run, mirror = mirrored
    shutil.rmtree(run)
    before = contents(mirror)
    with pytest.raises(UsageError, match=r"bucket/run exists; go on with --resume"):
        fit("run", f"train.mirror={tmp_path / 'bucket'}")
    assert contents(mirror) == before
