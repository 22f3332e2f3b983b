"""What must hold of a lesson's words, whatever its code is; course_check.py tells what does not."""

import re

from buildgpt.course import prose
from buildgpt.course.series import Lesson, Series

MOST_WORDS = 25  # of what one will see
SMALL_NUMBER = 16  # counts up to this may be written out; all other figures are measured
# Terms that earlier lessons use as everyday words, or in a sense that they explain themselves.
EVERYDAY = {"blocks", "decay", "hidden", "key", "order", "recipe", "value", "window", "zero"}
NAMES = r"U\+[0-9A-F]+|[A-Z]+-?\d[\d-]*"  # such as GPT-2: digits that count nothing
COUNT = (
    r"(?:\d[\d,.]*|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty"
    r"|forty|fifty|sixty|seventy|eighty|ninety|hundred|thousand|million|dozen)"
)
MEASURED = re.compile(
    rf"\b(?:(?:twice|half|{COUNT} times) as (?!it\b)\w+|{COUNT} times (?:\w+er|more|less)"
    rf"|(?:one|{COUNT}|half an?) (?:milli|micro)?(?:second|minute|hour)s?"
    r"|(?:half|third|quarter|fifth|sixth|tenth) of (?:the|its) time)\b",
    re.IGNORECASE,
)


def seen_wrongly(sentence: str) -> str:
    """Why a sentence does not say well what one will see; "" if it does."""
    if not sentence.strip():
        return "does not say what one will see"
    if len(sentence.split()) > MOST_WORDS:
        return f"takes more than {MOST_WORDS} words to say what one will see"
    if re.search(r"[\d`{]", re.sub(NAMES, "", sentence)):
        return "holds a figure or code in what one will see"
    return "" if sentence.endswith(".") else "does not end what one will see with a full stop"


def own_words(text: str) -> str:
    """A lesson's words in one line: its sources, what is put in and what is code left out."""
    words = text.partition("\n## Sources")[0]
    return " ".join(re.sub(r"\{\{[^}]*\}\}|`[^`]*`", " ", words).split())


def typed_figures(text: str, constants: list) -> list[str]:
    """Numbers in the words that nobody measured: neither small nor listed as constants."""
    words = re.sub(NAMES, "", own_words(text))
    found = re.findall(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?", words)
    allowed = {str(number) for number in constants}
    plain = [number.rstrip(",").replace(",", "") for number in found]
    return [n for n in plain if n not in allowed and not (n.isdigit() and int(n) <= SMALL_NUMBER)]


def typed_claims(text: str, constants: list) -> list[str]:
    """Measurements that were written out, such as "three times as fast": those not listed as
    constants, being no measurements."""
    found = [match[0].lower() for match in MEASURED.finditer(own_words(text))]
    return [claim for claim in found if claim not in constants]


def early_terms(series: Series, lesson: Lesson) -> list[str]:
    """Terms of the glossary that a lesson's words hold, though a later lesson defines them."""
    words = own_words((lesson.folder / "lesson.md").read_text(encoding="utf-8"))
    allowed = EVERYDAY | {*lesson.facts.get("terms", [])}
    found = []
    for term in prose.glossary(series.course).keys() - allowed:
        later = prose.defined_in(series, term)
        is_early = later is not None and later.number > lesson.number
        if is_early and re.search(rf"\b{re.escape(term)}s?\b", words, re.IGNORECASE):
            found.append(term)
    return sorted(found)


def undefined_terms(series: Series) -> list[str]:
    """Terms of the glossary that no lesson sets in bold."""
    return [term for term in prose.glossary(series.course) if not prose.defined_in(series, term)]
