from gpt.tokenizer import ByteTokenizer

tokenizer = ByteTokenizer()
for text in ("To be", "né", "🎭"):
    print(text, "->", tokenizer.encode(text))
