from gpt.tokenizer import ByteTokenizer

tokenizer = ByteTokenizer()
print(tokenizer.vocab_size, "ids; the end of a text is", tokenizer.end_of_text)
print("typed by a user:", tokenizer.encode("<|endoftext|>"))
