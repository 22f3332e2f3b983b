import json
from pathlib import Path

from gpt.hellaswag import read_hellaswag

path = Path("endings.jsonl")
items = read_hellaswag(path)
print(f"{len(items)} items; the first one:")
print(items[0].context, "...")
kinds = json.loads(path.read_text(encoding="utf-8").splitlines()[0])["kinds"]
for number, (ending, kind) in enumerate(zip(items[0].endings, kinds)):
    print(f"    {number} {ending:28} {'<- right' if number == items[0].label else kind}")
