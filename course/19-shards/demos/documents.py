import re
import tempfile
from pathlib import Path

from gpt.config import DataConfig
from gpt.data import Batches, Corpus, ShardWriter, write_manifest
from gpt.tokenizer import ByteTokenizer

tokenizer = ByteTokenizer()
text = Path("sonnets.txt").read_text(encoding="utf-8")
sonnets = re.split(r"\n\n(?=[IVX]+\.\n)", text)  # each has a number above it
with tempfile.TemporaryDirectory() as place:
    folder, splits = Path(place), {}
    for split, texts in (("train", sonnets[:-3]), ("val", sonnets[-3:])):
        writer = ShardWriter(folder, split)
        for text in texts:
            writer.add([tokenizer.end_of_text, *tokenizer.encode(text)])
        splits[split] = writer.close()
    write_manifest(folder, tokenizer, splits)
    for align in ("none", "documents"):
        corpus = Corpus(DataConfig(path=place, align=align))
        batches = Batches(corpus.train, 128, 1, corpus.opening)
        print(f'align = "{align}": {batches.sequences} sequences, {batches.dropped} not read')
        for ids in batches(0, 3)[0]:
            print("   ", repr(tokenizer.decode(ids[:40].tolist())))
