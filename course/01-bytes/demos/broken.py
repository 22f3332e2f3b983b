from gpt.tokenizer import ByteTokenizer

tokenizer = ByteTokenizer()
half = tokenizer.encode("é")[:1]
print("half of é:", half, "->", tokenizer.decode(half))
