"""cloud/: the script that resumes until DONE, and the files that call it, without a cloud."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from buildgpt import api

ROOT = Path(__file__).parent.parent
CLOUD = ROOT / "cloud"
TOLD_TO_STOP = 75

pytestmark = pytest.mark.skipif(
    shutil.which("bash") is None or os.name == "nt", reason="needs bash and POSIX signals"
)

# Plays the next line of the file `scenes`: a checkpoint's step or -, the state it leaves, and its
# exit status. "wait" waits for SIGTERM before that.
ACTOR = """#!/usr/bin/env bash
echo "$*" >> starts
echo $$ > pid
run=runs/night
mkdir -p "$run/checkpoints"
read -r step state status wait < <(sed -n "$(wc -l < starts)p" scenes)
echo RUNNING > "$run/state"
if [ "$wait" = wait ]; then
  trap 'asked=yes; echo TERM >> signals' TERM
  while [ -z "${asked-}" ]; do sleep 0.02; done
fi
if [ "$step" != - ]; then
  mkdir -p "$run/checkpoints/step_$step"
  echo '{}' > "$run/checkpoints/step_$step/complete.json"
fi
echo "$state" > "$run/state"
echo "this is attempt $(wc -l < starts)"
exit "$status"
"""


# As Slurm's own: told to stop, srun kills its tasks; a signal for them goes by way of scancel.
SRUN = """#!/usr/bin/env bash
shift
"$@" &
trap 'kill -KILL $!' TERM
wait $!
"""
SCANCEL = """#!/usr/bin/env bash
[ "$*" = "--signal=TERM 41234" ] && kill -TERM "$(cat pid)"
"""


def script(path: Path, text: str) -> Path:
    """A file that can be run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


class Stage:
    """A folder with a `buildgpt` on its PATH that plays scenes instead of training."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        script(folder / "bin" / "buildgpt", ACTOR)
        path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        self.environment = os.environ | {"PATH": path, "RESTART_PAUSE": "0"}

    def start(self, scenes: list[str], *words: str) -> subprocess.Popen:
        """run.sh, begun."""
        (self.folder / "scenes").write_text("".join(f"{scene}\n" for scene in scenes))
        words = words or ("shakespeare", "--name", "night", "--gpus", "8")
        return subprocess.Popen(
            [CLOUD / "run.sh", *words],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def play(self, *scenes: str) -> int:
        """run.sh to its end, which is its exit status."""
        process = self.start([*scenes])
        self.said = process.communicate(timeout=60)[0]
        return process.returncode

    def lines(self, name: str) -> list[str]:
        """A file's lines; none where there is no file."""
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def stage(tmp_path) -> Stage:
    return Stage(tmp_path)


def wait_until(condition: Callable[[], object]) -> None:
    """Look again and again, for a minute at most."""
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it did not happen within a minute")


# run.sh.


def test_a_run_that_ends_well_is_started_once_with_the_words_it_was_given(stage):
    assert stage.play("000008 DONE 0") == 0
    assert stage.lines("starts") == ["train shakespeare --name night --gpus 8 --resume"]


def test_after_a_crash_it_goes_on_until_done(stage):
    assert stage.play("- FAILED 1", "000002 RUNNING 137", "000004 DONE 0") == 0
    assert len(stage.lines("starts")) == 3


def test_three_restarts_without_a_new_checkpoint_are_enough(stage):
    assert stage.play(*["- FAILED 1"] * 9) == 1
    assert len(stage.lines("starts")) == 4
    assert "given up after 3 restarts without a new checkpoint" in stage.said
    assert "runs/night.log" in stage.said.splitlines()[-1]


def test_a_new_checkpoint_starts_the_count_again(stage):
    crashes = ["- FAILED 1"] * 3
    scenes = [*crashes, "999998 FAILED 1", *crashes[1:], "1000000 FAILED 1", *crashes]
    assert stage.play(*scenes, "- DONE 0") == 1
    assert len(stage.lines("starts")) == 10


def test_a_checkpoint_that_is_not_complete_does_not_count(stage):
    script(
        stage.folder / "bin" / "buildgpt",
        ACTOR.replace("echo '{}' >", 'touch "$run/checkpoints/step_$step/state.json"; : #'),
    )
    assert stage.play(*[f"00000{n} FAILED 1" for n in range(1, 9)]) == 1
    assert len(stage.lines("starts")) == 4


def test_wrong_words_are_not_tried_again(stage):
    assert stage.play("- FAILED 2", "- DONE 0") == 2
    assert len(stage.lines("starts")) == 1


def test_a_hidden_exit_status_is_found_out_by_the_state(stage):
    """torchrun may end with 0 where its ranks were preempted, and with 1 where they were done."""
    assert stage.play("000002 PREEMPTED 0", "000004 DONE 1", "- DONE 0") == 0
    assert len(stage.lines("starts")) == 3


def test_an_old_done_does_not_hide_that_a_longer_run_failed(stage):
    assert stage.play("000008 DONE 0") == 0
    assert stage.play("", *["- DONE 1"] * 4) == 1


def test_told_to_stop_it_passes_that_on_waits_for_the_save_and_says_so(stage):
    process = stage.start(["- FAILED 1", "000006 PREEMPTED 1 wait", "000008 DONE 0"])
    wait_until(lambda: len(stage.lines("starts")) == 2 and stage.lines("runs/night/state"))
    wait_until(lambda: stage.lines("runs/night/state") == ["RUNNING"])
    time.sleep(0.2)  # the actor's trap comes after its state
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[0]
    assert process.returncode == TOLD_TO_STOP
    assert stage.lines("signals") == ["TERM"]
    assert "the state of runs/night is PREEMPTED" in said
    assert said.splitlines()[-1].endswith("step_000006/complete.json")
    assert len(stage.lines("starts")) == 2
    assert stage.play("", "", "000008 DONE 0") == 0  # the next machine


def test_all_attempts_are_in_the_log_and_on_the_terminal(stage):
    assert stage.play("- FAILED 1", "000004 DONE 0") == 0
    log = stage.lines("runs/night.log")
    for words in ("this is attempt 1", "this is attempt 2", "run.sh: runs/night is done"):
        assert words in log
        assert words in stage.said.splitlines()


@pytest.mark.parametrize(
    ("words", "log"),
    [
        (["shakespeare"], "runs/shakespeare.log"),
        (["my/own.toml", "--runs=else where"], "else where/own.log"),
        (["shakespeare", "--name=a", "--runs", "b", "--name", "c"], "b/c.log"),
    ],
)
def test_it_looks_at_the_run_that_the_words_name(stage, words, log):
    process = stage.start(["- FAILED 2"], *words)
    process.communicate(timeout=60)
    assert process.returncode == 2
    assert (stage.folder / log).exists()


def test_without_a_recipe_it_says_how_it_is_called(stage):
    for words in (["--help"], [""]):
        process = stage.start([], *words)
        assert process.communicate(timeout=60)[0].startswith("usage: cloud/run.sh RECIPE")
        assert process.returncode == 2
    assert stage.lines("starts") == []


# Slurm.


@pytest.fixture
def cluster(stage) -> Stage:
    """A stage with Slurm's commands, and torchrun played by the same actor."""
    script(stage.folder / "bin" / "srun", SRUN)
    script(stage.folder / "bin" / "scancel", SCANCEL)
    (stage.folder / "bin" / "buildgpt").rename(stage.folder / "bin" / "torchrun")
    script(
        stage.folder / "bin" / "scontrol",
        "#!/usr/bin/env bash\n"
        'if [ "$1" = show ]; then printf "%s\\n" node7 node8; else echo "$@" >> requeued; fi\n',
    )
    script(stage.folder / "bin" / "python", f'#!/usr/bin/env bash\nexec {sys.executable} "$@"\n')
    (stage.folder / "cloud").symlink_to(CLOUD)
    stage.environment |= {
        "PYTHONPATH": str(ROOT / "src"),
        "SLURM_JOB_ID": "41234",
        "SLURM_JOB_NODELIST": "node[7-8]",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_GPUS_ON_NODE": "4",
    }
    return stage


def submit(cluster: Stage, *scenes: str) -> subprocess.Popen:
    """The batch script, begun as Slurm begins it."""
    (cluster.folder / "scenes").write_text("".join(f"{scene}\n" for scene in scenes))
    return subprocess.Popen(
        ["bash", CLOUD / "slurm.sbatch", "gpt2-124m", "--name", "night"],
        cwd=cluster.folder,
        env=cluster.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_slurm_starts_torchrun_on_every_machine_with_one_meeting_place(cluster):
    process = submit(cluster, "- FAILED 1", "000004 DONE 0")
    process.communicate(timeout=60)
    assert process.returncode == 0
    first, second = cluster.lines("starts")
    assert first == second
    words = shlex.split(first)
    recipe = api.RECIPES / "gpt2-124m.toml"
    assert words[words.index("-m") :] == [
        *["-m", "buildgpt.gpt.train", str(recipe), "--name", "night", "--resume"]
    ]
    options = dict(zip(words[: words.index("-m") : 2], words[1 : words.index("-m") : 2]))
    assert options == {
        "--nnodes": "2",
        "--nproc-per-node": "4",
        "--rdzv-id": "41234",
        "--rdzv-backend": "c10d",
        "--rdzv-endpoint": "node7:21234",
    }
    assert cluster.lines("requeued") == []


def test_slurm_puts_a_preempted_job_back_into_the_queue(cluster):
    process = submit(cluster, "000006 PREEMPTED 1 wait", "000008 DONE 0")
    wait_until(lambda: cluster.lines("runs/night/state") == ["RUNNING"])
    time.sleep(0.2)  # the actor's trap comes after its state
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == TOLD_TO_STOP
    assert cluster.lines("signals") == ["TERM"]
    assert cluster.lines("requeued") == ["requeue 41234"]


def test_slurm_does_not_requeue_what_fails_again_and_again(cluster):
    process = submit(cluster, *["- FAILED 1"] * 4)
    process.communicate(timeout=60)
    assert process.returncode == 1
    assert cluster.lines("requeued") == []


def test_slurm_reads_the_options_that_the_script_needs():
    """#SBATCH lines count only before the first command."""
    head = (CLOUD / "slurm.sbatch").read_text().partition("\nset -uo")[0]
    options = set(re.findall(r"^#SBATCH (--[a-z-]+)", head, re.M))
    assert {"--requeue", "--signal", "--open-mode", "--ntasks-per-node"} <= options
    assert "#SBATCH --signal=B:TERM@120" in head  # B: to the script alone, which passes it on


@pytest.mark.parametrize("name", ["run.sh", "slurm.sbatch"])
def test_the_scripts_are_bash_and_clean(name):
    assert os.access(CLOUD / name, os.X_OK)
    checkers = [["bash", "-n"]]
    if shutil.which("shellcheck"):
        checkers.append(["shellcheck", "-s", "bash"])
    for checker in checkers:
        done = subprocess.run([*checker, CLOUD / name], capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# SkyPilot.


@pytest.fixture(scope="module")
def task() -> dict:
    return yaml.safe_load((CLOUD / "skypilot.yaml").read_text())


def test_the_task_recovers_and_keeps_its_run_in_the_bucket(task):
    resources = task["resources"]
    assert resources["use_spot"] is True
    assert resources["job_recovery"]["recover_on_exit_codes"] == [TOLD_TO_STOP]
    (mounted, mount), *_ = task["file_mounts"].items()
    assert mount["mode"] in ("MOUNT", "MOUNT_CACHED")
    assert f"--set train.mirror={mounted}" in task["run"]


def test_the_task_uses_only_variables_that_it_or_skypilot_sets(task):
    known = {*task["envs"], "PATH", "PWD", "SKYPILOT_NUM_GPUS_PER_NODE"}
    texts = task["setup"] + task["run"] + str(task["file_mounts"])
    assert set(re.findall(r"\$\{?([A-Z_]+)", texts)) <= known


@pytest.mark.parametrize("part", ["setup", "run"])
def test_the_commands_of_the_task_are_bash(task, part):
    done = subprocess.run(["bash", "-n"], input=task[part], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert task[part].startswith("set -e\n")  # no step after one that failed


def test_the_files_that_the_task_names_exist(task):
    words = shlex.split(task["setup"] + task["run"], comments=True)
    assert "constraints.txt" in words
    for word in words:
        if re.fullmatch(r"cloud/[\w.]+|[\w.]+\.(txt|toml)", word):
            assert (ROOT / word).is_file()
    assert (api.RECIPES / f"{task['envs']['RECIPE']}.toml").is_file()


# Docker.


@pytest.fixture(scope="module")
def instructions() -> list[tuple[str, str]]:
    """(instruction, its words), continued lines joined."""
    text = (CLOUD / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [tuple(line.split(None, 1)) for line in lines]


def test_what_the_image_copies_exists(instructions):
    sources = [w for name, words in instructions if name == "COPY" for w in words.split()[:-1]]
    assert {"pyproject.toml", "constraints.txt", "src"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists(), source


def test_the_image_has_what_the_package_is_built_from(instructions):
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    copied = " ".join(words for name, words in instructions if name == "COPY")
    assert {project["readme"], *project["license-files"]} <= set(copied.split())


def test_the_image_is_pinned_small_and_not_roots(instructions):
    names = [name for name, _ in instructions]
    first, base = instructions[0]
    assert first == "FROM"
    assert re.fullmatch(r"pytorch/pytorch:\d+\.\d+\.\d+-cuda[\d.]+-cudnn\d+-runtime", base)
    assert "ADD" not in names
    for name, words in instructions:
        if name == "RUN" and "pip install" in words:
            assert "--no-cache-dir" in words
            assert "-c /tmp/constraints.txt" in words
    user = dict(instructions)["USER"]
    assert not user.startswith(("0", "root"))
    assert names.index("USER") > max(i for i, name in enumerate(names) if name == "RUN")
    assert dict(instructions)["ENTRYPOINT"] == '["buildgpt"]'
