"""What a tokenizer of bytes must do."""

from buildgpt.course.checking import check, equal, expect, refused

TEXTS = ("", "a", "To be", "né", "日本", "🎭", "line\nline\r\n\x00")


@check("a text becomes one id for each byte of its UTF-8", step="encode")
def bytes_are_ids(mine):
    tokenizer = mine.ByteTokenizer()
    for text in TEXTS:
        causes = [
            "characters are counted instead of bytes: é is one character and two bytes",
            "the ids are returned as something else than a list of integers",
        ]
        ids = tokenizer.encode(text)
        equal(ids, list(text.encode("utf-8")), given=f"encode({text!r})", causes=causes)


@check("every text comes back from its ids", step="decode")
def round_trip(mine):
    tokenizer = mine.ByteTokenizer()
    for text in TEXTS:
        ids = tokenizer.encode(text)
        causes = [
            "each id is turned into a character by itself, though some take several bytes",
            "bytes(65) is 65 zeros; the byte 65 is bytes([65])",
        ]
        equal(tokenizer.decode(ids), text, given=f"decode({ids})", causes=causes)


@check("ids may come from anything that can be gone through once", step="decode")
def any_iterable(mine):
    tokenizer = mine.ByteTokenizer()
    causes = ["the ids are gone through twice: a generator is empty the second time"]
    given = "decode(i for i in [65, 66])"
    equal(tokenizer.decode(i for i in [65, 66]), "AB", given=given, causes=causes)


@check("every byte has an id of its own, which stands for it", step="decode")
def all_bytes(mine):
    tokenizer = mine.ByteTokenizer()
    expect(tokenizer.vocab_size >= 256, tokenizer.vocab_size, "at least 256", "vocab_size")
    for i in range(256):
        equal(tokenizer.decode_bytes([i]), bytes([i]), given=f"decode_bytes([{i}])")


@check("bytes that are no UTF-8 decode to the replacement character", step="broken")
def broken_bytes(mine):
    tokenizer = mine.ByteTokenizer()
    causes = [
        """bytes.decode stops at the first byte that does not fit, unless errors="replace" """
    ]
    for ids, text in (([195], "\ufffd"), ([97, 255, 98], "a\ufffdb"), ([240, 159], "\ufffd")):
        given = f"decode({ids})"
        try:
            seen = tokenizer.decode(ids)
        except UnicodeDecodeError as error:
            seen = repr(error)
        equal(seen, text, given=given, causes=causes)


@check("half a surrogate pair, which has no bytes, encodes all the same", step="broken")
def broken_text(mine):
    causes = ["""str.encode stops at it too, unless errors="replace" """]
    try:
        ids = mine.ByteTokenizer().encode("a\ud800")
    except UnicodeEncodeError as error:
        ids = repr(error)
    equal(ids, [97, 63], given="encode('a\\ud800')", causes=causes)


@check("one more id than bytes: the last one ends a text", step="end-of-text")
def end_of_text(mine):
    tokenizer = mine.ByteTokenizer()
    equal(tokenizer.vocab_size, 257, given="vocab_size")
    equal(tokenizer.end_of_text, 256, given="end_of_text")
    for i in (0, 255):
        equal(tokenizer.decode_bytes([i]), bytes([i]), given=f"decode_bytes([{i}])")
    expect(tokenizer.decode([256]), tokenizer.decode([256]), "some text", "decode([256])")


@check("no text encodes to the end of text, not even its own spelling", step="end-of-text")
def nothing_encodes_to_the_end(mine):
    tokenizer = mine.ByteTokenizer()
    spelling = tokenizer.decode([tokenizer.end_of_text])
    ids = tokenizer.encode(spelling)
    causes = ["the spelling is looked for in the text and replaced"]
    expect(
        tokenizer.end_of_text not in ids, ids, "only ids of bytes", f"encode({spelling!r})", causes
    )
    equal(ids, list(spelling.encode()), given=f"encode({spelling!r})", causes=causes)


@check("an id outside the vocabulary is refused, and named", step="outside")
def outside(mine):
    tokenizer = mine.ByteTokenizer()
    causes = [
        "a negative index counts from the end of a list, so -1 is the last piece without any error",
        "Python's own IndexError does not say which id it was",
    ]
    for wrong in (257, -1, 1000):
        with refused(f"decode([65, {wrong}])", causes, the_id=str(wrong)):
            tokenizer.decode([65, wrong])
    equal(tokenizer.decode([65]), "A", given="decode([65])")
