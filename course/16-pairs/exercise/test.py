"""What a solution must do; `solution` is the module under test."""

from gpt.tokenizer import BytePairTokenizer


def test(solution) -> None:
    """Raise AssertionError unless it does."""
    plain = BytePairTokenizer([])
    learnt = BytePairTokenizer.train("né né né né", 259)
    thrice = BytePairTokenizer.train("日日日日 日日日日", 259)
    for tokenizer, text, wanted in (
        (plain, "", 0),
        (plain, "abc", 0),
        (plain, "né", 2),
        (learnt, "né né", 0),
        (learnt, "ä", 2),
        (plain, "日", 3),
        (thrice, "日日", 0),
    ):
        found = solution.broken(tokenizer, text)
        assert found == wanted, f"{text!r} with {tokenizer.merges}: {found}, not {wanted}"
