"""Build the site from the course, the docs and the help texts: python tools/site.py [FOLDER]

Pages are laid out as Markdown in tmp/site, then Sphinx makes the static site, in site/ unless told
otherwise. What it shows of the course comes from the same sources as in a terminal.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer
from site_figures import after_step, band, losses

from buildgpt.course import gallery, owners, prose, warm_up, zoo
from buildgpt.course.series import UNCARVED, Lesson, Series, Step

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "docs" / "site"  # written by hand
SOURCE = ROOT / "tmp" / "site"  # laid out for Sphinx
DOCS = ("reproduce.md", "carving.md", "log.md")
OPENING = (
    "The course is the code: its commits, applied in order, are `src/buildgpt/gpt`, byte for byte."
    " Start with `buildgpt course start my-gpt`; each lesson can be read here as well."
)
KINDS = {"type": "type it", "take": "take it", "read": "read it"}


def main() -> int:
    """Lay the pages out and build them; returns Sphinx's exit status."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "site"
    if target.exists() and not (target / "searchindex.js").exists() and any(target.iterdir()):
        print(f"error: {target} holds something else than a site; give another", file=sys.stderr)
        return 1
    lay_out(Series())
    shutil.rmtree(target, ignore_errors=True)
    words = ["-b", "html", "-W", "--keep-going", "-q", "-d", str(ROOT / "tmp" / "site-cache")]
    command = [sys.executable, "-m", "sphinx", *words, str(SOURCE), str(target)]
    status = subprocess.run(command).returncode
    if status == 0:
        print(f"the site is in {target}: open {target / 'index.html'}")
    return status


def lay_out(series: Series) -> None:
    """Write every page's source anew."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    shutil.copytree(PAGES, SOURCE)
    for name in DOCS:
        write(name, on_site((ROOT / "docs" / name).read_text(encoding="utf-8")))
    write("glossary.md", glossary(series))
    write("commands.md", commands())
    write("owners.md", ownership(series))
    write("gallery.md", gallery_page(series))
    write("zoo.md", zoo_page(series))
    write("course/index.md", overview(series))
    write(f"course/{warm_up.FOLDER}.md", warm_up_page(series))
    for lesson in series.lessons:
        write(f"course/{lesson.name}.md", lesson_page(series, lesson))
    data = json.dumps(history(series), separators=(",", ":"), ensure_ascii=False)
    write("_static/series.js", f"window.SERIES = {data};\n")


def write(name: str, text: str) -> None:
    """One file of the source."""
    path = SOURCE / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def on_site(text: str) -> str:
    """Links into the repository become plain words; those to pages of the site stay."""
    here = {"(" + name + ")" for name in DOCS}

    def link(match: re.Match) -> str:
        stays = match[2] in here or match[2].startswith(("(http", "(#"))
        return match[0] if stays else match[1]

    return re.sub(r"(?<!!)\[([^\]]+)\](\([^)]+\))", link, text)


# Lessons.


def overview(series: Series) -> str:
    """The syllabus so far, part by part."""
    lines, part = ["# The course", "", OPENING, ""], ""
    lines += ["0. [Warm-up: shapes, broadcasting, gradients](warm-up.md), if they are new", ""]
    for lesson in series.lessons:
        if lesson.facts["part"] != part:
            part = lesson.facts["part"]
            lines += [f"## {part}", ""]
        facts = f"{lesson.facts['minutes']} minutes, {len(lesson.steps)} steps"
        lines.append(f"{lesson.number}. [{lesson.title}]({lesson.name}.md), {facts}")
    pages = [warm_up.FOLDER, *(lesson.name for lesson in series.lessons)]
    return "\n".join([*lines, "", "```{toctree}", ":hidden:", *pages, "```", ""])


def warm_up_page(series: Series) -> str:
    """The questions, each with its answer hidden, and the parts."""
    course, known = series.course, warm_up.parts(series.course)
    parts = ["# 0. Warm-up: shapes, broadcasting, gradients", "*optional · 30 minutes*"]
    parts.append(
        "Five questions decide whether to skip this page; in a terminal `buildgpt course warm-up`"
        " asks them. Who can answer all of them begins with lesson 1."
    )
    for number, asked in enumerate(warm_up.questions(course), 1):
        answer = hidden("The answer", f"**{asked.shown}** {asked.reasoning}")
        parts += [f"{number}\\. {asked.question}", answer]
    parts.append(known[""].strip())
    for name in warm_up.demos(course):
        words, run = warm_up.part(course, name)
        parts += [f"## {name.capitalize()}", words.text]
        parts.append(fenced("{code-block} python", run.text.rstrip()))
        parts.append(fenced("{code-block} text", ":caption: it prints\n\n" + run.output.rstrip()))
    return "\n\n".join([*parts, known["end"].strip()]) + "\n"


def lesson_page(series: Series, lesson: Lesson) -> str:
    """A lesson: its words, each step's code before and after, outputs, predictions and hints."""
    facts = lesson.facts
    parts = [f"# {lesson.number}. {lesson.title}"]
    parts.append(f"*{facts['part']} · {facts['minutes']} minutes · {facts['presumes']}*")
    parts.append(f'<p class="sees">You will see: {facts["sees"]}</p>')
    parts += timing(series, lesson)
    parts += blocks(series, lesson, "")
    for step in lesson.steps:
        parts += step_parts(series, step)
    parts += ending(series, lesson)
    solution = lesson.folder / "exercise" / "solution.py"
    if solution.exists():
        text = solution.read_text(encoding="utf-8")
        parts.append(hidden("A solution of the exercise", fenced("python", text)))
    return "\n\n".join(parts) + "\n"


def ending(series: Series, lesson: Lesson) -> list[str]:
    """The words after the last step; below "what you have now" the band of its loss."""
    text = "\n\n".join(blocks(series, lesson, "end"))
    parts = [part.strip() for part in re.split(r"^(?=## )", text, flags=re.M) if part.strip()]
    return [parts[0], *band(series, lesson), *parts[1:]]


def timing(series: Series, lesson: Lesson) -> list[str]:
    """How long the machine takes for a lesson, where that was recorded."""
    path = series.course / "times.json"
    facts = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    found = facts.get("seconds", {}).get(lesson.name)
    if not found:
        return []
    words = (
        f"On {facts['cores']} cores ({facts['processor']}) its longest run takes"
        f" {found['longest']:.0f} seconds, all runs {found['runs']:.0f}, and the checks of all"
        f" lessons so far {found['check']:.0f}."
    )
    return [f'<p class="timing">{words}</p>']


def step_parts(series: Series, step: Step) -> list[str]:
    """One step of a lesson's page."""
    parts = [f"## {step.label} {step.patch.subject}"]
    kind = f'<span class="kind">{KINDS[step.kind]}</span>'
    parts.append(f'{kind} <a href="../slider.html#{step.label}">all files after it</a>')
    parts += blocks(series, step.lesson, step.slug)
    parts += after_step(series, step.id)
    rungs = prose.hints(step.lesson).get(step.slug, [])
    names = ("a question", "the place", "the shape of the code")
    parts += [hidden(f"Hint {i + 1}: {names[i]}", rung) for i, rung in enumerate(rungs)]
    return parts


def blocks(series: Series, lesson: Lesson, name: str) -> list[str]:
    """A section's words, code and outputs."""
    asked = [entry for entry in lesson.facts.get("predict", []) if entry["step"] == name]
    recorded = prose.records(series.course)
    parts = []
    for block in prose.section(series, lesson, name):
        if block.kind == "words":
            parts.append(linked(block.text, series))
        elif block.kind == "code":
            parts.append(code(block))
        else:
            parts += attempt(block, asked, recorded)
    return parts


def code(block: prose.Block) -> str:
    """Code as it is after the step and, where a part of it is new, what changed and as it was."""
    after = [(mark, line) for mark, line in block.lines if mark != "-"]
    before = [line for mark, line in block.lines if mark != "+"]
    new = [str(i + 1) for i, (mark, _) in enumerate(after) if mark == "+"]
    title = re.sub(r"^\S+\.py", r"`\g<0>`", block.title)  # not bold, as in __init__.py
    options = f":caption: {title}\n" + (f":emphasize-lines: {','.join(new)}\n" if new else "")
    text = fenced("{code-block} python", options + "\n" + "\n".join(line for _, line in after))
    if all(mark == " " for mark, _ in block.lines):
        return text
    old = fenced("{code-block} python", f":caption: {title}\n\n" + "\n".join(before))
    marked = "\n".join(f"{mark}{line}".rstrip() for mark, line in block.lines)
    change = fenced("{code-block} diff", f":caption: {title}\n\n{marked}")
    tabs = (("After", text), ("Change", change), ("Before", old))
    items = "\n".join(f"::::{{tab-item}} {name}\n{inside}\n::::" for name, inside in tabs)
    return f":::::{{tab-set}}\n{items}\n:::::"


def attempt(block: prose.Block, asked: list[dict], recorded: dict) -> list[str]:
    """The demo and what it prints; hidden behind a question where there is one."""
    parts = []
    if block.text:
        parts.append(fenced("{code-block} python", ":caption: try.py\n\n" + block.text.rstrip()))
    shown = fenced("{code-block} text", ":caption: it prints\n\n" + block.output.rstrip())
    for entry in asked:
        parts.append(f":::{{admonition}} Before you run it\n{entry['question']}\n:::")
        shown += "\n\n" + prose.fill(entry["reasoning"].strip(), recorded)
    if block.output:
        parts.append(hidden("What it prints, and why", shown) if asked else shown)
    return parts


def hidden(title: str, text: str) -> str:
    """Something that opens when it is asked for."""
    return f"::::{{dropdown}} {title}\n{text}\n::::"


def verbatim(text: str) -> str:
    """A title in which no sign is meant as Markdown."""
    return re.sub(r"([\\`*_\[\]<>{}$])", r"\\\1", text)


def fenced(kind: str, text: str) -> str:
    """A block of code, in a fence that the code does not hold."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}{kind}\n{text}\n{fence}"


# Words.


def linked(text: str, series: Series) -> str:
    """A lesson's words, the terms that it defines linked with the glossary."""
    known = prose.glossary(series.course)

    def link(match: re.Match) -> str:
        term = " ".join(match[1].split())
        return f"**{{term}}`{term}`**" if term in known else match[0]

    return re.sub(r"\*\*([^*`]+)\*\*", link, text)


def glossary(series: Series) -> str:
    """All terms in order, each with the lesson that defines it."""
    lines = ["# Glossary", "", "```{glossary}"]
    for term, words in sorted(prose.glossary(series.course).items(), key=lambda t: t[0].lower()):
        lesson = prose.defined_in(series, term)
        where = f" [Lesson {lesson.number}](course/{lesson.name}.md)" if lesson else ""
        lines += [term, f"  {words}{where}", ""]
    return "\n".join([*lines, "```", ""])


def commands() -> str:
    """Every verb's help, as it is printed."""
    from typer.testing import CliRunner

    from buildgpt.cli import app

    def help_of(*verb: str) -> str:
        shown = CliRunner(env={"COLUMNS": "84", "TERM": "dumb"})
        return shown.invoke(app, [*verb, "--help"], prog_name="buildgpt").stdout.rstrip()

    parts = ["# Commands", fenced("text", help_of())]
    for verb in verbs(help_of()):
        parts += [f"## buildgpt {verb}", fenced("text", help_of(verb))]
        for inner in verbs(help_of(verb)) if verb == "course" else []:
            parts += [f"### buildgpt course {inner}", fenced("text", help_of(verb, inner))]
    return "\n\n".join(parts) + "\n"


def verbs(text: str) -> list[str]:
    """The verbs that a help text lists."""
    return re.findall(r"^  ([a-z-]+) ", text.partition("Commands:")[2], flags=re.M)


# The gallery, and the zoo.


def gallery_page(series: Series) -> str:
    """What each lesson's model makes of one prompt, as it was recorded."""
    facts = json.loads((series.course / "gallery.json").read_text(encoding="utf-8"))
    parts = [
        "# The gallery",
        f"One prompt, `{gallery.PROMPT}`, continued by the model of each lesson that has changed"
        " it. `buildgpt course gallery` lets your own models talk. The loss is that of the same"
        " sequences of Shakespeare for all of them.",
    ]
    pictures, title = gallery.recorded(series), ""
    parts.append(losses(pictures))
    for picture in pictures:
        if picture.title != title:
            title = picture.title
            lesson = next(one for one in series.lessons if one.number == picture.lesson)
            parts.append(f"## Lesson {lesson.number}: [{lesson.title}](course/{lesson.name}.md)")
        parts.append(f"{picture.what[:1].upper()}{picture.what[1:]}. Loss {picture.loss:.2f}.")
        parts.append(fenced("text", gallery.PROMPT + gallery.readable(picture.text)))
    made = f"Recorded on {facts['date']}, {facts['processor']}, PyTorch {facts['torch']},"
    return "\n\n".join([*parts, f"{made} by `{facts['command']}`."]) + "\n"


def zoo_page(series: Series) -> str:
    """Each bug by its symptom; where it is from is told to who asks."""
    words = (
        "Each is a real bug of a known project, put into a copy of the code that you know. Only its"
        " symptom shows. `buildgpt course bug N` puts number N into your folder, with a script that"
        " shows the symptom; find it, mend it, and `buildgpt course check` says whether it is gone."
    )
    parts = ["# The bug zoo", words]
    for bug in zoo.bugs(series):
        facts, source = bug.facts, bug.facts["source"]
        first = int(str(facts.get("after", facts["lesson"])).partition("-")[0])
        parts += [
            f"## {bug.number}. {verbatim(facts['title'])}",
            f"*From the end of lesson {first} on*",
        ]
        parts.append(facts["symptom"].strip())
        link = f"[{source['project']}, {source['what']}]({source['address']})"
        cited = f"{link}: {verbatim(source['title'])}, {source['date']}"
        parts.append(hidden("Where it was found, which gives it away", cited))
    return "\n\n".join(parts) + "\n"


# Who writes what.


def ownership(series: Series) -> str:
    """Which lesson and step wrote each file and symbol of the core, and what waits for one."""
    owned = owners.owners(series)
    files = owners.by_file(owned)
    left, every = sum(one.uncarved for one in files), sum(one.lines for one in files)
    words = (
        f"Steps of the course write {every - left:,} of the core's {every:,} lines, those that are"
        " empty not counted."
    )
    parts = ["# Who writes what", words, owned_table("file", [(one.path, one) for one in files])]
    for file in files:
        inside = [(one.symbol, one) for one in owned if one.path == file.path]
        parts.append(hidden(file.path, owned_table("symbol", inside)))
    return "\n\n".join(parts) + "\n"


def owned_table(what: str, rows: list[tuple[str, owners.Owned]]) -> str:
    """Names, their lines, and the steps that wrote them."""
    lines = [f"| {what} | lines | steps |", "| --- | ---: | --- |"]
    for name, one in rows:
        steps = [f'<a href="slider.html#{s.label}">{s.label}</a>' for s, _ in one.carved()]
        steps += [f"{one.uncarved} lines wait for a lesson"] * bool(one.uncarved)
        shown = name if name == owners.HEAD else f"`{name}`"
        lines.append(f"| {shown} | {one.lines} | {', '.join(steps)} |")
    return "\n".join(lines)


# The slider.


def history(series: Series) -> dict:
    """Each step's files by the number of their version; each file's versions."""
    versions: dict[str, list[dict]] = {}
    texts: dict[str, str] = {}
    steps = []
    for step in series.steps:
        for path, text in series.tree(step.index + 1).items():
            if texts.get(path) != text:
                versions.setdefault(path, []).append(version(texts.get(path, ""), text))
                texts[path] = text
        files = {path: len(versions[path]) - 1 for path in sorted(series.tree(step.index + 1))}
        steps.append(described(step) | {"files": files})
    return {"steps": steps, "versions": versions}


def described(step: Step) -> dict:
    """What the slider says of a step."""
    if step.lesson.name == UNCARVED:
        return {"label": "the rest", "subject": step.patch.subject, "lesson": "not carved yet"}
    lesson = f"Lesson {step.lesson.number}, {step.lesson.title}"
    return {"label": step.label, "subject": step.patch.subject, "lesson": lesson}


def version(old: str, new: str) -> dict:
    """A file's highlighted lines, and which of them are new."""
    html = highlight(new, PythonLexer(stripnl=False), HtmlFormatter(nowrap=True)).rstrip("\n")
    marks = [mark for mark, _ in prose.marked(old.splitlines(), new.splitlines()) if mark != "-"]
    added = [index for index, mark in enumerate(marks) if mark == "+"]
    return {"lines": html.split("\n"), "added": added}


if __name__ == "__main__":
    sys.exit(main())
