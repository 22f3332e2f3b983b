"""The figures that lesson 1 quotes, measured where its code and the text lie: name -> value."""

from gpt.tokenizer import ByteTokenizer

tokenizer = ByteTokenizer()
FIGURES = {"ids of a mask": (len(tokenizer.encode("🎭")), "{:.0f}", 0.0)}
