from pathlib import Path

from gpt.tokenizer import GPT2Tokenizer

tokenizer = GPT2Tokenizer()
for text in ("Hello, I'm a language model,", "hello", "127 128 1729", "日本", "<|endoftext|>"):
    ids = tokenizer.encode(text)
    print(repr(text), ids, [tokenizer.decode([i]) for i in ids])
sonnet = Path("sonnet.txt").read_text(encoding="utf-8").strip()
count = len(tokenizer.encode(sonnet))
print(f"the sonnet: {len(sonnet.encode())} bytes, {count} tokens")
