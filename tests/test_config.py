"""Recipes: what is written is read back, what is wrong is refused in one sentence."""

import dataclasses
import errno
import os
import tomllib
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import buildgpt
from buildgpt.gpt import config
from buildgpt.gpt.config import (
    ModelConfig,
    Recipe,
    TrainConfig,
    UsageError,
    UserError,
    load_recipe,
    to_toml,
    tokens_before,
    tokens_of,
)

RECIPES = sorted((Path(buildgpt.__file__).parent / "recipes").glob("*.toml"))


def recipe_file(folder: Path, text: str) -> Path:
    """A recipe file with this text."""
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(folder: Path, text: str, *overrides: str) -> str:
    """The sentence with which a recipe is refused."""
    with pytest.raises(UsageError) as caught:
        load_recipe(recipe_file(folder, text), list(overrides))
    sentence = str(caught.value)
    assert caught.value.exit_status == 2
    assert "\n" not in sentence
    return sentence


# Reading and writing


def test_an_empty_recipe_is_all_defaults(tmp_path):
    assert load_recipe(recipe_file(tmp_path, "")) == Recipe()


def test_every_key_is_written_and_read_back(tmp_path):
    changed = Recipe(
        config.ModelConfig(
            layers=3,
            heads=5,
            width=35,
            context=17,
            vocab_size=11,
            dropout=0.25,
            init_std=0.5,
            architecture="modern",
        ),
        config.DataConfig(
            path="a folder/ä",
            tokenizer="gpt2",
            val_tokens=99,
            align="shifted",
            noise=0.5,
            hellaswag="h",
        ),
        config.TrainConfig(
            steps=7,
            max_seconds=1.5,
            tokens_per_step=34,
            double_at=(2,),
            micro_batch=3,
            seed=2**32 - 1,
            init_from="x",
            lr=1e-17,
            warmup_steps=5,
            optimizer="muon",
            matrix_lr=0.5,
            normuon=False,
            cautious_decay=False,
            schedule="wsd",
            final_lr=0.3,
            decay_share=1.0,
            weight_decay=0.01,
            beta1=0.8,
            beta2=0.99,
            grad_clip=0.5,
            log_every=2,
            eval_every=3,
            hellaswag_every=6,
            checkpoint_every=4,
            checkpoint_minutes=0.5,
            keep_checkpoints=5,
            mirror="bucket",
            on_nonfinite="skip",
        ),
        config.RuntimeConfig(
            device="cpu",
            dtype="bf16",
            compile="off",
            checkpoint_activations=True,
            threads=3,
            timeout_seconds=9.5,
        ),
        config.SampleConfig(
            prompt="p", at=(0, 5), every=9, max_tokens=8, temperature=1.25, top_k=4
        ),
        config.ModernConfig(**{f.name: False for f in dataclasses.fields(config.ModernConfig)}),
    )
    sharded = Recipe(runtime=config.RuntimeConfig(parallel="fsdp"))  # does not go with Muon
    for section in dataclasses.fields(Recipe):  # not one key is left at its default
        mine, default = getattr(changed, section.name), getattr(Recipe(), section.name)
        for key in {f.name for f in dataclasses.fields(mine)} - {"parallel"}:
            assert getattr(mine, key) != getattr(default, key), key
    for recipe in (changed, sharded):
        assert load_recipe(recipe_file(tmp_path, to_toml(recipe))) == recipe


@given(st.text())
@example("".join(map(chr, range(0x100))))
@example('\r\n\r \u2028\u2029\u0085\ufeff\U0001f600 \\ " \'\'\' """')
def test_any_string_survives_in_a_recipe(text):
    recipe = Recipe(sample=config.SampleConfig(prompt=text), data=config.DataConfig(path=text))
    assert config.build_recipe(tomllib.loads(to_toml(recipe)), "here") == recipe


@given(st.text())
@example("a\r\nb\rc\x85d")
def test_any_string_survives_on_the_disk(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.toml"
    recipe = Recipe(sample=config.SampleConfig(prompt=text))
    config.write_text(path, to_toml(recipe))
    assert load_recipe(path) == recipe


@given(
    st.floats(min_value=0, exclude_min=True, allow_infinity=False),
    st.lists(st.integers(0, 2**63 - 1)),
)
def test_any_number_survives_in_a_recipe(lr, at):
    recipe = Recipe(
        train=config.TrainConfig(lr=lr), sample=config.SampleConfig(at=tuple(at), prompt="x")
    )
    assert config.build_recipe(tomllib.loads(to_toml(recipe)), "here") == recipe


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_bundled_recipe_loads_and_is_written_back(path, tmp_path):
    recipe = load_recipe(path)
    assert load_recipe(recipe_file(tmp_path, to_toml(recipe))) == recipe
    assert recipe.data.path
    assert recipe.model.dropout == 0


def test_there_are_bundled_recipes():
    assert "shakespeare" in [path.stem for path in RECIPES]


def test_a_recipe_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Recipe().train.steps = 3  # type: ignore[misc]


# Presets and overrides: explicit keys win over a size, overrides over the file, later over earlier


@pytest.mark.parametrize(
    ("size", "layers", "heads", "width"),
    [
        ("124M", 12, 12, 768),
        ("355M", 24, 16, 1024),
        ("774M", 36, 20, 1280),
        ("1558M", 48, 25, 1600),
    ],
)
def test_sizes_are_those_of_gpt2(tmp_path, size, layers, heads, width):
    model = load_recipe(recipe_file(tmp_path, f'[model]\nsize = "{size}"')).model
    assert (model.layers, model.heads, model.width) == (layers, heads, width)
    assert model.context == 1024


@pytest.mark.parametrize("text", ['size = "355M"\nlayers = 2', 'layers = 2\nsize = "355M"'])
def test_explicit_keys_win_over_a_size(tmp_path, text):
    model = load_recipe(recipe_file(tmp_path, f"[model]\n{text}")).model
    assert (model.layers, model.heads, model.width) == (2, 16, 1024)


def test_an_overriding_size_wins_over_the_keys_of_the_file(tmp_path):
    path = recipe_file(tmp_path, "[model]\nlayers = 2\nheads = 1\nwidth = 8\ncontext = 64")
    model = load_recipe(path, ["model.size=124M"]).model
    assert (model.layers, model.heads, model.width, model.context) == (12, 12, 768, 64)


def test_later_overrides_win(tmp_path):
    path = recipe_file(tmp_path, "[train]\nsteps = 1")
    assert load_recipe(path, ["train.steps=2", "train.steps=3"]).train.steps == 3
    assert load_recipe(path, ["model.size=355M", "model.layers=3"]).model.layers == 3
    assert load_recipe(path, ["model.layers=3", "model.size=355M"]).model.layers == 24


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.steps=1_000", ("train", "steps", 1000)),
        ("train.lr=1e-3", ("train", "lr", 1e-3)),
        (" train.lr = 3 ", ("train", "lr", 3)),
        ("sample.at=[0, 50]", ("sample", "at", [0, 50])),
        ("runtime.device=cpu", ("runtime", "device", "cpu")),
        ("runtime.device = cpu ", ("runtime", "device", "cpu")),
        ("data.path=data/my text", ("data", "path", "data/my text")),
        ("data.path=C:\\new\\data", ("data", "path", "C:\\new\\data")),
        ("sample.prompt=ROMEO:", ("sample", "prompt", "ROMEO:")),
        ("sample.prompt=a=b.c", ("sample", "prompt", "a=b.c")),
        ('sample.prompt="3"', ("sample", "prompt", "3")),
        ("sample.prompt=", ("sample", "prompt", "")),
        ("train.steps=" + "9" * 5000, ("train", "steps", "9" * 5000)),  # too long for an int
    ],
)
def test_an_override_is_a_toml_value_or_a_bare_word(override, expected):
    assert config.parse_override(override) == expected


def test_an_int_does_for_a_float(tmp_path):
    lr = load_recipe(recipe_file(tmp_path, "[train]\nlr = 1")).train.lr
    assert (lr, type(lr)) == (1.0, float)


# Refusals


@pytest.mark.parametrize("override", ["train.steps", "train=3", "=3", "train.=3", "steps=3", ""])
def test_an_override_has_a_key_and_a_value(tmp_path, override):
    sentence = refusal(tmp_path, "", override)
    assert sentence.startswith(f"--set {override}: ")
    assert "section.key=value" in sentence


@pytest.mark.parametrize(
    ("text", "wrong", "nearest"),
    [
        ("[train]\nstesp = 3", "train.stesp", "train.steps"),
        ("[model]\nlayer = 3", "model.layer", "model.layers"),
        ("[modle]\nlayers = 3", "modle", "model"),
        ("steps = 3", "steps", "train.steps"),
        ("[model]\nsizes = 3", "model.sizes", "model.size"),
    ],
)
def test_an_unknown_key_names_the_nearest(tmp_path, text, wrong, nearest):
    sentence = refusal(tmp_path, text)
    assert f"unknown key '{wrong}'" in sentence
    assert "recipe.toml" in sentence
    assert f"the nearest known one is '{nearest}'" in sentence


def test_an_unknown_key_of_an_override_names_the_nearest(tmp_path):
    assert refusal(tmp_path, "", "train.step=3") == (
        "--set: unknown key 'train.step'; the nearest known one is 'train.steps'"
    )
    assert "'train.steps'" in refusal(tmp_path, "", "trian.steps=3")
    assert "unknown key" in refusal(tmp_path, "", ".steps=3")


@given(st.text(max_size=12))
def test_any_unknown_key_is_refused(key):
    if key not in config.known_keys():
        with pytest.raises(UsageError, match="nearest known one"):
            config.build_recipe({key: {}}, "here")


@pytest.mark.parametrize(
    ("text", "type_name"),
    [
        ("[train]\nsteps = 1.5", "int"),
        ("[train]\nsteps = true", "int"),
        ('[train]\nsteps = "3"', "int"),
        ("[train]\nsteps = [3]", "int"),
        ("[train.steps]\na = 3", "int"),
        ('[train]\nlr = "1e-3"', "float"),
        ("[train]\nlr = false", "float"),
        ("[data]\npath = 3", "str"),
        ("[data]\npath = 2024-01-01", "str"),
        ("[sample]\nat = 3", "list of integers"),
        ("[sample]\nat = [1, 2.0]", "list of integers"),
        ("[sample]\nat = [true]", "list of integers"),
    ],
)
def test_a_value_of_another_type_is_refused(tmp_path, text, type_name):
    assert f"must be of type {type_name}" in refusal(tmp_path, text)


@pytest.mark.parametrize("text", ["[train]\nlr = inf", "[train]\nmax_seconds = nan"])
def test_a_number_that_is_none_is_refused(tmp_path, text):
    assert "it must be finite" in refusal(tmp_path, text)


@pytest.mark.parametrize("text", ["model = 3", "[[model]]\nlayers = 1", 'train = "x"'])
def test_a_section_is_a_table(tmp_path, text):
    assert "is a section; write it as [" in refusal(tmp_path, text)


@pytest.mark.parametrize("text", ['["model.layers"]', '"model.layers" = 3', '"model.size" = "1"'])
def test_a_dotted_name_in_quotes_is_refused(tmp_path, text):
    """It would be a table of its own, and be read by nobody."""
    assert "one name in quotes" in refusal(tmp_path, text)


@pytest.mark.parametrize(
    "data", [b"[train", b"steps = ", b"\xff\xfe", b"[a]\n[a]", b"[train]\nsteps = " + b"9" * 5000]
)
def test_a_file_that_is_no_toml_is_refused(tmp_path, data):
    (tmp_path / "bad.toml").write_bytes(data)
    with pytest.raises(UsageError, match=r"bad\.toml is not TOML: ") as caught:
        load_recipe(tmp_path / "bad.toml")
    assert caught.value.exit_status == 2


def test_a_recipe_that_is_not_there_is_refused(tmp_path):
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(UsageError, match="cannot read the recipe"):
            load_recipe(path)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[model]\nlayers = 0", "model.layers must be at least 1"),
        ("[model]\nheads = 0", "model.heads must be at least 1"),
        ("[model]\nwidth = -8", "model.width must be at least 1"),
        ("[model]\ncontext = 0", "model.context must be at least 1"),
        ("[model]\ndropout = 1", "model.dropout must be at least 0 and below 1"),
        (
            '[data]\nnoise = 0.1\nalign = "documents"',
            'data.noise would replace the ids that open documents; set data.align = "none"',
        ),
        ("[data]\nnoise = 1.0", "data.noise must be at least 0 and below 1"),
        (
            "[model]\nheads = 5\nwidth = 64",
            "model.heads = 5 does not divide model.width = 64; nearest that does: 4",
        ),
        (
            "[model]\nheads = 3\nwidth = 8",
            "model.heads = 3 does not divide model.width = 8; nearest that does: 2",
        ),
        ('[model]\nsize = "125M"', "model.size = '125M' is not one of: 124M, 355M, 774M, 1558M"),
        ("[model]\nsize = 124", "model.size = 124 is not one of: 124M, 355M, 774M, 1558M"),
        ("[data]\nval_tokens = -1", "data.val_tokens must not be negative"),
        ("[train]\nsteps = 0", "train.steps must be at least 1"),
        ("[train]\nmicro_batch = 0", "train.micro_batch must be at least 1"),
        ("[train]\nlog_every = 0", "train.log_every must be at least 1"),
        ("[train]\nkeep_checkpoints = 0", "train.keep_checkpoints must be at least 1"),
        ("[train]\ntokens_per_step = 0", "train.tokens_per_step must be at least 1"),
        ("[train]\nmax_seconds = -1", "train.max_seconds must not be negative"),
        ("[train]\nwarmup_steps = -1", "train.warmup_steps must not be negative"),
        ("[train]\nfinal_lr = -0.1", "train.final_lr must not be negative"),
        ("[train]\nweight_decay = -1", "train.weight_decay must not be negative"),
        ("[train]\ngrad_clip = -1", "train.grad_clip must not be negative"),
        ("[train]\neval_every = -1", "train.eval_every must not be negative"),
        ("[train]\ncheckpoint_every = -1", "train.checkpoint_every must not be negative"),
        ("[train]\nbeta1 = -0.1", "train.beta1 must not be negative"),
        ("[train]\nbeta2 = 1", "train.beta1 and train.beta2 must be below 1"),
        ("[train]\nseed = -1", "train.seed must be at least 0 and below 2**32"),
        ("[train]\nseed = 4294967296", "train.seed must be at least 0 and below 2**32"),
        ("[train]\nlr = 0", "train.lr must be above 0"),
        ("[train]\ndecay_share = 0", "train.decay_share must be above 0 and at most 1"),
        ("[train]\ndecay_share = 1.5", "train.decay_share must be above 0 and at most 1"),
        ('[train]\nschedule = "step"', "train.schedule = 'step' is not one of: cosine, wsd"),
        ('[train]\non_nonfinite = "x"', "train.on_nonfinite = 'x' is not one of: stop, skip"),
        (
            '[runtime]\ndtype = "int8"',
            "runtime.dtype = 'int8' is not one of: auto, bf16, fp16, fp32",
        ),
        ('[runtime]\ncompile = "yes"', "runtime.compile = 'yes' is not one of: auto, on, off"),
        ("[sample]\ntemperature = -1", "sample.temperature must not be negative"),
        ("[sample]\ntop_k = -1", "sample.top_k must not be negative"),
        ("[sample]\nevery = -1", "sample.every must not be negative"),
        ("[sample]\nmax_tokens = -1", "sample.max_tokens must not be negative"),
        (
            "[model]\ncontext = 100\n[train]\ntokens_per_step = 260",
            "train.tokens_per_step = 260 is not a multiple of model.context = 100;"
            " nearest that is: 300",
        ),
        (
            "[model]\ncontext = 100\n[train]\ntokens_per_step = 9",
            "train.tokens_per_step = 9 is not a multiple of model.context = 100;"
            " nearest that is: 100",
        ),
    ],
)
def test_a_value_out_of_range_is_refused(tmp_path, text, sentence):
    assert refusal(tmp_path, text) == sentence


def test_the_suggested_heads_are_the_nearest_divisor():
    for whole in range(1, 60):
        for wanted in range(1, 60):
            found = config.nearest_divisor(whole, wanted)
            distances = [abs(d - wanted) for d in range(1, whole + 1) if whole % d == 0]
            assert whole % found == 0
            assert abs(found - wanted) == min(distances)


def test_the_exit_status_tells_work_from_words():
    assert (UserError.exit_status, UsageError.exit_status) == (1, 2)
    assert issubclass(UsageError, UserError)


# Small files are written whole or not at all


def test_write_text_replaces_the_whole_file(tmp_path):
    path = tmp_path / "state"
    config.write_text(path, "a longer text than the next\n")
    config.write_text(path, "ä\n")
    assert path.read_bytes() == "ä\n".encode()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, failing):
    path = tmp_path / "state"
    config.write_text(path, "old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(*((os, "fsync") if failing == "fsync" else (Path, "replace")), full)
    with pytest.raises(OSError, match="No space left"):
        config.write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_text_reaches_the_disk_before_the_name(tmp_path, monkeypatch):
    path = tmp_path / "state"
    seen = []
    fsync = os.fsync

    def watch(descriptor: int) -> None:
        seen.append((os.fstat(descriptor).st_size, path.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    config.write_text(path, "12345")
    assert seen == [(5, False)]


def test_a_text_that_cannot_be_written_leaves_the_old_file(tmp_path):
    path = tmp_path / "state"
    config.write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        config.write_text(path, "new \ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


# The tokens of a step.


def test_a_batch_schedule_doubles_the_tokens_of_a_step():
    train = TrainConfig(tokens_per_step=64, double_at=(3, 5))
    assert [tokens_of(step, train) for step in range(8)] == [16, 16, 16, 32, 32, 64, 64, 64]
    before = [sum(tokens_of(s, train) for s in range(step)) for step in range(9)]
    assert [tokens_before(step, train) for step in range(9)] == before
    plain = TrainConfig(tokens_per_step=64)
    assert [tokens_before(step, plain) for step in range(3)] == [0, 64, 128]


@pytest.mark.parametrize("steps", [(0,), (-1,), (5, 3), (3, 3)])
def test_a_batch_schedule_goes_up(steps):
    with pytest.raises(UsageError, match=r"double_at must hold steps above 0"):
        TrainConfig(double_at=steps)


def test_a_batch_schedule_halves_whole_sequences():
    train = TrainConfig(tokens_per_step=192, double_at=(3, 5))
    with pytest.raises(UsageError, match=r"halves the 6 sequences of a step 2 times"):
        Recipe(model=ModelConfig(context=32), train=train)


def test_a_head_that_cannot_be_turned_is_refused():
    tables = {"model": {"width": 10, "heads": 2, "architecture": "modern"}}
    with pytest.raises(UsageError, match=r"2 heads 5 numbers, but modern.rotary .* multiple of 4"):
        config.build_recipe(tables, "x")
    unturned = config.build_recipe(tables | {"modern": {"rotary": False}}, "x")
    assert unturned.model.width == 10
    assert config.build_recipe({"model": {"width": 10, "heads": 2}}, "x").model.width == 10
