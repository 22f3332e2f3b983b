"""`buildgpt course`: thin, one verb, one call. What it needs is imported when a verb is called."""

import json
import shlex
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from buildgpt.core import load_core
from buildgpt.program import program_name

if TYPE_CHECKING:
    from .folder import Folder
    from .show import Screen
    from .zoo import Copy

app = typer.Typer(
    help="Build a GPT yourself, step by step, from an empty folder.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]
Module = Annotated[
    str, typer.Argument(metavar="[MODULE]", help="One of your files; all otherwise.")
]


def screen() -> "Screen":
    """Where to write."""
    from .show import Screen

    return Screen(program_name())


def here() -> "Folder":
    """The learner's folder that this is run in."""
    from .folder import Folder
    from .series import Series

    return Folder.find(Series())


@app.command()
def start(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The new folder.")],
    at: Annotated[
        str, typer.Option(metavar="N", help="Begin at lesson N, with all before it.")
    ] = "",
) -> None:
    """Make a folder with its data in place, and show lesson 1."""
    from . import verbs
    from .series import Series

    made, out = verbs.start(Series(), folder, at), screen()
    out.say(f"{folder} is yours: your code goes into {folder / 'gpt'}, Shakespeare lies in data.")
    out.say(f"Everything else happens in there:  cd {shlex.quote(str(folder))}", "bold")
    if made.lesson.number == 1:
        out.command("warm-up", "is new to you what a tensor is? Five questions tell.")
    out.place(made, verbs.handed_over(made))


@app.command("warm-up")
def warm_up(
    part: Annotated[
        str, typer.Argument(metavar="[PART]", help="Read a part; five questions otherwise.")
    ] = "",
) -> None:
    """Five questions about PyTorch say whether you need the warm-up before lesson 1."""
    from . import warm_up
    from .series import COURSE

    out = screen()
    if part:
        out.warm_up(part, warm_up.part(COURSE, part))
        return
    wrong = []
    for number, question in enumerate(warm_up.questions(COURSE), 1):
        out.say(f"{number}. {question.question}")
        right = question.is_right(typer.prompt("your answer, its numbers in order"))
        out.answered(question, right)
        wrong += [] if right else [question.part]
    out.advice(wrong)


@app.command("next")
def next_(
    peek: Annotated[
        bool, typer.Option("--peek", help="Run this step once with the reference's code.")
    ] = False,
    anyway: Annotated[bool, typer.Option("--anyway", help="Go on though checks fail.")] = False,
) -> None:
    """Show the next step, once this one's checks hold."""
    from . import verbs

    folder, out = here(), screen()
    if peek:
        show_peek(folder, out)
        return
    if folder.is_finished:
        out.place(folder)
        return
    if not anyway and not out.outcomes(verbs.check(folder), folder):
        out.say()
        out.command("next --anyway", "goes on all the same")
        raise typer.Exit(1)
    out.place(folder, verbs.go_on(folder))


def show_peek(folder: "Folder", out: "Screen") -> None:
    """What the step at hand prints with the reference's code."""
    from . import verbs

    done, step = verbs.peek(folder), folder.step or folder.lesson.steps[-1]
    out.say(f"try.py with the reference's code of step {step.label}; your files are untouched:")
    out.say()
    print(done.stdout + done.stderr, end="")


@app.command()
def show() -> None:
    """Show the step at hand once more."""
    screen().place(here())


@app.command()
def term(
    word: Annotated[
        str, typer.Argument(metavar="[WORD]", help="A term; their names otherwise.")
    ] = "",
) -> None:
    """Say what a term means, and which lesson defines it."""
    from . import prose
    from .series import Series

    series, out = Series(), screen()
    found = prose.look_up(series.course, word)
    if word:
        out.terms(series, found)
    else:
        out.term_names(series, found)


@app.command()
def check(
    watch: Annotated[bool, typer.Option("--watch", help="Check whenever a file changes.")] = False,
    as_json: Json = False,
) -> None:
    """Check the behaviour of your code: this step, and all before it."""
    from . import verbs

    folder = here()
    if copy := copy_here(folder):
        raise typer.Exit(0 if check_bug(folder, copy, as_json) else 1)
    if as_json:
        found = verbs.check(folder)
        print(json.dumps({"passed": all(o.passed for o in found), "checks": [*map(asdict, found)]}))
        raise typer.Exit(0 if all(o.passed for o in found) else 1)
    out = screen()
    good = show_check(folder, out)
    while watch:
        seen = stamp(folder)
        out.say("watching your files; Ctrl-C ends it", "dim")
        while stamp(folder) == seen:
            time.sleep(0.3)
        out.say()
        try:
            good = show_check(here(), out)
        except load_core().config.UserError as error:  # it may be mended by the next change
            good = False
            out.say(f"error: {error}")
    raise typer.Exit(0 if good else 1)


def show_check(folder: "Folder", out: "Screen") -> bool:
    """Check, and say what to do next."""
    from . import verbs

    good = out.outcomes(verbs.check(folder), folder)
    if good:
        out.command("next", "go on")
    elif folder.step and folder.step.kind == "type":
        out.say()
        out.command("hint", "if you are stuck")
    elif left := verbs.left_to_them(folder):
        out.say()
        out.say(f"This step was left to you where your code is your own: {', '.join(left)}.")
    return good


def stamp(folder: "Folder") -> list[tuple[str, int]]:
    """What changes when a file does."""
    paths = [*folder.package.rglob("*.py"), folder.path / "learn.toml"]
    return sorted((str(path), path.stat().st_mtime_ns) for path in paths if path.exists())


@app.command()
def hint() -> None:
    """A question, then the place, then the shape of the code."""
    from . import verbs
    from .prose import Block

    out = screen()
    step, number, words = verbs.hint(here())
    out.say(f"{step.label}, hint {number} of {len(verbs.RUNGS)}: {verbs.RUNGS[number - 1]}", "bold")
    out.blocks([Block("words", words)])
    if number < len(verbs.RUNGS):
        out.command("hint", f"the next one: {verbs.RUNGS[number]}")
    else:
        out.command("solution", "the code")


@app.command()
def solution() -> None:
    """Show the code of this step; after a lesson, that of its exercise."""
    from . import verbs

    folder, out = here(), screen()
    title, blocks = verbs.solution(folder)
    out.say(title, "bold")
    out.blocks(blocks)
    if folder.step:
        out.command("catch-up", "put it into your files, which are kept")


@app.command()
def exercise(
    file: Annotated[Path, typer.Argument(help="Where your solution is.")] = Path("exercise.py"),
    of: Annotated[str, typer.Option(help="Of which lesson; the last one that you finished.")] = "",
) -> None:
    """Try your solution of a lesson's exercise."""
    from . import exercise as exercises
    from .runner import Outcome

    folder, out = here(), screen()
    lesson = exercises.lesson_at(folder, of)
    why, place = exercises.attempt(folder, lesson, file)
    if not why:
        out.say(f"Right: {file} solves the exercise of lesson {lesson.number}.", "bold green")
        return
    out.failure(Outcome("", f"the exercise of lesson {lesson.number}", False, why, place=place))
    raise typer.Exit(1)


@app.command()
def predict(
    number: Annotated[
        str, typer.Argument(metavar="[NUMBER]", help="Your guess, such as 0.5 or 1/2.")
    ] = "",
) -> None:
    """Type a number before you run the code that gives it."""
    from . import verbs
    from .prose import Block

    folder, out = here(), screen()
    asked = verbs.prediction(folder)
    if asked is None:
        out.say("There is nothing to predict here yet; go on, and ask again.")
        return
    out.blocks([Block("words", asked.question)])
    guess = verbs.read_guess(number or typer.prompt("Your guess"))
    folder.state.predictions[asked.name] = guess
    folder.save()
    near = "Near enough" if asked.is_near(guess) else "Not quite"
    verdict = "Yes" if f"{guess:,g}" == asked.shown else near
    out.say(f"{verdict}: you said {guess:g}, it is {asked.shown}.", "bold")
    out.say()
    out.blocks([Block("words", asked.reasoning)])


@app.command()
def swap(module: Module = "") -> None:
    """Run the reference with one of your files inside, each in turn: which one differs?"""
    from . import verbs

    folder, out = here(), screen()
    out.say("The reference's code with exactly one of your files inside:\n")
    bad = False
    for found in verbs.swap(folder, module):
        out.swapped(found)
        bad = bad or bool(found.failed)
    raise typer.Exit(1 if bad else 0)


@app.command()
def compare(module: Module = "") -> None:
    """Show how your code differs from the reference's."""
    from . import verbs

    out, text = screen(), verbs.compare(here(), module)
    if text:
        out.say("- the reference's, + yours. Different is not wrong: check says what is.", "dim")
        out.diff(text)
    else:
        out.say("Your code is the reference's, line by line.")


@app.command()
def status(as_json: Json = False) -> None:
    """Where you are."""
    folder = here()
    if as_json:
        found = asdict(folder.state) | {"folder": str(folder.path.resolve())}
        print(json.dumps(found))
    else:
        screen().status(folder)


@app.command()
def reset() -> None:
    """Begin this lesson anew, with your files as they were then; the present ones are kept."""
    from . import verbs

    folder, out = here(), screen()
    kept = verbs.reset(folder)
    verbs.handed_over(folder)
    out.say(f"Back at the beginning of lesson {folder.lesson.number}. Your files lie in {kept};")
    out.say(f"to have one back, copy it from there into {folder.package}.")
    out.command("show", "its first step")


@app.command("catch-up")
def catch_up() -> None:
    """Take the reference's code of all steps up to this one; your files are kept."""
    from . import verbs

    folder, out = here(), screen()
    kept = verbs.catch_up(folder)
    where = f"step {folder.step.label}" if folder.step else f"lesson {folder.lesson.number}"
    out.say(f"gpt/ is the reference's code up to {where}. Your own files lie in {kept};")
    out.say(f"to have one back, copy it from there into {folder.package}.")
    out.command("next", "go on")


@app.command()
def curve(as_json: Json = False) -> None:
    """Train for some seconds, and compare your loss with that of several recorded seeds."""
    from . import curves

    folder = here()
    found = curves.judge(folder)
    if as_json:
        print(json.dumps(found.to_dict()))
    else:
        recorded = curves.records(folder.series.course)["curves"][found.lesson.name]
        screen().curve(found, recorded["seeds"])
    raise typer.Exit(1 if found.left or found.ends else 0)


@app.command()
def gallery(
    again: Annotated[bool, typer.Option("--again", help="Let all models talk anew.")] = False,
    as_json: Json = False,
) -> None:
    """One prompt, continued by the model of each lesson so far; also as a page, gallery.html."""
    from . import gallery as pictures
    from .folder import wrong

    folder, out, found = here(), screen(), []
    if not pictures.lessons(folder):
        raise wrong("the gallery opens at the end of lesson 3, when a model talks")
    for _, said in pictures.fill(folder, again):
        found += said
        for picture in [] if as_json else said:
            out.picture(picture)
    page = folder.path / "gallery.html"
    page.write_text(pictures.page(found), encoding="utf-8")
    if as_json:
        print(json.dumps({"page": str(page.resolve()), "pictures": [*map(asdict, found)]}))
    else:
        out.say(f"the same as a page: {page.resolve()}", "dim")


@app.command()
def bug(
    number: Annotated[
        str, typer.Argument(metavar="[N]", help="Which; all are listed otherwise.")
    ] = "",
    check: Annotated[bool, typer.Option("--check", help="Is it gone?")] = False,
    hint: Annotated[bool, typer.Option("--hint", help="One of three.")] = False,
    solution: Annotated[bool, typer.Option("--solution", help="What it is, and whose.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Put it in anew.")] = False,
    as_json: Json = False,
) -> None:
    """The bug zoo: find a real bug of a known project in a copy of the code."""
    from . import zoo

    folder, out = here(), screen()
    inside = copy_here(folder)
    if not number and inside is None:
        show_zoo(folder, out)
        return
    chosen = zoo.find(folder.series, number) if number or inside is None else inside.bug
    copy = zoo.begin(folder, chosen, again)
    if check:
        raise typer.Exit(0 if check_bug(folder, copy, as_json) else 1)
    if hint:
        rung, words = zoo.hint(folder, chosen)
        out.say(f"bug {chosen.number}, hint {rung} of {len(chosen.facts['hints'])}", "bold")
        out.say(words)
    elif solution:
        zoo.settle(folder, chosen, zoo.SHOWN)
        out.bug_told(copy)
    else:
        out.bug(copy, copy.symptom())


def show_zoo(folder: "Folder", out: "Screen") -> None:
    """All bugs, and the next one to take."""
    from . import zoo

    out.bugs(folder)
    out.say()
    chosen = zoo.next_open(folder)
    if chosen:
        out.command(f"bug {chosen.number}", chosen.facts["title"])
    else:
        out.say("No other bug is due yet; those of later lessons can be looked at all the same.")


def copy_here(folder: "Folder") -> "Copy | None":
    """The copy of the zoo that this is run in, if it is."""
    from . import zoo

    found = zoo.surrounding(folder, Path.cwd())
    return zoo.copy_of(folder, found) if found else None


def check_bug(folder: "Folder", copy: "Copy", as_json: bool) -> bool:
    """Whether a bug is gone, and nothing else with it; says so."""
    from . import zoo
    from .show import held

    outcomes = copy.check()
    good = all(outcome.passed for outcome in outcomes)
    if good:
        zoo.settle(folder, copy.bug, zoo.FOUND)
    if as_json:
        print(json.dumps({"passed": good, "checks": [*map(asdict, outcomes)]}))
        return good
    out = screen()
    if not good:
        out.failure(next(outcome for outcome in outcomes if not outcome.passed))
        out.say()
        out.command(f"bug {copy.bug.number} --hint", "if you are stuck")
        return False
    out.say(f"Found and mended: {held(outcomes)}.", "bold green")
    out.say()
    out.bug_told(copy)
    return True


@app.command()
def git(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The new repository.")],
) -> None:
    """Write the whole course as a git repository: a commit a step, the last one is our core."""
    import shutil

    from .folder import wrong
    from .series import Series, write_repository

    if shutil.which("git") is None:
        raise wrong("there is no git here; install it, or read the core in the package")
    if folder.exists() and any(folder.iterdir()):
        raise wrong(f"{folder} is not empty; choose another folder")
    series = Series()
    write_repository(folder, series)
    print(f"{folder}: {len(series.steps)} steps; read them with: git -C {folder} log -p --reverse")
    sys.stdout.flush()
