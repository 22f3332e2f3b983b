"""The course on a terminal; plain text where it is piped."""

import math
import re

from rich.console import Console
from rich.markdown import Markdown
from rich.padding import Padding
from rich.rule import Rule
from rich.syntax import Syntax
from rich.text import Text

from buildgpt.chart import SHADE, draw_over

from . import prose, zoo
from .curves import Judged
from .folder import END, Folder
from .gallery import PROMPT, Picture, readable
from .runner import Outcome, retired
from .series import Lesson, Series, Step
from .verbs import Handed, Swapped, python_name
from .warm_up import Question

WIDEST = 104
CHART, CHART_ROWS = 80, 12
CAUSES = {  # of a loss above its band, or below
    1: [
        "targets are not the tokens after their inputs: then there is less to be learnt",
        "gradients add up, are missing, or go the wrong way; the learning rate is another",
        "the weights begin elsewhere, where the loss at step 1 is off already",
    ],
    -1: [
        "the model sees its targets: then its loss is too good to be true",
        "gradients add up from step to step, which at first is faster: zero_grad is missing",
        "the mean is taken over something else than all targets",
        "the same few sequences come again and again",
    ],
}
ENDINGS = {  # of a loss whose last third lies above that of all seeds, or below
    1: [
        "something is learnt only in part: a sum that is not added to the stream, say",
        "the learning rate is another, or its schedule",
    ],
    -1: [
        "tokens see what comes after them: a mask that is off by one",
        "the same few sequences come again and again",
    ],
}
WITHIN = (
    "A band shows a wrong rate or a loss of another kind; whether the model is right is what check"
    " says."
)
KINDS = {"type": "type it", "take": "take it", "read": "read it"}


def paint(code: str) -> Text:
    """Python in colours."""
    painted = Syntax("", "python", theme="ansi_dark").highlight(code)
    painted.rstrip()
    return painted


def held(outcomes: list[Outcome]) -> str:
    """How many checks hold."""
    return "1 check holds" if len(outcomes) == 1 else f"{len(outcomes)} checks hold"


def fate(handed: Handed) -> str:
    """What became of a step that was to be put into a learner's files."""
    if not (handed.files or handed.failed or handed.own or handed.lacking):
        return "you have it already"
    if not handed.files:
        return "yours is built otherwise, so nothing was put in; bring it in yourself"
    if handed.own or handed.lacking:
        return "it was put into your files, but for what is named below"
    return "it was put into your files"


class Screen:
    """Where all of the course's words go."""

    def __init__(self, program: str) -> None:
        found = Console()
        self.console = Console(width=min(found.width, WIDEST), highlight=False, soft_wrap=False)
        self.program = f"{program} course"

    def say(self, words: str = "", style: str = "") -> None:
        """A line, or some."""
        self.console.print(Text(words, style=style))

    def command(self, what: str, does: str) -> None:
        """A command that can be typed, and what it does."""
        line = Text.assemble("  ", (f"{self.program} {what}", "bold"))
        line.append(" " * max(2, 18 + len(self.program) - len(line.plain)) + does)
        self.console.print(line)

    def indented(self, text: Text, by: str = "  ") -> None:
        """Lines as they are, neither cut nor filled up, moved to the right."""
        for line in text.split("\n"):
            self.console.print(Text(by if line.plain.strip() else "") + line, soft_wrap=True)

    # Lessons and steps.

    def place(self, folder: Folder, handed: Handed | None = None) -> None:
        """What is at hand: a lesson's beginning, a step, or a lesson's end."""
        lesson, step = folder.lesson, folder.step
        if step is None:
            self.blocks(prose.section(folder.series, lesson, END))
            self.after_lesson(folder)
            return
        if step.number == 1:
            self.lesson(folder, lesson)
        self.step(folder, step, handed)

    def lesson(self, folder: Folder, lesson: Lesson) -> None:
        """A lesson's beginning."""
        self.say()
        self.console.print(Rule(f"Lesson {lesson.number}: {lesson.title}", style="bold"))
        facts = lesson.facts
        self.say(
            f"{facts['part']}  ·  {facts['minutes']} minutes  ·  {len(lesson.steps)} steps", "dim"
        )
        self.say(f"It presumes: {facts['presumes']}", "dim")
        self.say(f"You will see: {facts['sees']}", "dim")
        self.say()
        self.blocks(prose.section(folder.series, lesson, ""))

    def step(self, folder: Folder, step: Step, handed: Handed | None) -> None:
        """A step: its words, its code, what to do."""
        self.say()
        title = Text.assemble((f"{step.label}  {step.patch.subject}", "bold cyan"))
        self.console.print(Rule(title, align="left", style="cyan"))
        self.say(KINDS[step.kind] + (f": {fate(handed)}" if handed else ""), "dim")
        self.say()
        asks = any(entry["step"] == step.slug for entry in step.lesson.facts.get("predict", []))
        guessed = not asks or step.id in folder.state.predictions
        self.blocks(prose.section(folder.series, step.lesson, step.slug), guessed)
        if handed:
            self.left_over(handed)
        self.say("Then:")
        self.command("check", "does your code do it?")
        self.command("next", "go on")
        if step.kind == "type":
            self.command("hint", "if you are stuck")

    def left_over(self, handed: Handed) -> None:
        """What of a step that was handed over is left to the learner."""
        if handed.failed:
            self.say(
                f"With it your files could not be imported ({handed.failed}), so they are as they"
                " were before.",
                "yellow",
            )
        elif handed.own:
            self.say("Your own stays as it is: " + ", ".join(handed.own) + ".", "yellow")
        if handed.lacking and not handed.failed:
            missing = ", ".join(handed.lacking)
            self.say(
                f"Yours has nothing of this name, which the step counts on: {missing}.", "yellow"
            )
        if handed.failed or handed.own or handed.lacking:
            self.say("Bring what is new above into it yourself, in your own way.\n")

    def after_lesson(self, folder: Folder) -> None:
        """What comes after a lesson."""
        self.say()
        if folder.is_finished:
            self.say("This is the last lesson so far. The rest of the code is there to be read:")
            self.command("git DIR", "the whole series as a git repository")
            self.command("exercise", "is exercise.py right?")
            self.command("solution", "one of the exercise")
        else:
            self.say("Then:")
            self.command("exercise", "is exercise.py right?")
            self.command("solution", "one of the exercise")
            self.command("next", "the next lesson")

    def blocks(self, blocks: list[prose.Block], guessed: bool = True) -> None:
        """A section; what a run prints only once its number was guessed."""
        title = ""  # of the code right before
        for block in blocks:
            if block.kind == "words":
                self.console.print(Markdown(block.text))
            elif block.kind == "code":
                self.code(block, titled=title != block.title)
            else:
                self.attempt(block, guessed)
            self.say()
            title = block.title

    def code(self, block: prose.Block, titled: bool) -> None:
        """Code, with marks where only a part of it is new."""
        marks = any(mark != " " for mark, _ in block.lines)
        legend = "   + new   - gone" if marks else ""
        if titled or legend:
            self.say(f"{block.title}{legend}", "dim italic")
        text = Text()
        for mark, line in block.lines:
            painted = paint(line)
            if marks:
                colour = {"+": "bold green", "-": "bold red"}.get(mark, "")
                text.append(f"{mark} ", colour)
                painted.stylize("dim" if mark == "-" else "")
            text.append_text(painted).append("\n")
        text.rstrip()
        self.indented(text)

    def attempt(self, block: prose.Block, guessed: bool) -> None:
        """What to run, and what it printed when it was recorded."""
        if block.text:
            self.say("try.py, which lies in your folder", "dim italic")
            self.indented(paint(block.text))
            self.say()
        if not guessed:
            self.say("Before you run it, guess a number:", "yellow")
            self.command("predict", "asks you for it")
            self.say()
        self.console.print(Text.assemble("Run  ", (f"{python_name()} try.py", "bold")))
        if block.output and guessed:
            self.say("and you see something like", "dim italic")
            self.indented(Text(block.output.rstrip()))

    def terms(self, series: Series, found: dict[str, str]) -> None:
        """Terms of the glossary, and where each is defined."""
        for term, words in found.items():
            lesson = prose.defined_in(series, term)
            where = f"  lesson {lesson.number}" if lesson else ""
            self.console.print(Text.assemble((term, "bold"), (where, "dim")))
            self.console.print(Padding(Markdown(words), (0, 0, 0, 2)))

    def term_names(self, series: Series, found: dict[str, str]) -> None:
        """The names of all terms, by the lesson that defines them."""
        by_lesson: dict[int, list[str]] = {}
        for term in found:
            lesson = prose.defined_in(series, term)
            by_lesson.setdefault(lesson.number if lesson else 0, []).append(term)
        for number, names in sorted(by_lesson.items()):
            where = f"lesson {number}" if number else "beside them"
            self.say(f"{where:>11}  {', '.join(names)}")
        self.command("term WORD", "what it means")

    # The warm-up.

    def warm_up(self, name: str, blocks: list[prose.Block]) -> None:
        """A part of the warm-up: words, code, and what it prints."""
        self.console.print(Rule(Text(f"Warm-up: {name}", "bold")))
        for block in blocks:
            self.say()
            if block.kind == "words":
                self.console.print(Markdown(block.text))
            else:
                self.indented(paint(block.text))
                self.say("\nprints", "dim italic")
                self.indented(Text(block.output.rstrip()))
                self.say()

    def answered(self, question: Question, right: bool) -> None:
        """Whether an answer was right, and why."""
        verdict = "Right." if right else f"No, it is {question.shown}."
        self.say(f"{verdict} {question.reasoning}", "green" if right else "red")
        self.say()

    def advice(self, wrong: list[str]) -> None:
        """What to read after the questions of these parts were answered wrongly."""
        if not wrong:
            self.say("All of it is known to you: begin with lesson 1.", "bold green")
            self.command("start my-gpt", "makes your folder")
            return
        self.say("Read what was new; each is a page. Then come back, or begin with lesson 1.")
        for name in wrong:
            self.command(f"warm-up {name}", "words, code, and what it prints")

    # Checks.

    def outcomes(self, outcomes: list[Outcome], folder: Folder) -> bool:
        """What became of the checks; returns whether all passed."""
        failed = [outcome for outcome in outcomes if not outcome.passed]
        where = f"step {folder.step.label}" if folder.step else f"lesson {folder.lesson.number}"
        if not outcomes:
            self.say(f"Nothing is checked at {where}.")
            return True
        if not failed:
            self.say(f"All good: {held(outcomes)} up to {where}.", "bold green")
            if gone := retired(folder.series, folder.lesson):
                self.say(f"{gone} of earlier lessons are due no more: what they saw was replaced.")
            return True
        failed.sort(key=lambda outcome: not outcome.check.startswith(folder.lesson.name))
        self.failure(failed[0])  # this lesson's come first
        if len(failed) > 1:
            self.say()
            self.say(f"{len(failed) - 1} more of {len(outcomes)} do not hold yet:", "dim")
            for outcome in failed[1:6]:
                self.say(f"  {outcome.says}", "dim")
            if len(failed) > 6:
                self.say("  ...", "dim")
        return False

    def failure(self, outcome: Outcome) -> None:
        """One check that failed, in full."""
        self.console.print(Text.assemble(("Not yet: ", "bold red"), (outcome.says, "bold")))
        for name, text in (
            ("for", outcome.given),
            ("expected", outcome.expected),
            ("seen", outcome.seen),
            ("in", outcome.place),
            ("printed", outcome.printed.rstrip()),
        ):
            if text:
                lines = Text(text)
                head = Text(f"  {name:>9}  ", "dim")
                self.console.print(head + lines, soft_wrap=True)
        if outcome.causes:
            likely = "likely cause:" if len(outcome.causes) == 1 else "likely causes:"
            self.say(f"  {likely}")
            for cause in outcome.causes:
                self.indented(Text(f"- {cause}"), "    ")

    def swapped(self, found: Swapped) -> None:
        """One module of theirs among the reference's."""
        failed = found.failed
        if not failed:
            self.say(f"  {found.module:<20} yours fits in: {held(found.outcomes)}", "green")
            return
        verdict = f"yours differs: {len(failed)} of {len(found.outcomes)} checks fail"
        if lacking := re.search(r"cannot import name '(\w+)'", failed[0].seen):
            verdict = f"yours lacks {lacking[1]}, which the reference's other files import"
        self.say(f"  {found.module:<20} {verdict}", "bold red")
        self.failure(failed[0])

    def status(self, folder: Folder) -> None:
        """Where they are."""
        for lesson in folder.series.lessons:
            here = lesson == folder.lesson
            done = lesson.number < folder.lesson.number or (here and folder.step is None)
            mark = "✓" if done else ">" if here else " "
            self.say(f"{mark} {lesson.number:2}  {lesson.title}", "bold" if here else "")
            for step in lesson.steps if here else []:
                passed = folder.step is None or step.number < folder.step.number
                mark = "✓" if passed else ">" if step == folder.step else " "
                self.say(f"     {mark} {step.label}  {step.patch.subject}", "" if passed else "dim")
        hints = sum(folder.state.hints.values())
        self.say(f"\nin {folder.path.resolve()}; {hints} hints taken", "dim")

    # The bug zoo.

    def bugs(self, folder: Folder) -> None:
        """All bugs: which were found, which wait, which come later."""
        lessons = {lesson.name: lesson.number for lesson in folder.series.lessons}
        for bug in zoo.bugs(folder.series):
            state = folder.state.bugs.get(bug.name, "")
            mark = {zoo.FOUND: "✓", zoo.SHOWN: "-", zoo.OPEN: ">"}.get(state, " ")
            after = int(bug.facts.get("after") or lessons[bug.facts["lesson"]])
            due = zoo.is_due(folder, bug)
            coming = after > folder.series.lessons[-1].number
            when = f", after lesson {after}" + ", which is to come" * coming
            title = bug.facts["title"] + ("" if due else when)
            self.say(f"{mark} {bug.number:2}  {title}", "" if due else "dim")

    def bug(self, copy: zoo.Copy, printed: str) -> None:
        """What is known of a bug: where it is, what it does, and not what it is."""
        bug, lesson = copy.bug, copy.lesson
        code = f"the code of lesson {lesson.number}" if lesson else "the finished core"
        self.console.print(Rule(f"Bug {bug.number}: {bug.facts['title']}", style="bold"))
        self.say(f"It is in a copy of {code}, in {copy.path}", "dim")
        self.say()
        self.blocks([prose.Block("words", bug.facts["symptom"].strip())])
        self.console.print(Text.assemble("In there, ", (f"{python_name()} symptom.py", "bold")))
        self.indented(Text(printed.rstrip()))
        self.say()
        self.say("Find it, and mend it in that folder. Your own code stays as it is.")
        self.command(f"bug {bug.number} --check", "is it gone?")
        self.command(f"bug {bug.number} --hint", "three of them")
        self.command(f"bug {bug.number} --solution", "what it is, and whose it was")

    def bug_told(self, copy: zoo.Copy) -> None:
        """What a bug is, what mends it, what it cost, and where that is written."""
        facts = copy.bug.facts
        self.say("What it was", "bold")
        self.blocks([prose.Block("words", facts["explanation"].strip())])
        self.say("What mends it", "bold")
        self.blocks([prose.Block("code", "", *part) for part in copy.mending()])
        self.say("What it cost", "bold")
        self.blocks([prose.Block("words", facts["cost"].strip())])
        source = facts["source"]
        self.say(f"{source['project']}, {source['what']}, {source['date']}: {source['title']}")
        self.say(source["address"], "cyan")

    def curve(self, found: Judged, seeds: int) -> None:
        """A run over its band, and where it leaves it."""
        low, high = found.band.edges()
        most = 2 * high[0][1] - low[-1][1]  # a loss that explodes would flatten all others
        points = [
            (step, min(loss, most))
            for step, loss in enumerate(found.losses, 1)
            if math.isfinite(loss)
        ]
        width = min(self.console.width, CHART)
        picture = Text("\n".join(draw_over(points, low, high, width, CHART_ROWS)))
        picture.highlight_regex(f"{SHADE}+", "dim")
        picture.highlight_regex("[\u2801-\u28ff]+", "bold cyan")
        self.console.print(picture)
        steps = f"{len(found.losses)} steps of lesson {found.lesson.number}"
        self.say(f"your loss over {steps}; {SHADE} the reference's with {seeds} seeds", "dim")
        self.say()
        step, side = found.left or (0, found.ends)
        where = "above" if side > 0 else "below"
        if step:
            self.say(f"Your loss leaves the band at step {step}: it lies {where} it.", "bold red")
        elif side:
            self.say(f"Your loss stays within the band, but ends {where} all seeds.", "bold red")
        else:
            self.say("Your loss stays within the band.", "bold green")
            self.say(WITHIN, "dim")
            return
        self.say("  likely causes:")
        for cause in CAUSES[side] if step else ENDINGS[side]:
            self.indented(Text(f"- {cause}"), "    ")

    def picture(self, picture: Picture) -> None:
        """What a lesson's model said."""
        title = f"Lesson {picture.lesson}: {picture.title}"
        self.console.print(Rule(Text(title, "bold"), align="left", style="dim"))
        self.say(f"{picture.what}; loss {picture.loss:.2f}, {picture.whose}", "dim")
        said = Text.assemble((PROMPT, "bold green"), readable(picture.text))
        self.indented(said)
        self.say()

    def diff(self, text: str) -> None:
        """A diff, in colours."""
        for line in text.splitlines():
            style = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")
            self.console.print(Text(line, style), soft_wrap=True)
