"""What a solution must do; `solution` is the module under test."""


def test(solution) -> None:
    """Raise AssertionError unless it does."""
    tokenizer = solution.CharTokenizer("né, né")
    assert tokenizer.vocab_size == 5, "four characters and the end of text"
    assert tokenizer.decode(tokenizer.encode("é,n")) == "é,n"
    assert len(tokenizer.encode("né")) == 2, "one id a character"
    assert tokenizer.end_of_text == 4
    try:
        tokenizer.encode("nx")
    except Exception as error:
        assert "x" in str(error), "the unknown character is named"
    else:
        raise AssertionError("an unknown character is refused")
