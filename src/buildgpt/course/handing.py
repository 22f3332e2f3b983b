"""Steps that are handed over: a change of the reference's, put into a learner's own file.

Only what surely fits is put in, function by function, and method by method in a class of which
some is the learner's own. What they wrote otherwise, or do not have, is named, and stays for them
to bring in.
"""

import ast
from dataclasses import dataclass, field
from typing import TypeGuard


@dataclass
class Merged:
    """A learner's file with a step's change, and the symbols that they have to see to."""

    text: str
    own: list[str] = field(default_factory=list)  # theirs differ, and stay; "" is a head of one
    lacking: list[str] = field(default_factory=list)  # to be changed or used, and not there


def hand_over(theirs: str, before: str, after: str) -> Merged:
    """Put a step's change of one file into theirs, symbol by symbol.

    What they have as the reference had it, apart from comments, docstrings and layout, is
    replaced; what is new is added, with the imports that it needs; what is their own stays.
    """
    if not theirs.strip() or same_code(theirs, before):
        return Merged(after)
    old, new, mine = blocks(before), blocks(after), blocks(theirs)
    done = Merged("")
    put = merge(mine, old, new, done)
    done.own += head_of(mine, old.get("", ""), new.get("", ""), used(put))
    wanted = used(put) & {*new} - {*mine} - bound(mine[""])
    done.lacking += sorted(wanted - {*done.lacking})
    done.text = "\n\n\n".join(t.strip("\n") for t in mine.values()).lstrip("\n") + "\n"
    return done


def merge(
    mine: dict[str, str], old: dict[str, str], new: dict[str, str], done: Merged, of: str = ""
) -> list[str]:
    """Put the parts that a step adds or changes into theirs; returns the code that was put in.

    `of` is what a part's name is told with: "Trainer." for the parts of that class.
    """
    put = []
    for name in new:
        if name and old.get(name) != new[name]:
            put += settle(name, mine, old, new, done, of)
    for name in old.keys() - new.keys():
        others = [text for key, text in mine.items() if key and key != name]
        needed = used(others) | attributes(others)
        if name in mine and same_code(mine[name], old[name]) and name not in needed:
            del mine[name]
    return put


def settle(
    name: str,
    mine: dict[str, str],
    old: dict[str, str],
    new: dict[str, str],
    done: Merged,
    of: str,
) -> list[str]:
    """One part that a step adds or changes; returns the code that was put in, if it was."""
    text = new[name]
    if name not in mine and name in old:
        done.lacking.append(of + name)
    elif name not in mine:
        insert(mine, name, text, [*new])
        return [text]
    elif same_code(mine[name], old.get(name, "")):
        mine[name] = text
        return [text]
    elif all(map(is_class, (mine[name], old.get(name, ""), text))):
        return settle_class(name, text, old[name], mine, done)
    elif not same_code(mine[name], text):
        done.own.append(of + name)
    return []


def settle_class(
    name: str, text: str, before: str, mine: dict[str, str], done: Merged
) -> list[str]:
    """A class of which some is their own: what is not follows the step."""
    old, new, parts = members(before), members(text), members(mine[name])
    inside = Merged("")
    put = merge(parts, old, new, inside, f"{name}.")
    here, was, now = (f"{head}    pass\n" for head in (parts[""], old[""], new[""]))
    if same_code(here, was):
        parts[""] = new[""]
    elif not same_code(was, now):
        inside.own.append(f"the first line of {name}")
    whole = joined(parts)
    if not is_class(whole):  # laid out in a way that ours does not fit into
        done.own.append(name)
        return []
    lacks = attributes(put) & known(text) - known(whole)
    done.own += inside.own
    done.lacking += inside.lacking + sorted(f"{name}.{lack}" for lack in lacks)
    mine[name] = whole
    return put


def insert(mine: dict[str, str], name: str, text: str, order: list[str]) -> None:
    """Put a new symbol before the first of those that come after it in the reference."""
    later = {*order[order.index(name) + 1 :]}
    items = [*mine.items()]
    places = (i for i, (own, _) in enumerate(items) if own in later)
    place = next(places, len(items))
    mine.clear()
    mine.update([*items[:place], (name, text), *items[place:]])


def head_of(mine: dict[str, str], old: str, new: str, needed: set[str]) -> list[str]:
    """Renew a file's head; returns [""] if it has to be seen to by its owner."""
    head = mine.setdefault("", "")
    if same_code(head, old):
        mine[""] = new
        return []
    fresh = {key: line for key, line in imports(new).items() if key not in imports(old)}
    wanted = fresh | {key: line for key, line in imports(new).items() if key in needed}
    mine[""] = with_imports(head, wanted)
    mine[""] += constants(new, needed - bound(mine[""]))
    return [""] if statements(new) - statements(old) - statements(mine[""]) else []


def imports(code: str) -> dict[str, tuple[str, str]]:
    """What a file's head imports: each name, where from ("" for a module), and as it is written."""
    found = {}
    for node in ast.parse(code).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            source = ""
            if isinstance(node, ast.ImportFrom):
                source = "." * node.level + (node.module or "")
            for alias in node.names:
                name = alias.asname or alias.name.partition(".")[0]
                found[name] = source, ast.unparse(alias)
    return found


def with_imports(head: str, wanted: dict[str, tuple[str, str]]) -> str:
    """A file's head with the imports that it lacks."""
    missing = [wanted[name] for name in wanted.keys() - bound(head)]
    lines = [f"import {words}\n" for source, words in sorted(missing) if not source]
    for source in sorted({source for source, _ in missing if source}):
        names = ", ".join(sorted(words for where, words in missing if where == source))
        lines.append(f"from {source} import {names}\n")
    return head + "".join(lines)


def bound(code: str) -> set[str]:
    """The names that a file's head defines or imports."""
    stored = {
        node.id
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    return stored | {*imports(code)}


def constants(head: str, names: set[str]) -> str:
    """The assignments of a file's head that give these names their values."""
    nodes = (node for node in ast.parse(head).body if isinstance(node, ast.Assign | ast.AnnAssign))
    return "".join(f"{ast.unparse(n)}\n" for n in nodes if bound(ast.unparse(n)) & names)


def used(code: list[str]) -> set[str]:
    """The names that some code reads."""
    nodes = (node for text in code for node in ast.walk(parsed(text)))
    return {node.id for node in nodes if isinstance(node, ast.Name)}


def attributes(code: list[str], of: type[ast.expr_context] = ast.Load) -> set[str]:
    """The attributes of itself, self.name, that a class's code reads."""
    nodes = (node for text in code for node in ast.walk(parsed(text)))
    return {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute)
        and ast.unparse(node.value) == "self"
        and isinstance(node.ctx, of)
    }


def known(code: str) -> set[str]:
    """The attributes that a class has from its own code: fields, methods and what it stores."""
    return {*members(code)} | attributes([code], ast.Store)


def statements(head: str) -> set[str]:
    """What a file's head does beside importing."""
    kinds = (ast.Import, ast.ImportFrom)
    body = ast.parse(head).body
    return {ast.unparse(node) for node in body if not isinstance(node, kinds) and not is_text(node)}


def same_code(one: str, other: str) -> bool:
    """Whether two texts are the same program, apart from comments, docstrings and layout."""
    try:
        return shape(one) == shape(other)
    except SyntaxError:
        return False


def shape(code: str) -> str:
    """A program without comments, docstrings and layout."""
    tree = parsed(code)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):  # what a docstring alone filled, `pass` fills as well
            kept = [part for part in body if not (is_text(part) or isinstance(part, ast.Pass))]
            node.body = kept  # type: ignore[attr-defined]
    return ast.dump(tree)


def parsed(code: str) -> ast.Module:
    """Some code, which may be what stands within a class."""
    return ast.parse(f"class _:\n{code}" if code.startswith((" ", "\t")) else code)


def is_class(code: str) -> bool:
    """Whether some code is one class and nothing else."""
    try:
        return [type(node) for node in ast.parse(code).body] == [ast.ClassDef]
    except SyntaxError:
        return False


def is_text(node: ast.AST) -> bool:
    """Whether a statement is a string and nothing else."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def blocks(code: str) -> dict[str, str]:
    """A file in parts: "" is its head, then each class and function with what follows it."""
    body = ast.parse(code).body
    kinds = [*map(is_definition, body), True]
    return cut(code, [node for node in body[kinds.index(True) :] if not is_text(node)])


def members(code: str) -> dict[str, str]:
    """A class in parts: "" is its head, then each field and method with what follows it."""
    (node,) = ast.parse(code).body
    assert isinstance(node, ast.ClassDef)
    return cut(code, [part for part in node.body if not is_text(part)])


def joined(parts: dict[str, str]) -> str:
    """A class from its parts: fields line by line, a blank line around methods."""
    text, before = parts[""].strip("\n"), True
    for name, part in parts.items():
        if name:
            method = part.lstrip().startswith(("def ", "@", "class "))
            text += ("\n\n" if method or before else "\n") + part.strip("\n")
            before = method
    return f"{text}\n"


def cut(code: str, nodes: list[ast.stmt]) -> dict[str, str]:
    """Code in parts that begin with these statements, by name; "" is what stands before."""
    lines = code.split("\n")  # as Python counts them; splitlines() cuts at form feeds, too
    found: dict[str, str] = {}
    starts = [(0, "")]
    for node in nodes:
        if is_definition(node):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            starts.append((first - 1, node.name))
        else:
            name = ast.unparse(node).split("=")[0].split(":")[0].strip()
            starts.append((node.lineno - 1, name))
    for (start, name), (stop, _) in zip(starts, [*starts[1:], (len(lines), "")]):
        while name in found:  # a second one of that name stays where it is
            name += " "
        found[name] = "\n".join(lines[start:stop]).strip("\n") + "\n"
    return found


def is_definition(node: ast.AST) -> TypeGuard[ast.ClassDef | ast.FunctionDef]:
    """Whether a statement defines a class or a function."""
    return isinstance(node, ast.ClassDef | ast.FunctionDef)
