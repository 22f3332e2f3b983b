"""The figures that lesson 19 quotes: name -> (value, how it is shown, tolerance)."""

import re
import tempfile
from pathlib import Path

from prepare import prepare

from gpt.data import Batches, ShardWriter, Stream, header
from gpt.tokenizer import ByteTokenizer

folder, tokenizer = Path(tempfile.mkdtemp()) / "shakespeare", ByteTokenizer()
prepare(Path("data/shakespeare.txt"), folder)
stream = Stream(sorted(folder.glob("*_train_*.bin")), 257)

sonnets = re.split(r"\n\n(?=[IVX]+\.\n)", Path("sonnets.txt").read_text(encoding="utf-8"))
writer = ShardWriter(folder, "sonnets")
for text in sonnets[:-3]:
    writer.add([tokenizer.end_of_text, *tokenizer.encode(text)])
writer.flush()
poems = Stream(sorted(folder.glob("*_sonnets_*.bin")), 257)
aligned = Batches(poems, 128, 1, tokenizer.end_of_text)

FIGURES = {
    "tokens of Shakespeare to train on": (len(stream), "{:,.0f}", 0.0),
    "bytes of a shard": (len(header(1)) + 2 * 100_000_000, "{:,.0f}", 0.0),
    "share that alignment drops": (100 * aligned.dropped / len(poems), "{:.0f} %", 1.0),
}
