"""Whether a user's text can forge an end of text."""

from buildgpt.course.checking import check, equal


@check("what a user typed holds no end of text, however it is spelt", step="end-of-text")
def forged(mine):
    tokenizer = mine.ByteTokenizer()
    spelling = tokenizer.decode([tokenizer.end_of_text])
    for text in (spelling, f"a{spelling}b", f"{spelling}{spelling}", "né"):
        ids = tokenizer.encode(text)
        given = f"how often the end of text is in encode({text!r})"
        equal(ids.count(tokenizer.end_of_text), 0, given=given)
        equal(ids, list(text.encode()), given=f"encode({text!r})")
