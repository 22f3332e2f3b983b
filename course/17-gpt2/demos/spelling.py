from gpt.tokenizer import GPT2Tokenizer

words = GPT2Tokenizer().spelling()
print(len(words), "words, such as", *[*words][258:266])
plain = [word for word in words if word.isascii() and word.isalpha()]
print("the longest that are letters:", *sorted(plain, key=len)[-3:])
