"""What is trained: the variations of a recipe, and which of them are compared with which."""

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buildgpt.core import Core
from buildgpt.datasets.corpora import parse_tokens

# An ablation wants the final loss only; whatever takes time on the way there is left out.
QUIET = ["train.eval_every=0", "train.hellaswag_every=0", "train.checkpoint_every=0"]
QUIET += ["train.keep_checkpoints=1", "train.mirror=", "sample.at=[]", "sample.every=0"]
SWITCHES = "modern"  # the section in which a switch is looked for by its bare name
SECONDS = {"s": 1, "min": 60, "h": 3600}


@dataclass(frozen=True)
class Variation:
    """A recipe with some keys set."""

    name: str  # of its runs
    words: str  # for people
    settings: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """How much lower the loss of one variation is than another's: the gain of `what`."""

    what: str
    row: str  # the variation beside which it is shown
    worse: str  # the variation that is expected to be, at least
    better: str


@dataclass(frozen=True)
class Plan:
    """What an ablation consists of."""

    variations: list[Variation]
    comparisons: list[Comparison]
    key: str = ""  # that is varied; empty for switches

    def trained(self) -> dict[tuple[str, ...], str]:
        """The name under which settings are trained: of two switches, one alone is all without
        the other."""
        return {v.settings: v.name for v in reversed(self.variations)}


def by_switches(core: Core, wish: str) -> Plan:
    """All on; each one off; all off; each one alone."""
    keys = switch_keys(core, wish)
    names = {key: key.removeprefix(f"{SWITCHES}.") for key in keys}

    def setting(on: Sequence[str]) -> tuple[str, ...]:
        return tuple(f"{key}={'true' if key in on else 'false'}" for key in keys)

    full, empty = Variation("all-on", "all on", setting(keys)), Variation("all-off", "all off", ())
    empty = dataclasses.replace(empty, settings=setting([]))
    if len(keys) == 1:
        (name,) = names.values()
        return Plan([full, empty], [Comparison(name, "all-off", "all-off", "all-on")])
    variations, comparisons = [full], []
    for key, name in names.items():
        others = [k for k in keys if k != key]
        variations.append(Variation(f"without-{name}", f"without {name}", setting(others)))
        comparisons.append(Comparison(name, f"without-{name}", f"without-{name}", "all-on"))
    variations.append(empty)
    comparisons.append(Comparison("all together", "all-off", "all-off", "all-on"))
    for key, name in names.items():
        variations.append(Variation(f"only-{name}", f"{name} alone", setting([key])))
        comparisons.append(Comparison(f"{name} alone", f"only-{name}", "all-off", f"only-{name}"))
    return Plan(variations, comparisons)


def switch_keys(core: Core, wish: str) -> list[str]:
    """The dotted keys of the switches that are wished for. UsageError for what is no switch."""
    section = core.config.SECTIONS.get(SWITCHES)
    known = [f.name for f in dataclasses.fields(section) if f.type is bool] if section else []
    names = [name.strip() for name in wish.split(",") if name.strip()]
    names = [n for name in names for n in (known if name == "all" else [name])]
    keys = list(dict.fromkeys(n if "." in n else f"{SWITCHES}.{n}" for n in names))
    core.config.require(bool(keys), "--switches names no switch; 'all' stands for every one")
    for key in keys:
        core.config.check_key(key, "--switches")
        core.config.require(is_switch(core, key), f"--switches {key}: it is not on or off")
    return keys


def is_switch(core: Core, key: str) -> bool:
    """Whether a dotted key holds true or false."""
    section, _, name = key.partition(".")
    fields = dataclasses.fields(core.config.SECTIONS[section])
    return any(field.name == name and field.type is bool for field in fields)


def by_values(core: Core, recipe: Any, wish: str) -> Plan:
    """One key with each value; compared with the recipe's own, or else the first."""
    key, equals, text = wish.partition("=")
    key, values = key.strip(), [value.strip() for value in text.split(",") if value.strip()]
    values = list(dict.fromkeys(values))
    core.config.require(
        bool(equals) and "." in key and len(values) > 1,
        f"--vary {wish}: write it as section.key=value,value, such as train.lr=1e-3,2e-3",
    )
    core.config.check_key(key, "--vary")
    section, _, name = key.partition(".")
    own = getattr(getattr(recipe, section), name, None)  # none of model.size
    parsed = [core.config.parse_override(f"{key}={value}")[2] for value in values]
    first = parsed.index(own) if own in parsed else 0
    variations = [
        Variation(f"{name}-{plain(value)}", f"{name} = {value}", (f"{key}={value}",))
        for value in values
    ]
    names = [variation.name for variation in variations]
    core.config.require(len(set(names)) == len(names), f"--vary {wish}: values are too much alike")
    base = variations[first].name
    others = [v for v in variations if v.name != base]
    return Plan(variations, [Comparison(v.words, v.name, base, v.name) for v in others], key)


def plain(value: str) -> str:
    """A value as a part of a run's name."""
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", value).replace("+", "")


def parse_budget(core: Core, wish: str) -> tuple[float, int]:
    """'60s', '5min', '2h' or tokens, '2M' -> seconds, or 0, and tokens, or 0."""
    if not wish:
        return 0.0, 0
    found = re.fullmatch(r"([0-9]*\.?[0-9]+) *(s|min|h)", wish.strip())
    if found:
        seconds = float(found[1]) * SECONDS[found[2]]
        core.config.require(seconds > 0, "--budget must be above 0")
        return seconds, 0
    minutes = re.fullmatch(r"[0-9.]+m", wish.strip())
    try:
        tokens = 0 if minutes else parse_tokens(core, wish)
    except core.config.UsageError:
        tokens = 0
    core.config.require(
        tokens > 0, f"--budget {wish}: write it as 60s, 5min or 2h, or in tokens, as 2M or 500k"
    )
    return 0.0, tokens


def resolve(
    core: Core, path: Path, settings: Sequence[str], budget: tuple[float, int], seed: int
) -> Any:
    """A variation's recipe with its budget and seed. UsageError for what does not fit."""
    seconds, tokens = budget
    more = [*QUIET, *settings, f"train.seed={seed}"]
    more += [f"train.max_seconds={seconds}"] if seconds else []
    recipe = core.config.load_recipe(path, more)
    if not tokens:
        return recipe
    steps = max(1, round(tokens / recipe.train.tokens_per_step))
    return core.config.load_recipe(path, [*more, f"train.steps={steps}", "train.max_seconds=0"])
