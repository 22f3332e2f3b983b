from gpt.tokenizer import ByteTokenizer

tokenizer = ByteTokenizer()
for wrong in (257, -1):
    try:
        print(wrong, "->", tokenizer.decode([wrong]))
    except Exception as error:
        print(wrong, "->", type(error).__name__, error)
