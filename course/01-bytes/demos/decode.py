from gpt.tokenizer import ByteTokenizer

tokenizer = ByteTokenizer()
ids = tokenizer.encode("né")
print(ids, "->", tokenizer.decode(ids))
print(tokenizer.vocab_size, "ids; the first letters:", tokenizer.decode(range(65, 75)))
