from gpt.tokenizer import spelt_bytes

spelt = {byte: character for character, byte in spelt_bytes().items()}
for text in ("the theatre", " the", "line\n", "né", "\x00\x7f"):
    print(repr(text), "is spelt", "".join(spelt[byte] for byte in text.encode()))
print(len(spelt), "bytes; the first three ids:", [*spelt_bytes()][:3])
