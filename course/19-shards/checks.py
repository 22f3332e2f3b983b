"""What shards must be: files in the published layout, read as one sequence, in a lasting order."""

import contextlib
import hashlib
import json
import struct
import tempfile
from itertools import chain, pairwise
from pathlib import Path

import numpy as np

from buildgpt.course.checking import check, equal, expect, refused, small_trainer, works

TOKENS = [50256, 0, 1, 255, 256, 65535, 7]


@contextlib.contextmanager
def place():
    """A folder that is forgotten, also where a system keeps what is mapped."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def shard(tokens, magic=20240520, version=1, count=None):
    """A shard's bytes, spelt out."""
    count = len(tokens) if count is None else count
    head = struct.pack("<256i", magic, version, count, *[0] * 253)
    return head + struct.pack(f"<{len(tokens)}H", *tokens)


def put(folder, parts, split="train", vocab_size=257):
    """Shards of these tokens, and their paths in order."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"x_{split}_{i:06d}.bin" for i in range(len(parts))]
    for path, tokens in zip(paths, parts):
        path.write_bytes(shard(tokens))
    return paths


@check("a header is 256 little-endian numbers: what it is, its version, how many", step="open")
def heads(mine):
    for count in (0, 1, 100_000_000):
        found = bytes(mine.header(count))
        equal(len(found), 1024, given=f"bytes of header({count})")
        equal(found.hex(), shard([], count=count).hex(), given=f"header({count})")


@check("a vocabulary that does not fit into two bytes is refused", step="header")
def fits(mine):
    with works("check_vocabulary(65536), whose largest id is 65535"):
        mine.check_vocabulary(65536)
    with refused("check_vocabulary(65537), whose largest id is 65536"):
        mine.check_vocabulary(65537)


@check("a shard's tokens are what stands in it", step="open")
def opens(mine):
    for tokens in ([5], TOKENS, []):
        with place() as folder:
            (path,) = put(folder, [tokens])
            found = mine.open_shard(path)
            given = f"open_shard of a file of the tokens {tokens}"
            causes = ["the header is read as tokens", "two bytes a token, the lower one first"]
            equal([int(i) for i in found], tokens, given=given, causes=causes)
            equal(found.dtype.itemsize, 2, given=f"bytes a token, {given}")
            if tokens:
                causes = ["np.fromfile reads all of it; np.memmap leaves it where it is"]
                is_mapped = isinstance(found, np.memmap)
                expect(is_mapped, type(found).__name__, "a memmap", given, causes)
            del found


@check("what is foreign, of another version or cut is refused by name", step="open")
def corrupt(mine):
    good = shard(TOKENS)
    wrong = {
        "an empty file": b"",
        "a text": b"To be, or not to be" * 99,
        "a header of zeros": bytes(1024) + good[1024:],
        "another first number": shard(TOKENS, magic=20240521),
        "another version": shard(TOKENS, version=2),
        "half a header": good[:500],
        "a token too few": good[:-2],
        "a byte too few": good[:-1],
        "a token too many": good + b"\0\0",
        "a count that is negative": shard(TOKENS, count=-7),
    }
    causes = [
        "the three numbers of the header are not compared with what they must be",
        "the file's size is not compared with what the header promises",
        "a file that is shorter than a header is read all the same",
    ]
    for given, content in wrong.items():
        with place() as folder:
            path = folder / "bad_train_000000.bin"
            path.write_bytes(content)
            with refused(f"open_shard of {given}", causes, its_name="bad_train_000000"):
                mine.open_shard(path)
    with place() as folder:
        try:
            seen = mine.open_shard(folder / "none.bin")
        except Exception as error:
            seen = error
        causes = ["Python's own error about a file comes through: catch OSError"]
        good = isinstance(seen, mine.UserError) and "none.bin" in str(seen)
        told = f"{type(seen).__name__}: {seen}"
        expect(good, told, "a UserError with its name", "open_shard of no file", causes)


def written(mine, folder, parts, size):
    """What their writer makes of parts: the tokens of each shard."""
    writer = mine.ShardWriter(folder, "train", size)
    for part in parts:
        writer.add(part)
    writer.flush()
    return [
        np.frombuffer(path.read_bytes()[1024:], "<u2").tolist()
        for path in sorted(folder.glob("*_train_*.bin"))
    ]


@check("tokens are written in order, so many into each shard", step="write")
def writes(mine):
    for parts, size, wanted in (
        ([[1, 2, 3]], 10, [3]),
        ([[1, 2, 3], [4, 5]], 4, [4, 1]),
        ([[1], [2], [3, 4, 5, 6, 7]], 3, [3, 3, 1]),
        ([[1, 2, 3, 4, 5, 6, 7, 8]], 3, [3, 3, 2]),
    ):
        with place() as folder:
            found = written(mine, folder, parts, size)
            given = f"{parts} written into shards of {size}"
            equal([len(part) for part in found], wanted, given=f"tokens in each shard, {given}")
            equal([*chain(*found)], [*chain(*parts)], given=f"all tokens, {given}")
            (first, *_) = sorted(folder.glob("*_train_*.bin"))
            equal(first.read_bytes(), shard(found[0]), given=f"the first shard's bytes, {given}")
            hidden = [path.name for path in folder.iterdir() if path.name.startswith(".")]
            equal(hidden, [], given="files left over")


@check("a shard that is not finished has not got its name yet", step="write")
def unfinished(mine):
    with place() as folder:
        writer = mine.ShardWriter(folder, "val", 10)
        writer.add([1, 2, 3])
        equal(list(folder.glob("*.bin")), [], given="shards before the first is full")
        writer.flush()
        names = [path.name for path in folder.iterdir()]
        equal(names, [f"{folder.name}_val_000000.bin"], given="files after flush")


CUTS = ([[3, 4, 5, 6, 7, 8, 9]], [[3, 4, 5], [6, 7, 8, 9]], [[3], [], [4, 5, 6], [7], [8, 9]])


@check("however the shards are cut, they are one sequence of tokens", step="stream")
def streams(mine):
    whole = CUTS[0][0]
    for parts in CUTS:
        with place() as folder:
            stream = mine.Stream(put(folder, parts), 257)
            equal(len(stream), 7, given=f"len of a Stream of shards {parts}")
            for start in range(8):
                for stop in range(start, 8):
                    found = [int(i) for i in stream.read(start, stop)]
                    given = f"read({start}, {stop}) of shards {parts}"
                    equal(found, whole[start:stop], given=given)
            del stream


def make_folder(mine, folder, parts, split="train", **more):
    """One split's part of a manifest, written by their writer."""
    writer = mine.ShardWriter(folder, split, 5)
    for part in parts:
        writer.add(part)
    return writer.close()


@check("a manifest tells what is in a folder, and is written last", step="stream")
def manifest(mine):
    with place() as folder:
        parts = {
            split: make_folder(mine, folder, [[1, 2, 3], [4, 5, 6]], split) for split in SPLITS
        }
        equal(mine.read_manifest(folder), None, given="read_manifest where there is none")
        mine.write_manifest(folder, mine.ByteTokenizer(), parts)
        found = mine.read_manifest(folder)
        equal(found["tokenizer"], {"kind": "byte"}, given="the manifest's tokenizer")
        for split in SPLITS:
            told = found["splits"][split]
            equal((told["tokens"], told["documents"]), (6, 2), given=f"{split}: tokens, documents")
            for entry in told["shards"]:
                content = (folder / entry["file"]).read_bytes()
                given = f"the sha256 of {entry['file'][-18:]}"
                equal(entry["sha256"], hashlib.sha256(content).hexdigest(), given=given)
        (folder / "manifest.json").write_text('{"splits": {}}', encoding="utf-8")
        with refused("read_manifest of a damaged one", its_name="manifest.json"):
            mine.read_manifest(folder)


SPLITS = ("train", "val")


def folder_of(mine, folder, train, val, tokenizer=None):
    """A folder of shards that is whole; `train` and `val` are lists of documents."""
    parts = {
        "train": make_folder(mine, folder, train),
        "val": make_folder(mine, folder, val, "val"),
    }
    mine.write_manifest(folder, tokenizer or mine.ByteTokenizer(), parts)
    return str(folder)


@check("a corpus has the tokenizer and the tokens of its folder", step="corpus")
def corpus(mine):
    tokenizer = mine.BytePairTokenizer([(97, 98)])
    with place() as folder:
        path = folder_of(mine, folder, [[*range(9)]], [[9, 10, 256]], tokenizer)
        found = mine.Corpus(mine.DataConfig(path=path))
        equal(found.tokenizer.pieces[256], b"ab", given="the piece of id 256, by the manifest")
        train, val = (
            [int(i) for i in part.read(0, len(part))] for part in (found.train, found.val)
        )
        equal((train, val), ([*range(9)], [9, 10, 256]), given="train and val of a folder")
        equal(found.val_tokens, 3, given="val_tokens, nothing asked for")
        del found


@check(
    "public shards, which have no manifest, are read by the tokenizer that is named", step="corpus"
)
def public(mine):
    with place() as folder:
        put(folder, [[1, 50256]], "train")
        put(folder, [[2, 3], [4]], "val")
        found = mine.Corpus(mine.DataConfig(path=str(folder), tokenizer="gpt2"))
        equal(found.tokenizer.vocab_size, 50257, given='vocab_size, data.tokenizer = "gpt2"')
        equal((len(found.train), len(found.val)), (2, 3), given="tokens of train and val")
        del found
        with refused("the same folder without data.tokenizer", the_key="data.tokenizer"):
            mine.Corpus(mine.DataConfig(path=str(folder)))


@check("a folder that is not there, empty or at odds with its manifest is refused", step="corpus")
def wrong_folders(mine):
    with place() as folder:
        with refused("a folder that is not there", its_name="nowhere"):
            mine.Corpus(mine.DataConfig(path=str(folder / "nowhere")))
        with refused("an empty folder", the_key="tokenizer"):
            mine.Corpus(mine.DataConfig(path=str(folder)))
        with refused("no shard of a split", which="train"):
            mine.Corpus(mine.DataConfig(path=str(folder), tokenizer="byte"))
        path = folder_of(mine, folder, [[1, 2, 3]], [[4, 5]])
        (file,) = folder.glob("*_train_*.bin")
        file.write_bytes(shard([1, 2]))
        with refused("a shard of 2 tokens, and 3 in the manifest", its_name="manifest.json"):
            mine.Corpus(mine.DataConfig(path=path))


@check("which tokens a step reads does not depend on how the corpus is cut", step="corpus")
def same_order(mine):
    ids = [i % 250 for i in range(400)]
    read = []
    for sizes in ([400], [7] * 57 + [1], [399, 1]):
        parts, at = [], 0
        for size in sizes:
            parts.append(ids[at : at + size])
            at += size
        with place() as folder:
            batches = mine.Batches(mine.Stream(put(folder, parts), 257), 16, 3)
            read.append([part.tolist() for part in batches(20, 9)])
            del batches
        equal(read[-1], read[0], given=f"positions 20 to 28 of shards of {sizes[:3]} ... tokens")


OPENING = 256
DOCUMENTS = [[OPENING, *range(n, n + length)] for n, length in ((1, 5), (10, 30), (50, 3), (60, 9))]


@check(
    "aligned, each sequence begins with a document, and no place is read twice", step="documents"
)
def aligned(mine):
    with place() as folder:
        path = folder_of(mine, folder, [*DOCUMENTS, *DOCUMENTS], DOCUMENTS[:1])
        made = mine.Corpus(mine.DataConfig(path=path, align="documents"))
        equal(made.opening, OPENING, given='opening, data.align = "documents"')
        plain = mine.Corpus(mine.DataConfig(path=path))
        equal(plain.opening, None, given='opening, data.align = "none"')
        for context in (4, 8, 20):
            batches = mine.Batches(made.train, context, 1, OPENING)
            x, y = batches(0, batches.sequences)
            given = f"T = {context}, documents of {[len(d) for d in DOCUMENTS]} tokens, twice"
            first = {int(row[0]) for row in x}
            equal(first, {OPENING}, given=f"first ids of all sequences, {given}")
            equal(bool((x[:, 1:] == y[:, :-1]).all()), True, given="targets one to the right")
            starts = sorted(batches.start(p) for p in range(batches.sequences))
            gaps = [b - a for a, b in pairwise(starts)]
            expect(min(gaps, default=context) >= context, gaps, f"at least {context}", given)
            left = len(made.train) - 1 - batches.sequences * context
            equal(batches.dropped, left, given=f"tokens that are never read, {given}")
        del made, plain, batches


@check("shifted, each epoch but the first begins at another place", step="elsewhere")
def elsewhere(mine):
    with place() as folder:
        stream = mine.Stream(put(folder, [[*range(120)], [*range(120, 250)]]), 257)
        plain, moved = (mine.Batches(stream, 10, 1, None, shifts) for shifts in (False, True))
        equal(plain.sequences, 24, given="sequences of 250 tokens, T = 10, not shifted")
        epochs = []
        for epoch in range(12):
            places = range(epoch * moved.sequences, (epoch + 1) * moved.sequences)
            starts = sorted(moved.start(p) for p in places)
            gaps = {b - a for a, b in pairwise(starts)}
            equal(gaps, {10}, given=f"tokens from one start to the next, epoch {epoch}, T = 10")
            expect(starts[-1] + 10 < 250, starts[-1], "a whole sequence", "the last start")
            epochs.append(starts[0])
        equal(epochs[0], 0, given="where the first epoch begins")
        expect(len(set(epochs)) > 4, epochs, "different ones", "where 12 epochs begin")
        again = [mine.Batches(stream, 10, 1, None, True).start(p) for p in (30, 99)]
        equal(
            again, [moved.start(p) for p in (30, 99)], given="starts of positions 30 and 99, anew"
        )
        del stream, plain, moved


@check("noise replaces a share of the inputs, the same each time, and no target", step="elsewhere")
def noise(mine):
    with place() as folder:
        ids = [(i * 7) % 251 for i in range(5000)]
        stream = mine.Stream(put(folder, [ids]), 257)
        plain, noisy = (mine.Batches(stream, 50, 1, None, False, share) for share in (0.0, 0.3))
        x, y = noisy(0, 80)
        clean, targets = plain(0, 80)
        equal(bool((y == targets).all()), True, given="targets with noise and without")
        share = (x != clean).double().mean().item()
        expect(0.24 < share < 0.36, f"{share:.3f}", "about 0.3", "the share of inputs replaced")
        later = noisy(40, 1)[0]
        equal(
            bool((later[0] == x[40]).all()), True, given="position 40, asked alone and with others"
        )
        del stream, plain, noisy
    for wrong in ({"noise": 1.0}, {"noise": -0.1}, {"noise": 0.1, "align": "documents"}):
        with refused(f"DataConfig({wrong})", the_key="noise"):
            mine.DataConfig(**wrong)
    with refused("DataConfig(align='words')", the_key="align"):
        mine.DataConfig(align="words")


@check("a run reads its text as the section says", step="elsewhere")
def trained(mine):
    import dataclasses

    text = b"To be, or not to be, that is the question. " * 30
    model = {"context": 16, "layers": 1, "heads": 2, "width": 16}
    with small_trainer(mine, text, model, {"steps": 2, "tokens_per_step": 64}) as own:
        config = dataclasses.replace(own.recipe.data, align="shifted", noise=0.5)
        recipe = dataclasses.replace(own.recipe, data=config)
        from buildgpt.course.checking import trainer

        other = trainer(mine, recipe)
        late = range(5 * other.batches.sequences, 6 * other.batches.sequences)
        moved = {other.batches.start(p) % 16 for p in late}
        equal(len(moved), 1, given="places, by 16, where the sequences of epoch 6 begin")
        starts = {other.batches.start(e * other.batches.sequences) % 16 for e in range(9)}
        expect(len(starts) > 1, starts, "several", 'the same of 9 epochs, align = "shifted"')
        x, y = other.batches(0, 8)
        expect(bool((x[:, 1:] != y[:, :-1]).any()), "no noise", "some", "data.noise = 0.5")


@check("writing goes on where it was saved, and ends in the same bytes", step="interrupted")
def goes_on(mine):
    parts = [[*range(n, n + 7)] for n in range(0, 70, 7)]
    with place() as folder:
        for name in ("whole", "first", "later"):
            (folder / name / "x").mkdir(parents=True)
        wanted = mine.ShardWriter(folder / "whole" / "x", "train", 20)
        for part in parts:
            wanted.add(part)
        told = wanted.close()
        for name, done in (("first", 1), ("later", 4)):
            writer = mine.ShardWriter(folder / name / "x", "train", 20)
            for part in parts[:done]:
                writer.add(part)
            state = json.loads(json.dumps(writer.save()))
            for part in parts[done : done + 3]:  # written, but not saved
                writer.add(part)
            del writer
            again = mine.ShardWriter(folder / name / "x", "train", 20)
            again.restore(state)
            for part in parts[done:]:
                again.add(part)
            given = f"saved after {done} of 10 parts, cut off after {done + 3}, gone on"
            equal(again.close(), told, given=f"what close says, {given}")
            files = [
                {path.name: path.read_bytes() for path in (folder / which / "x").iterdir()}
                for which in (name, "whole")
            ]
            equal(files[0] == files[1], True, given=f"the files' bytes are the same, {given}")


@check(
    "an id that the tokenizer does not have is refused, with the file's name", step="interrupted"
)
def foreign_ids(mine):
    with place() as folder:
        stream = mine.Stream(put(folder, [[1, 2, 3], [4, 300, 5]]), 257)
        equal([int(i) for i in stream.read(0, 4)], [1, 2, 3, 4], given="read(0, 4), below 257")
        with refused("read(2, 6), where 300 stands", the_id="300", its_name="000001"):
            stream.read(2, 6)
        del stream
