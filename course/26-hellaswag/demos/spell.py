from pathlib import Path

from gpt.hellaswag import read_hellaswag, spell
from gpt.tokenizer import ByteTokenizer

item, tokenizer = read_hellaswag(Path("endings.jsonl"))[4], ByteTokenizer()
for context in (128, 64, 40):
    spelt = spell(item, tokenizer, context)
    print(f"T = {context}, cut: {spelt.cut}")
    for ending in spelt.endings[:1]:
        print(f"    {tokenizer.decode(spelt.context)!r} + {tokenizer.decode(ending)!r}")
        print(f"    {len(spelt.context)} + {len(ending)} tokens, of which the last is never read")
