"""What must hold of the bug zoo: each bug is caught, in its symptom's words, and can be mended."""

import re
import tempfile
from pathlib import Path
from types import SimpleNamespace

from course_check import Findings, failing, run_demo

from buildgpt.course import zoo
from buildgpt.course.checking import load_checks
from buildgpt.course.series import Series, write_tree

KEYS = ("title", "lesson", "symptom", "hints", "explanation", "cost", "told", "source")
SOURCE = ("project", "what", "title", "date", "address")
HINTS = 3


def check_zoo(series: Series) -> int:
    """All bugs; returns how much does not hold."""
    findings = Findings()
    found = zoo.bugs(series)
    numbers = [bug.number for bug in found]
    findings.need(numbers == [*range(1, len(found) + 1)], f"the zoo's numbers are {numbers}")
    print(f"the zoo: {len(found)} bugs", flush=True)
    for bug in found:
        check_facts(series, bug, findings)
        places = zoo.homes(series, bug)
        findings.need(places, f"{bug.name} fits no lesson that it is for")
        for where in dict.fromkeys([*places[:1], *places[-1:]]):
            with tempfile.TemporaryDirectory() as place:
                check_bug(series, bug, where, Path(place), findings)
        print(f"  {bug.number} {bug.name}: in {', '.join(places)}", flush=True)
    return findings.count


def check_facts(series: Series, bug: zoo.Bug, findings: Findings) -> None:
    """What bug.toml must hold, and what it must not give away."""
    facts, where = bug.facts, bug.name
    for key in KEYS:
        findings.need(facts.get(key), f"{where}/bug.toml has no {key}")
    source = facts.get("source", {})
    for key in SOURCE:
        findings.need(source.get(key), f"{where}/bug.toml: its source has no {key}")
    address = f"https://github.com/{source.get('project')}/"
    findings.need(
        source.get("address", "").startswith(address), f"{where}: its source's address is another's"
    )
    findings.need(len(facts["hints"]) == HINTS, f"{where} has {len(facts['hints'])} hints")
    names = [lesson.name for lesson in series.lessons]
    known = facts["lesson"] in (*names, zoo.CORE)
    findings.need(known, f"{where} is for no lesson: {facts['lesson']}")
    is_late = facts["lesson"] != zoo.CORE or re.fullmatch(r"\d\d", facts.get("after", ""))
    findings.need(is_late, f"{where} needs the core, but not which lesson it comes after")
    early = " ".join([facts["title"], facts["symptom"], *facts["hints"]])
    for hunks in bug.fault.values():
        for line in (line[1:].strip() for hunk in hunks for line in hunk.lines if line[0] != " "):
            findings.need(len(line) < 15 or line not in early, f"{where} gives away: {line}")


def check_bug(series: Series, bug: zoo.Bug, where: str, place: Path, findings: Findings) -> None:
    """With it, its checks fail in the symptom's words and its number is another than without it."""
    label = f"{bug.name} in {where}"
    copy = zoo.Copy(place / "with", series, bug, where)
    copy.write()
    sound = zoo.Copy(place / "without", series, bug, where)
    sound.write()
    write_tree(sound.path, zoo.sound_tree(series, where))
    mended = zoo.changed(bug.put_into(zoo.sound_tree(series, where)), bug.fault, backwards=True)
    findings.need(mended == zoo.sound_tree(series, where), f"{label}: undone, it is another tree")
    steps = series.after(series.find(where) or series.lessons[-1])
    own = [(SimpleNamespace(name=bug.name), c) for c in load_checks(bug.folder / "checks.py")]
    missed = failing(copy.path, series, own, steps)
    findings.need(missed, f"{label}: its checks pass with it")
    said = " ".join([*missed.values(), *(check.says for _, check in own)])
    findings.need(bug.facts["told"] in said, f"{label}: {bug.facts['told']!r} is not in: {said}")
    findings.need("expected no error" not in said, f"{label}: a check breaks off: {said}")
    for name, seen in failing(sound.path, series, own, steps).items():
        findings.need(False, f"{label}: {name} fails without it: {seen}")
    script = bug.folder / "symptom.py"
    (bad, wrong), (good, error) = run_demo(copy.path, script), run_demo(sound.path, script)
    findings.need(bad and good and not wrong + error, f"{label}: its symptom fails: {wrong}{error}")
    findings.need(bad != good, f"{label}: its symptom shows no difference")
