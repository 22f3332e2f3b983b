"""Mutants: the reference with one small mistake in a line that a lesson lets type; its checks must
catch nearly all of them. `tools/course.py mutants` makes them, the same ones for the same seed.

What no check of behaviour can or should see is not changed: words (strings, errors, what is
printed), annotations, decorators, seeds, guards against a division by 0, whether a file is run as a
program, how many are asked for where the first is taken, the sign with which a layer's output is
added (its weights learn it), the order of arguments that have none, keywords that say how a file is
spelt or what is only faster, and assignments without which Python itself complains. A default is
changed so far that nobody would choose it: ten times as large, or off where it is on.
"""

import ast
import copy
import functools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from course_check import WORKERS, Workshop, asked_for, first_to_fail, for_each

from buildgpt.course.owners import authors
from buildgpt.course.runner import due_checks
from buildgpt.course.series import Lesson, Series

COUNT, SEED = 10, 0  # a lesson
LEAST = 0.9  # of all mutants have to be caught
CPU_SECONDS = 40  # for the checks of one; who needs longer hangs, and is caught by that
GUARD = 1e-3  # smaller constants keep a divisor from being 0, and nothing else
LAYOUT = {"contiguous"}  # says where numbers lie in memory, not which ones
SYMMETRIC = {"transpose", "max", "min"}  # it does not matter which argument comes first
# Keywords that change words, speed or place, or what this machine does by itself.
UNSEEN = {"encoding", "help", "device", "eps", "set_to_none", "gradient_as_bucket_view"}
FAR = 10  # a default so many times as large is no other choice, but a mistake
SWAPS: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.And: ast.Or,
    ast.Or: ast.And,
}


@dataclass(frozen=True)
class Mutant:
    """A file with one mistake, and how the line with it looked and looks."""

    path: str
    text: str
    line: int  # from 1
    kind: str
    before: str
    after: str


# What can be changed.


def mutants(path: str, text: str, lines: set[int]) -> list[Mutant]:
    """Every mistake that can be made in these lines of a file."""
    found, plain = [], ast.dump(ast.parse(text))
    for node, kind, new in changes(ast.parse(text), lines):
        changed = replaced(text, node, new)
        if ast.dump(ast.parse(changed)) != plain:
            shown = [source.split("\n")[node.lineno - 1].strip() for source in (text, changed)]
            found.append(Mutant(path, changed, node.lineno, kind, *shown))
    return found


def replaced(text: str, node: Any, new: str) -> str:
    """The text with other code in a node's place."""
    rows = text.encode().splitlines(keepends=True)
    starts = [sum(map(len, rows[:row])) for row in (node.lineno - 1, node.end_lineno - 1)]
    first, last = starts[0] + node.col_offset, starts[1] + node.end_col_offset
    data = text.encode()
    return (data[:first] + new.encode() + data[last:]).decode()


def changes(tree: ast.Module, lines: set[int]) -> Iterator[tuple[Any, str, str]]:
    """(a node, the kind of mistake, the code in its place) for each node that begins there."""
    for node, above in walk(tree, ()):
        if getattr(node, "lineno", None) in lines:
            for make in MISTAKES:
                for kind, new in make(node, above):
                    yield node, kind, new


def walk(node: ast.AST, above: tuple[ast.AST, ...]) -> Iterator[tuple[Any, tuple[ast.AST, ...]]]:
    """Nodes with those above them, without what is only words, choice or chance."""
    yield node, above
    for part in ast.iter_child_nodes(node):
        if not is_beside_the_point(part, node):
            yield from walk(part, (*above, node))


def is_beside_the_point(node: ast.AST, parent: ast.AST) -> bool:
    """Whether no check of behaviour can or should see a change below this node."""
    if isinstance(node, ast.JoinedStr) or isinstance(parent, ast.Raise):
        return True  # words
    if isinstance(node, ast.Call) and called(node) in ("print", "manual_seed", "default_rng"):
        return True
    if node in getattr(parent, "decorator_list", []):
        return True
    if isinstance(parent, ast.arguments):
        return not is_default(node, parent)  # annotations
    if isinstance(parent, ast.AnnAssign):
        return node is parent.annotation or not (has_value(parent) or is_default(node, parent))
    if isinstance(parent, ast.FunctionDef) and node is parent.returns:
        return True
    return isinstance(node, ast.If) and ("__name__" in ast.unparse(node.test) or only_tells(node))


def only_tells(node: ast.If) -> bool:
    """Whether all that depends on a condition is what is printed."""
    calls = (part.value for part in node.body if isinstance(part, ast.Expr))
    printed = [call for call in calls if isinstance(call, ast.Call) and called(call) == "print"]
    return len(printed) == len(node.body) and not node.orelse


def has_value(node: ast.AnnAssign) -> bool:
    """Whether it computes something, being no field's default."""
    return node.value is not None and not isinstance(node.value, ast.Constant)


def is_default(node: ast.AST, parent: ast.AST) -> bool:
    """Whether it is a number or a truth that a field or a parameter has if nobody says another; how
    chance begins is no such number."""
    if not isinstance(node, ast.Constant) or not isinstance(node.value, bool | int | float):
        return False
    if isinstance(parent, ast.arguments):
        plain = [*parent.posonlyargs, *parent.args]
        pairs = [
            *zip(plain[::-1], parent.defaults[::-1]),
            *zip(parent.kwonlyargs, parent.kw_defaults),
        ]
        return any(value is node and name.arg != "seed" for name, value in pairs)
    is_field = isinstance(parent, ast.AnnAssign) and isinstance(parent.target, ast.Name)
    return is_field and parent.value is node and parent.target.id != "seed"


def called(node: ast.Call) -> str:
    """The name of what is called, without what it belongs to."""
    return ast.unparse(node.func).rpartition(".")[2]


# The mistakes.


def operators(node: ast.AST, above: tuple[ast.AST, ...]) -> Iterator[tuple[str, str]]:
    """Another operation, or another comparison."""
    if isinstance(node, ast.BinOp | ast.AugAssign | ast.BoolOp) and type(node.op) in SWAPS:
        if any(isinstance(part, ast.JoinedStr) or is_text(part) for part in ast.walk(node)):
            return  # texts are put together
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add) and is_layer(node.right):
            return
        other: Any = copy.deepcopy(node)
        other.op = SWAPS[type(node.op)]()
        text = ast.unparse(other)
        yield "operator", text if isinstance(node, ast.AugAssign) else f"({text})"
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        other = copy.deepcopy(node)
        other.ops = [SWAPS[type(node.ops[0])]()]
        yield "comparison", f"({ast.unparse(other)})"


def is_layer(node: ast.AST) -> bool:
    """Whether it is what a layer makes of something: self.layer(...)."""
    return isinstance(node, ast.Call) and ast.unparse(node.func).startswith("self.")


def is_text(node: ast.AST) -> bool:
    """Whether it is a string."""
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def constants(node: ast.AST, above: tuple[ast.AST, ...]) -> Iterator[tuple[str, str]]:
    """Another number, or the other truth."""
    if not isinstance(node, ast.Constant) or is_default(node, above[-1]):
        return
    value = node.value
    if isinstance(value, bool):
        yield "constant", str(not value)
    elif isinstance(value, int) and not is_first_taken(above):
        yield "constant", str(value + 1)
    elif isinstance(value, float) and (value == 0 or abs(value) >= GUARD):
        yield "constant", repr(2 * value or 1.0)


def defaults(node: ast.AST, above: tuple[ast.AST, ...]) -> Iterator[tuple[str, str]]:
    """What holds if nobody says anything: far more of it, or the other truth."""
    if isinstance(node, ast.Constant) and is_default(node, above[-1]):
        value: Any = node.value
        far = not value if isinstance(value, bool) else type(value)(f"{FAR * value or 1:.12g}")
        yield "default", repr(far)


def keywords(node: ast.AST, above: tuple[ast.AST, ...]) -> Iterator[tuple[str, str]]:
    """A keyword that a call is not given, or that has the next one's value."""
    if not isinstance(node, ast.Call) or isinstance(above[-1], ast.Expr):
        return
    for i, keyword in enumerate(node.keywords):
        if keyword.arg and keyword.arg not in UNSEEN:
            other = copy.deepcopy(node)
            del other.keywords[i]
            yield "no keyword", ast.unparse(other)
    values = [keyword.value for keyword in node.keywords]
    for i, value in from_neighbours(values):
        other = copy.deepcopy(node)
        other.keywords[i].value = value
        yield "neighbour", ast.unparse(other)


def neighbours(node: ast.AST, above: tuple[ast.AST, ...]) -> Iterator[tuple[str, str]]:
    """A value of a dictionary that is the next one's, or its key."""
    if isinstance(node, ast.Dict):
        for i, value in from_neighbours(node.values):
            other = copy.deepcopy(node)
            other.values[i] = value
            yield "neighbour", ast.unparse(other)
    if isinstance(node, ast.DictComp):
        yield "neighbour", ast.unparse(ast.DictComp(node.key, node.key, node.generators))


def fields(node: ast.AST, above: tuple[ast.AST, ...]) -> Iterator[tuple[str, str]]:
    """A field of a class that is made as the next one is."""
    owner = above[-2] if len(above) > 1 and isinstance(above[-1], ast.AnnAssign) else None
    if isinstance(owner, ast.ClassDef) and isinstance(node, ast.Call):
        parts = [part for part in owner.body if isinstance(part, ast.AnnAssign)]
        values = [part.value for part in parts if part.value]
        for i, value in from_neighbours(values):
            if values[i] is node:
                yield "neighbour", ast.unparse(value)


def from_neighbours(values: list[ast.expr]) -> Iterator[tuple[int, ast.expr]]:
    """(a value's place, the next one) where both are of a kind; the last one's is the first."""
    for i, value in enumerate(values):
        other = values[(i + 1) % len(values)]
        if kind_of(value) == kind_of(other) and not is_text(value):
            yield i, other


def kind_of(node: ast.expr) -> tuple[type, type]:
    """What a value looks like, so that one of another kind would be an error at once."""
    return type(node), type(node.value) if isinstance(node, ast.Constant) else type(None)


def sides(node: ast.AST, above: tuple[ast.AST, ...]) -> Iterator[tuple[str, str]]:
    """One side of "and" or "or" is forgotten."""
    if isinstance(node, ast.BoolOp):
        for i in range(len(node.values)):
            left = [value for j, value in enumerate(node.values) if j != i]
            kept = left[0] if len(left) == 1 else ast.BoolOp(node.op, left)
            yield "one side", f"({ast.unparse(kept)})"


def is_first_taken(above: tuple[ast.AST, ...]) -> bool:
    """Whether it says how many a call is to find, of which only the first is looked at."""
    calls = [i for i, part in enumerate(above) if isinstance(part, ast.Call)][-1:]
    outer = above[calls[0] - 1] if calls else None
    return isinstance(outer, ast.Subscript) and ast.unparse(outer.slice) in ("0", ":, 0", "(:, 0)")


def bounds(node: ast.AST, above: tuple[ast.AST, ...]) -> Iterator[tuple[str, str]]:
    """One too far: an end of a slice or a range."""
    parent = above[-1] if above else None
    in_range = isinstance(parent, ast.Call) and called(parent) == "range" and node in parent.args
    is_end = isinstance(parent, ast.Slice) and node is not parent.step
    if (in_range or is_end) and isinstance(node, ast.expr) and not isinstance(node, ast.Constant):
        yield "off by one", f"{ast.unparse(node)} + 1"


def conditions(node: ast.AST, above: tuple[ast.AST, ...]) -> Iterator[tuple[str, str]]:
    """A condition turned round."""
    parent = above[-1] if above else None
    if isinstance(parent, ast.If | ast.IfExp | ast.While) and node is parent.test:
        if not isinstance(node, ast.Compare):  # that is another kind
            yield "condition", f"(not ({ast.unparse(node)}))"
    if isinstance(parent, ast.comprehension) and node in parent.ifs:
        yield "condition", "True"
    if isinstance(parent, ast.Call) and called(parent) == "require" and node is parent.args[0]:
        yield "condition", f"(not ({ast.unparse(node)}))"


def parts(node: ast.AST, above: tuple[ast.AST, ...]) -> Iterator[tuple[str, str]]:
    """One side of a sum or a product is forgotten."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub | ast.Mult | ast.Div):
        if not any(isinstance(part, ast.JoinedStr) or is_text(part) for part in ast.walk(node)):
            yield "half", f"({ast.unparse(node.left)})"
            yield "half", f"({ast.unparse(node.right)})"


def calls(node: ast.AST, above: tuple[ast.AST, ...]) -> Iterator[tuple[str, str]]:
    """A method that is not called, or two arguments in each other's places."""
    if not isinstance(node, ast.Call) or isinstance(above[-1], ast.Expr):
        return
    if isinstance(node.func, ast.Attribute) and node.func.attr not in LAYOUT:
        if ast.unparse(node.func.value).partition(".")[0] not in imported(above[0]):
            yield "no call", ast.unparse(node.func.value)
    if len(node.args) > 1 and not any(map(is_text, node.args)) and called(node) not in SYMMETRIC:
        other = copy.deepcopy(node)
        other.args[:2] = other.args[1::-1]
        yield "swapped", ast.unparse(other)


def imported(tree: ast.AST) -> set[str]:
    """The names that a file imports, whose calls are functions and no methods."""
    kinds = (ast.Import, ast.ImportFrom)
    found = (alias for node in ast.walk(tree) if isinstance(node, kinds) for alias in node.names)
    return {(alias.asname or alias.name).partition(".")[0] for alias in found} | {"super()"}


def dropped(node: ast.AST, above: tuple[ast.AST, ...]) -> Iterator[tuple[str, str]]:
    """A statement that is forgotten, where Python would not complain at once."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        if called(node.value) not in ("print", "manual_seed"):
            yield "forgotten", "pass"
    if isinstance(node, ast.Raise | ast.AugAssign):
        yield "forgotten", "pass"
    function = next((f for f in reversed(above) if isinstance(f, ast.FunctionDef)), None)
    if isinstance(node, ast.Assign) and function:
        names = {part.id for t in node.targets for part in ast.walk(t) if is_name(part)}
        own_slot = all(isinstance(t, ast.Subscript) for t in node.targets)
        if own_slot or (names and names <= known_before(function, node)):
            yield "forgotten", "pass"


def is_name(node: Any) -> bool:
    """Whether it is a name that gets a value."""
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)


def known_before(function: ast.FunctionDef, node: ast.Assign) -> set[str]:
    """The names that have a value before a statement."""
    earlier = (part for part in ast.walk(function) if is_name(part))
    names = {part.id for part in earlier if part.lineno < node.lineno}  # type: ignore[attr-defined]
    return names | {argument.arg for argument in function.args.args}


MISTAKES = (
    operators,
    constants,
    defaults,
    keywords,
    neighbours,
    fields,
    sides,
    bounds,
    conditions,
    parts,
    calls,
    dropped,
)

# Which of them, and what becomes of them.


def typed(series: Series, lesson: Lesson) -> dict[str, set[int]]:
    """The lines, from 1, that a lesson's typed steps wrote and that stand at its end."""
    found: dict[str, set[int]] = {}
    for path, lines in authors(series, series.after(lesson)).items():
        for number, (_, step) in enumerate(lines, 1):
            if step.lesson == lesson and step.kind == "type":
                found.setdefault(path, set()).add(number)
    return found


def chosen(series: Series, lesson: Lesson, count: int = COUNT, seed: int = SEED) -> list[Mutant]:
    """That many mutants of a lesson, of each kind in turn."""
    tree, draw = series.tree(series.after(lesson)), random.Random(f"{seed} {lesson.name}")
    kinds: dict[str, list[Mutant]] = {}
    for path, lines in sorted(typed(series, lesson).items()):
        for mutant in mutants(path, tree[path], lines):
            kinds.setdefault(mutant.kind, []).append(mutant)
    for group in kinds.values():
        draw.shuffle(group)
    found: list[Mutant] = []
    while len(found) < count and any(kinds.values()):
        found += [group.pop() for _, group in sorted(kinds.items()) if group]
    return found[:count]


def catcher(shop: Workshop, lesson: Lesson, mutant: Mutant) -> str:
    """The first check that fails, the lesson's own before the others; "" where none does."""
    series, end = shop.series, shop.series.after(lesson)
    due = sorted(due_checks(series, lesson), key=lambda pair: pair[0] != lesson)
    tree = series.tree(end) | {mutant.path: mutant.text}
    folder = shop.folder("mutant", tree, lesson)
    return first_to_fail(folder, series, due, end, CPU_SECONDS)


def try_lesson(count: int, seed: int, shop: Workshop, lesson: Lesson) -> tuple[int, int]:
    """How many of a lesson's mutants are caught, and of how many; the others are told."""
    found = chosen(shop.series, lesson, count, seed)
    if not found:
        print(f"lesson {lesson.number}: skipped, as it lets nothing be typed that can be changed")
        return 0, 0
    alive = [mutant for mutant in found if not catcher(shop, lesson, mutant)]
    print(f"lesson {lesson.number}: {len(found) - len(alive)} of {len(found)} mutants caught")
    for mutant in alive:
        print(f"  ALIVE: {mutant.path}, line {mutant.line} ({mutant.kind})")
        print(f"    - {mutant.before}\n    + {mutant.after}")
    return len(found) - len(alive), len(found)


def try_all(
    series: Series, words: list[str], count: int = COUNT, seed: int = SEED, workers: int = WORKERS
) -> bool:
    """The mutants of all lessons, or of some; returns whether enough are caught."""
    lessons = asked_for(series, words)
    work = functools.partial(try_lesson, count, seed)
    scores = for_each(series, lessons, work, workers)
    caught, every = (sum(score[i] for score in scores if score) for i in (0, 1))
    if not every:
        print("there is no mutant to be caught")
        return all(scores)
    share = caught / every
    print(f"{caught} of {every} mutants caught, {share:.0%}; at least {LEAST:.0%} are wanted")
    return share >= LEAST and all(scores)
