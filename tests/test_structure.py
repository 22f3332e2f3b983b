"""The house: who imports whom, what ships, what must not be in it."""

import ast
import re
import subprocess
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from buildgpt import api
from buildgpt.gpt import checkpoint, data, train
from buildgpt.gpt.config import load_recipe

ROOT = Path(__file__).parent.parent
CORE = Path(train.__file__).parent
PACKAGE = CORE.parent
# The chain: a module imports only what stands before it.
ORDER = (
    "config tokenizer data model modern optim runtime checkpoint evaluate hellaswag generate hub"
    " runlog mirror begun ending train"
).split()
MODULES = sorted(path.stem for path in CORE.glob("*.py") if path.stem != "__init__")
OUTSIDE = {"torch", "numpy", "tiktoken", "safetensors"}
MOST_IMPORTS = 3  # of the other modules; only train.py has more


def imports(path: Path) -> list[tuple[int, str]]:
    """Every import anywhere in a file: (dots before it, the module's name)."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(0, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append((node.level, node.module))
        elif isinstance(node, ast.ImportFrom):
            found += [(node.level, alias.name) for alias in node.names]
    return found


def siblings(module: str) -> set[str]:
    """Which others of the core's modules a module imports."""
    return {name for dots, name in imports(CORE / f"{module}.py") if dots and name in MODULES}


def tracked() -> list[Path]:
    """The files that git tracks; skips where there is no git."""
    try:
        done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no checkout")
    return [ROOT / name for name in done.stdout.decode().split("\0") if name]


def test_the_core_has_its_modules():
    assert set(MODULES) <= set(ORDER)
    assert set(ORDER) - set(MODULES) <= {"modern"}


@pytest.mark.parametrize("module", ["__init__", *MODULES])
def test_the_core_imports_only_what_it_may(module):
    for dots, name in imports(CORE / f"{module}.py"):
        first = name.partition(".")[0]
        assert dots <= 1
        if dots == 0:
            assert first in OUTSIDE | set(sys.stdlib_module_names)
        else:
            assert first in {*MODULES, "PROCESS_START"}


@pytest.mark.parametrize("module", MODULES)
def test_imports_follow_the_chain(module):
    before = ORDER[: ORDER.index(module)]
    assert siblings(module) <= set(before)


@pytest.mark.parametrize("module", [name for name in MODULES if name != "train"])
def test_only_the_loop_imports_more_than_three_others(module):
    """Config aside: every module takes its errors from there."""
    assert len(siblings(module) - {"config"}) <= MOST_IMPORTS


def test_the_model_knows_nothing_of_training():
    assert siblings("model") == {"config"}


@pytest.mark.parametrize(
    "path", [p for p in PACKAGE.rglob("*.py") if CORE not in p.parents], ids=lambda p: p.name
)
def test_around_the_core_load_core_is_the_only_way_in(path):
    for dots, name in imports(path):
        parts = name.split(".")
        assert "gpt" not in (parts if dots else parts[1:]), f"{path} imports {name}"


def test_the_core_runs_under_another_name(tmp_path, tiny):
    """In a learner's folder it is `gpt`, and the same words train."""
    (tmp_path / "gpt").symlink_to(CORE, target_is_directory=True)
    command = [sys.executable, "-m", "gpt.train", str(tiny), "--set", "train.steps=2", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    assert '"step": 2' in done.stdout.splitlines()[-1]
    assert (tmp_path / "runs" / "tiny" / "state").read_text() == "DONE\n"


@pytest.mark.parametrize("module", MODULES)
def test_each_module_opens_with_what_it_is_for(module):
    tree = ast.parse((CORE / f"{module}.py").read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    for node in ast.walk(tree):
        is_public = isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_"
        if is_public and isinstance(node, ast.ClassDef):
            assert ast.get_docstring(node), node.name


@pytest.mark.parametrize("module", MODULES)
def test_functions_of_the_core_are_short(module):
    """About a dozen lines of code, the docstring not counted."""
    for node in ast.walk(ast.parse((CORE / f"{module}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            length = body[-1].end_lineno - body[0].lineno + 1 if body else 0
            assert length <= 30, f"{node.name} has {length} lines"


# Recipes.

RECIPES = sorted(api.RECIPES.glob("*.toml"))
SHRUNK = [
    "model.layers=2",
    "model.heads=2",
    "model.width=16",
    "model.context=16",
    "train.tokens_per_step=64",
    "train.micro_batch=2",
    "train.steps=1",
    "train.max_seconds=0",
    "runtime.device=cpu",
    "runtime.compile=off",
    "data.val_tokens=100",
    "train.hellaswag_every=0",
    "sample.max_tokens=3",
]


@pytest.fixture(scope="module")
def gpt2_shards(words, tmp_path_factory) -> Path:
    """Shards of GPT-2's tokens, with a manifest."""
    folder = tmp_path_factory.mktemp("gpt2")
    (folder / "words.txt").write_text(words)
    api.prepare([folder / "words.txt"], folder / "shards", tokenizer="gpt2")
    return folder / "shards"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_bundled_recipe_loads_and_takes_a_step_shrunk(path, corpus, gpt2_shards, runs):
    recipe = load_recipe(path)
    folder = gpt2_shards if recipe.data.tokenizer == "gpt2" else corpus
    settings = [*SHRUNK, f"data.path={folder}"]
    if folder == corpus:
        settings.append("sample.prompt=the ")
    summary = train.train(path, "x", runs, settings)
    assert summary["step"] == 1
    assert summary["val_loss"] > 0
    assert recipe.model.dropout == 0


def test_the_recipes_that_others_rely_on_are_there():
    assert {"shakespeare", "gpt2-124m"} <= {path.stem for path in RECIPES}
    recipe = load_recipe(api.RECIPES / "gpt2-124m.toml")
    assert (recipe.model.layers, recipe.model.heads, recipe.model.width) == (12, 12, 768)
    assert recipe.train.tokens_per_step == 524288


# What ships and what must not.


def test_no_file_names_a_package_registry():
    """Names of hosts are put together here, or this file would hold them."""
    hosts = [
        "py" + r"pi\.org",
        "python" + r"hosted\.org",
        "npm" + r"js\.(org|com)",
        "ana" + r"conda\.org",
        r"--(extra-)?index" + r"-url[ =]",
        r"find" + r"-links",
    ]
    forbidden = re.compile("|".join(hosts), re.I)
    for path in tracked():
        if path.is_file() and path.suffix not in (".xz", ".png", ".gif"):
            found = forbidden.search(path.read_text(encoding="utf-8", errors="replace"))
            assert found is None, f"{path} names {found and found.group()}"


def test_what_the_package_reads_is_shipped():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    import tomllib

    patterns = tomllib.loads(text)["tool"]["setuptools"]["package-data"]
    for package, wanted in {
        "buildgpt.gpt": "gpt2_merges.txt",
        "buildgpt.datasets": "shakespeare.jsonl.xz",
        "buildgpt.recipes": "shakespeare.toml",
    }.items():
        folder = PACKAGE / package.partition(".")[2]
        assert (folder / wanted).is_file()
        assert any(Path(wanted).match(pattern) for pattern in patterns[package])


def test_nothing_unpickles():
    """No torch.load, no pickle: not even an import of it."""
    for path in PACKAGE.rglob("*.py"):
        assert not {"pickle", "shelve", "marshal"} & {name for _, name in imports(path)}
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr) not in {("torch", "load"), ("torch", "save")}
                assert node.attr != "allow_pickle"


def test_public_shards_without_a_manifest_take_a_step(gpt2_shards, tmp_path, runs):
    """As llm.c's FineWeb shards come: *_train_*.bin and *_val_*.bin, and no manifest.json."""
    folder = tmp_path / "fineweb"
    folder.mkdir()
    for path in gpt2_shards.glob("*.bin"):
        (folder / path.name.replace("shards", "edu_fineweb")).write_bytes(path.read_bytes())
    recipe = api.RECIPES / "gpt2-124m.toml"
    train.train(recipe, "x", runs, [*SHRUNK, f"data.path={folder}"])
    assert checkpoint.load_run(runs / "x").tokenizer.kind == "gpt2"
    assert data.read_manifest(folder) is None


def test_what_is_pinned_installs_on_the_oldest_python_that_is_admitted():
    """By what the packages of this environment say. One that does not has pip search for ever."""
    pinned = re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text("utf-8"), re.M)
    looked, refusing = 0, []
    for name, version in pinned:
        with suppress(metadata.PackageNotFoundError):
            found = metadata.distribution(name)
            looked += found.version.partition("+")[0] == version
            if not SpecifierSet(found.metadata["Requires-Python"] or "").contains("3.11.0"):
                refusing.append(f"{name}=={found.version}")
    assert looked > 5
    assert refusing == []
