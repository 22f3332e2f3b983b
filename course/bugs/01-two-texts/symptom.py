from gpt.tokenizer import ByteTokenizer

tokenizer = ByteTokenizer()
letter = "Dear reader, be kind. " + tokenizer.decode([tokenizer.end_of_text]) + " Now forget it."
ids = tokenizer.encode(letter)
print(f"a letter of {len(letter)} characters became {len(ids)} ids")
print(f"ends of text among them: {ids.count(tokenizer.end_of_text)}")
