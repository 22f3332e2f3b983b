"""What a solution must do; `solution` is the module under test."""

from gpt.tokenizer import BytePairTokenizer, ByteTokenizer, CharTokenizer, GPT2Tokenizer


def test(solution) -> None:
    """Raise AssertionError unless it does."""
    for tokenizer, wanted in (
        (ByteTokenizer(), 0),
        (CharTokenizer(" ab"), 0),
        (BytePairTokenizer([(97, 98), (32, 97), (257, 98), (32, 256)]), 2),
        (GPT2Tokenizer(), GPT2),
    ):
        found = solution.twins(tokenizer)
        assert found == wanted, f"of {tokenizer.vocab_size} ids: {found}, not {wanted}"


GPT2 = 8536
