"""One commit as `git format-patch` writes it, applied to a tree of texts without git.

A tree is a dict from a path, with slashes, to a text whose every line ends with a line feed.
"""

import re
from dataclasses import dataclass, field

Tree = dict[str, str]
HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")


class BadPatch(Exception):
    """A patch that is none, or that does not fit the tree."""


@dataclass(frozen=True)
class Hunk:
    """Lines with their mark (' ', '+' or '-'), and where the old ones begin, from 0."""

    start: int
    lines: list[str]

    def old(self) -> list[str]:
        """What must be there."""
        return [line[1:] for line in self.lines if line[0] in " -"]

    def new(self) -> list[str]:
        """What is there afterwards."""
        return [line[1:] for line in self.lines if line[0] in " +"]


@dataclass(frozen=True)
class Patch:
    """A commit: what it makes true, what else it says of itself, and what changes in which file."""

    subject: str
    trailers: dict[str, str]
    files: dict[str, list[Hunk]] = field(default_factory=dict)
    deleted: tuple[str, ...] = ()

    def added(self) -> list[str]:
        """Every line that it adds."""
        marked = (line for hunks in self.files.values() for hunk in hunks for line in hunk.lines)
        return [line[1:] for line in marked if line[0] == "+"]

    def apply(self, tree: Tree) -> Tree:
        """The tree afterwards; BadPatch where it does not fit exactly."""
        after = dict(tree)
        for path, hunks in self.files.items():
            lines = change(after.get(path, "").split("\n")[:-1], hunks, path)
            after[path] = "".join(f"{line}\n" for line in lines)
        for path in self.deleted:
            del after[path]
        return after


def change(lines: list[str], hunks: list[Hunk], path: str) -> list[str]:
    """A file's lines after its hunks."""
    done, read = [], 0
    for hunk in hunks:
        stop = hunk.start + len(hunk.old())
        if hunk.start < read or lines[hunk.start : stop] != hunk.old():
            raise BadPatch(f"{path} is not as the patch expects at line {hunk.start + 1}")
        done += lines[read : hunk.start] + hunk.new()
        read = stop
    return done + lines[read:]


def parse(text: str) -> Patch:
    """Read a patch; BadPatch if it is none."""
    head, _, rest = text.partition("\n\n")
    subject = re.search(r"^Subject: (.*(?:\n .*)*)", head, re.M)
    message, line, body = rest.partition("\n\ndiff --git ")
    if not subject or not line:
        raise BadPatch("it does not look like a patch of git format-patch")
    trailers = dict(re.findall(r"^([A-Z]\w+): (.+)$", message, re.M))
    name = subject[1].replace("\n", "").strip()
    files, deleted = {}, []
    for part in re.split(r"^diff --git ", body, flags=re.M):
        path = part.partition("\n")[0].partition(" b/")[2]
        if "\ndeleted file mode" in part.partition("@@")[0]:
            deleted.append(path)
        else:
            files[path] = read_hunks(part.split("\n"))
    return Patch(name, trailers, files, tuple(deleted))


def read_hunks(lines: list[str]) -> list[Hunk]:
    """One file's hunks."""
    hunks: list[Hunk] = []
    left = [0, 0]  # old and new lines that the hunk still promises
    for line in lines:
        if left == [0, 0]:
            if head := HUNK.match(line):
                start, old, _, new = (1 if part is None else int(part) for part in head.groups())
                left = [old, new]
                hunks.append(Hunk(start - 1 if old else start, []))
            continue
        line = line or " "  # a mail program may have cut the mark of an empty line
        hunks[-1].lines.append(line)
        left = [left[0] - (line[0] in " -"), left[1] - (line[0] in " +")]
    if left != [0, 0]:
        raise BadPatch("a hunk is shorter than it promises")
    return hunks
