"""Recipes: frozen dataclasses, read from TOML, changed by `key=value`, written back in full."""

import dataclasses
import difflib
import hashlib
import json
import math
import os
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin


class UserError(Exception):
    """Something the user can mend, in one sentence: what, where, what to do."""

    exit_status = 1


class UsageError(UserError):
    """The words were wrong: a recipe, an option, a name. Nothing has been started."""

    exit_status = 2


# Radford et al. 2019, table 2 (as corrected in OpenAI's released checkpoints).
SIZES = {
    "124M": {"layers": 12, "heads": 12, "width": 768},
    "355M": {"layers": 24, "heads": 16, "width": 1024},
    "774M": {"layers": 36, "heads": 20, "width": 1280},
    "1558M": {"layers": 48, "heads": 25, "width": 1600},
}


LARGEST_SIZE = 1_000_000  # of a model's sizes: beyond it, a slip of the finger


class Section:
    """What is true of every section: words are among their choices, no number is negative."""

    def __post_init__(self) -> None:
        section = type(self).__name__.removesuffix("Config").lower()
        for one in dataclasses.fields(self):  # type: ignore[arg-type]
            key, value = f"{section}.{one.name}", getattr(self, one.name)
            if get_origin(one.type) is Literal:
                require_choice(key, value, get_args(one.type))
            elif isinstance(value, int | float):
                require(value >= 0, f"{key} must not be negative")


@dataclass(frozen=True)
class ModelConfig(Section):
    """The shape of a GPT-2. In a recipe, `size = "124M"` stands for layers, heads and width."""

    layers: int = 12
    heads: int = 12
    width: int = 768
    context: int = 1024
    vocab_size: int = 0  # 0: the tokenizer's
    dropout: float = 0.0
    init_std: float = 0.02  # GPT-2's; a narrow model learns faster from a larger one
    # "modern" has the switches of the section [modern].
    architecture: Literal["gpt2", "modern"] = "gpt2"

    def __post_init__(self) -> None:
        for name in ("layers", "heads", "width", "context"):
            require(getattr(self, name) >= 1, f"model.{name} must be at least 1")
            too_large = f"model.{name} must be at most {LARGEST_SIZE:,}"
            require(getattr(self, name) <= LARGEST_SIZE, too_large)
        if self.width % self.heads:
            raise UsageError(
                f"model.heads = {self.heads} does not divide model.width = {self.width};"
                f" nearest that does: {nearest_divisor(self.width, self.heads)}"
            )
        require(self.init_std > 0, "model.init_std must be above 0")
        require(0 <= self.dropout < 1, "model.dropout must be at least 0 and below 1")
        super().__post_init__()


@dataclass(frozen=True)
class ModernConfig(Section):
    """What a modern model does otherwise than GPT-2 (modern.py); each change can be left out."""

    rms_norm: bool = True  # without weights; no layer has biases then
    rotary: bool = True  # positions turn queries and keys; none are embedded
    qk_norm: bool = True  # queries and keys have norm 1, so that scores stay small
    relu2: bool = True  # instead of GELU
    zero_init: bool = True  # each block begins by adding nothing, the head by guessing nothing
    untied_head: bool = True
    value_embeddings: bool = True  # of the token itself, added to the values it offers
    unet_skips: bool = True  # the lower half's outputs, added once more in the upper half
    residual_scalars: bool = True  # the first embedding, mixed in before each block
    softcap: bool = True  # of the logits
    document_mask: bool = True  # no token sees another document
    windows: bool = True  # most layers see half as far, and all less far in the beginning
    bigrams: bool = True  # an embedding of each pair of neighbours


@dataclass(frozen=True)
class DataConfig(Section):
    """Which shards to read. `tokenizer` names one for a folder that has no manifest."""

    path: str = ""
    tokenizer: str = ""
    val_tokens: int = 0  # 0: the whole validation split
    # documents: every sequence begins with one; shifted: each epoch is cut at other places.
    align: Literal["none", "documents", "shifted"] = "none"
    noise: float = 0.0  # the share of a sequence's inputs that others of the text stand in for
    hellaswag: str = "data/hellaswag/hellaswag_val.jsonl"  # read where train.hellaswag_every asks

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.noise < 1, "data.noise must be at least 0 and below 1")
        require(
            not self.noise or self.align != "documents",
            'data.noise would replace the ids that open documents; set data.align = "none"',
        )


@dataclass(frozen=True)
class TrainConfig(Section):
    """How long, how fast, how often. 0 switches a limit or a period off."""

    steps: int = 1000
    max_seconds: float = 0.0
    tokens_per_step: int = 524288
    double_at: tuple[int, ...] = ()  # steps from which on one takes twice as many, in the end all
    micro_batch: int = 8  # sequences that go through the model at once, on each rank
    seed: int = 1337
    init_from: str = ""
    lr: float = 6e-4
    # Muon is for the blocks' matrices, AdamW for the rest.
    optimizer: Literal["adamw", "muon"] = "adamw"
    matrix_lr: float = 0.02  # Muon's
    normuon: bool = True  # Muon divides each neuron's update by its usual size
    cautious_decay: bool = True  # Muon decays a weight only where its update makes it smaller
    warmup_steps: int = 100
    schedule: Literal["cosine", "wsd"] = "cosine"
    final_lr: float = 0.1  # as a share of lr
    decay_share: float = 0.2  # of the steps after warm-up, for schedule = "wsd"
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    grad_clip: float = 1.0
    log_every: int = 10
    eval_every: int = 250
    hellaswag_every: int = 0
    checkpoint_every: int = 1000
    checkpoint_minutes: float = 5.0  # and whenever the newest one is so old
    keep_checkpoints: int = 2
    mirror: str = ""  # a second folder for the run, such as a mounted bucket
    on_nonfinite: Literal["stop", "skip"] = "stop"

    def __post_init__(self) -> None:
        for name in ("steps", "tokens_per_step", "micro_batch", "log_every", "keep_checkpoints"):
            require(getattr(self, name) >= 1, f"train.{name} must be at least 1")
        rising = list(self.double_at) == sorted({s for s in self.double_at if s > 0})
        require(rising, "train.double_at must hold steps above 0, each above the one before")
        require(0 <= self.seed < 2**32, "train.seed must be at least 0 and below 2**32")
        require(self.tokens_per_step <= 2**32, "train.tokens_per_step must be at most 2**32")
        require(self.lr > 0, "train.lr must be above 0")
        require(self.matrix_lr > 0, "train.matrix_lr must be above 0")
        require(self.final_lr <= 1, "train.final_lr is a share of train.lr: at most 1")
        require(max(self.beta1, self.beta2) < 1, "train.beta1 and train.beta2 must be below 1")
        require(0 < self.decay_share <= 1, "train.decay_share must be above 0 and at most 1")
        super().__post_init__()


@dataclass(frozen=True)
class RuntimeConfig(Section):
    """Where to compute. "auto" takes the best that this machine has.

    `parallel` is how ranks share a model: "ddp", each has all of it, or "fsdp", each has a part.
    """

    device: str = "auto"
    dtype: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    compile: Literal["auto", "on", "off"] = "auto"
    threads: int = 0  # of a CPU; 0: OMP_NUM_THREADS, or as many as are fastest when a run starts
    parallel: Literal["ddp", "fsdp"] = "ddp"
    checkpoint_activations: bool = False  # a third more arithmetic, a fraction of the memory
    timeout_seconds: float = 600.0  # a rank that is silent for so long is taken for dead

    def __post_init__(self) -> None:
        require(self.timeout_seconds > 0, "runtime.timeout_seconds must be above 0")
        super().__post_init__()


@dataclass(frozen=True)
class SampleConfig(Section):
    """The same prompt continued while the model trains: at these steps, and every so many."""

    prompt: str = ""
    at: tuple[int, ...] = ()
    every: int = 0
    max_tokens: int = 100
    temperature: float = 0.8
    top_k: int = 0

    def __post_init__(self) -> None:
        require(min(self.at, default=0) >= 0, "sample.at must not hold negative steps")
        super().__post_init__()


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    sample: SampleConfig = field(default_factory=SampleConfig)
    modern: ModernConfig = field(default_factory=ModernConfig)

    def __post_init__(self) -> None:
        per_step, context = self.train.tokens_per_step, self.model.context
        require(
            per_step % context == 0,
            f"train.tokens_per_step = {per_step} is not a multiple of model.context = {context};"
            f" nearest that is: {max(1, round(per_step / context)) * context}",
        )
        require(
            self.train.optimizer != "muon" or self.runtime.parallel != "fsdp",
            'train.optimizer = "muon" needs whole matrices: set runtime.parallel = "ddp"',
        )
        turns = self.model.architecture == "modern" and self.modern.rotary
        require(
            not turns or self.model.width // self.model.heads % 4 == 0,
            f"model.width = {self.model.width} gives each of {self.model.heads} heads"
            f" {self.model.width // self.model.heads} numbers, but modern.rotary needs a multiple"
            " of 4; give other heads or another width, or switch it off",
        )
        halvings = len(self.train.double_at)
        require(
            per_step // context % 2**halvings == 0,
            f"train.double_at halves the {per_step // context} sequences of a step {halvings}"
            " times, which does not go; give fewer steps or another train.tokens_per_step",
        )


SECTIONS: dict[str, Any] = {section.name: section.type for section in dataclasses.fields(Recipe)}


def load_recipe(path: Path, overrides: list[str] | None = None) -> Recipe:
    """Read a TOML file, apply overrides such as `train.steps=20`, fill in the defaults.

    Raises UsageError for a missing file, bad TOML, an unknown key or a value that does not fit.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the recipe {path}: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"{path} is not TOML: {error}") from None
    return build_recipe(tables, str(path), overrides)


def build_recipe(tables: dict, source: str, overrides: list[str] | None = None) -> Recipe:
    """Turn nested tables into a Recipe; `source` is named in the errors."""
    for name, table in tables.items():
        check_key(name, source)
        require(name in SECTIONS, f'{source}: "{name}" is one name in quotes; write {name}')
        require(isinstance(table, dict), f"{source}: {name} is a section; write it as [{name}]")
    tables = {name: dict(table) for name, table in tables.items()}
    if "size" in tables.get("model", {}):  # explicit keys beside it win
        model = tables["model"]
        tables["model"] = spread("model", "size", model.pop("size")) | model
    for override in overrides or []:
        section, key, value = parse_override(override)
        check_key(f"{section}.{key}", "--set")
        tables.setdefault(section, {}).update(spread(section, key, value))
    return Recipe(**{name: build_section(name, tables.get(name, {}), source) for name in SECTIONS})


def build_section(name: str, table: dict[str, Any], source: str) -> Any:
    """One section's dataclass from its table."""
    for key in table:
        check_key(f"{name}.{key}", source)
    fields = [field for field in dataclasses.fields(SECTIONS[name]) if field.name in table]
    return SECTIONS[name](**{f.name: fit(f, table[f.name], name) for f in fields})


def parse_override(text: str) -> tuple[str, str, Any]:
    """'train.lr=1e-3' -> ('train', 'lr', 0.001). What is no TOML value is a string."""
    name, equals, value = text.partition("=")
    section, dot, key = name.strip().partition(".")
    if not (equals and dot and key):
        raise UsageError(f"--set {text}: write it as section.key=value, such as train.steps=20")
    try:
        return section, key, tomllib.loads(f"value = {value}")["value"]
    except ValueError:
        return section, key, value.strip()


def spread(section: str, key: str, value: Any) -> dict[str, Any]:
    """What one key sets: itself, but `model.size` the layers, heads and width it stands for."""
    if (section, key) != ("model", "size"):
        return {key: value}
    require_choice("model.size", value, tuple(SIZES))
    return SIZES[value]


def known_keys() -> list[str]:
    """Every section, and every dotted key that a recipe may hold."""
    sections = [(name, dataclasses.fields(kind)) for name, kind in SECTIONS.items()]
    return [*SECTIONS, "model.size", *(f"{name}.{f.name}" for name, of in sections for f in of)]


def check_key(key: str, source: str) -> None:
    """Raise UsageError for an unknown key, naming the nearest known one."""
    known = known_keys()
    if key not in known:
        nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
        raise UsageError(f"{source}: unknown key '{key}'; the nearest known one is '{nearest}'")


def fit(target: dataclasses.Field, value: Any, section: str) -> Any:
    """Check a TOML value against a field's type; an int is taken for a float."""
    kind: Any = get_origin(target.type) or target.type
    kind = str if kind is Literal else kind
    if kind is float and type(value) is int:
        value = float(value)
    if kind is tuple and type(value) is list and all(type(v) is int for v in value):
        value = tuple(value)
    good = type(value) is kind
    name = "list of integers" if kind is tuple else kind.__name__
    require(good, f"{section}.{target.name} = {value!r}: it must be of type {name}")
    finite = kind is not float or math.isfinite(value)
    require(finite, f"{section}.{target.name} = {value}: it must be finite")
    return value


def to_toml(recipe: Recipe) -> str:
    """The whole recipe as TOML; `load_recipe` of it gives the same recipe back."""
    lines = []
    for section, values in dataclasses.asdict(recipe).items():
        lines += [f"[{section}]", *(f"{k} = {toml_value(v)}" for k, v in values.items()), ""]
    return "\n".join(lines)


def toml_value(value: Any) -> str:
    """One value as TOML. JSON writes the same, but for one control character it leaves bare."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def require(condition: bool, sentence: str) -> None:
    """Raise UsageError(sentence) unless the condition holds."""
    if not condition:
        raise UsageError(sentence)


def require_choice(key: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise UsageError unless the value is one of the choices."""
    require(value in choices, f"{key} = {value!r} is not one of: {', '.join(choices)}")


def tokens_of(step: int, train: TrainConfig) -> int:
    """The tokens of the update that follows `step` updates."""
    return train.tokens_per_step >> sum(at > step for at in train.double_at)


def tokens_before(step: int, train: TrainConfig) -> int:
    """The tokens of the first `step` updates together."""
    starts = [at for at in (0, *train.double_at) if at < step]
    stops = [*starts[1:], step]
    return sum((b - a) * tokens_of(a, train) for a, b in zip(starts, stops))


def divide(recipe: Recipe, ranks: int) -> int:
    """Sequences a micro-batch, which go into those of the first step, the smallest, on all
    ranks."""
    sequences = tokens_of(0, recipe.train) // recipe.model.context
    require(
        sequences % ranks == 0,
        f"{ranks} ranks cannot share the {sequences} sequences of a step equally; nearest"
        f" numbers that can: {' and '.join(map(str, divisors_around(sequences, ranks)))}",
    )
    share = sequences // ranks
    micro = min(recipe.train.micro_batch, share)
    require(
        share % micro == 0,
        f"micro-batches of {micro} do not go into the {share} sequences of a step on each of"
        f" {ranks} ranks; nearest that does: train.micro_batch={nearest_divisor(share, micro)}",
    )
    return micro


def check_run_name(name: str) -> None:
    """A run's name is one plain word, so that it cannot lead out of the runs folder."""
    require(
        re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) is not None,
        f"--name {name!r} is no plain name; use letters, digits, '.', '_' and '-'",
    )


def nearest_divisor(whole: int, wanted: int) -> int:
    """The divisor of `whole` that is nearest to `wanted`; the smaller one of two."""
    divisors = (d for d in range(1, whole + 1) if whole % d == 0)
    return min(divisors, key=lambda d: (abs(d - wanted), d))


def divisors_around(whole: int, wanted: int) -> list[int]:
    """The divisors of `whole` next below and next above `wanted`, as far as there are any."""
    divisors = [d for d in range(1, whole + 1) if whole % d == 0]
    return [*[d for d in divisors if d < wanted][-1:], *[d for d in divisors if d > wanted][:1]]


def write_text(path: Path, text: str) -> None:
    """Write a text as UTF-8, whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: beside it first, onto the disk, then renamed."""
    temporary = path.with_name(f".{path.name}.tmp{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """A file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
