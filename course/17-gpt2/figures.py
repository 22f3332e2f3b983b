"""The figures that lesson 17 quotes: name -> (value, how it is shown, tolerance)."""

from pathlib import Path

from gpt.tokenizer import GPT2Tokenizer

tokenizer = GPT2Tokenizer()
sonnet = Path("sonnet.txt").read_text(encoding="utf-8").strip()
text = Path("data/shakespeare.txt").read_text(encoding="utf-8")[:300_000]
size, count = len(sonnet.encode()), len(tokenizer.encode(sonnet))

FIGURES = {
    "tokens of the sonnet": (count, "{:.0f}", 0.0),
    "bytes a token in the sonnet": (size / count, "{:.1f}", 0.0),
    "bytes a token of GPT-2 in Shakespeare": (
        len(text.encode()) / len(tokenizer.encode(text)),
        "{:.2f}",
        0.01,
    ),
}
