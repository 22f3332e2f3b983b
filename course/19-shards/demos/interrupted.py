import hashlib
import tempfile
from pathlib import Path

from gpt.data import ShardWriter, Stream


def sums(folder):
    """What is in the files, in a few letters."""
    return [hashlib.sha256(path.read_bytes()).hexdigest()[:8] for path in sorted(folder.iterdir())]


with tempfile.TemporaryDirectory() as place:
    whole, parts = (Path(place) / name / "text" for name in ("whole", "parts"))
    for folder in (whole, parts):
        folder.mkdir(parents=True)
    writer = ShardWriter(whole, "train", 1000)
    writer.add(range(2500))
    writer.close()
    writer = ShardWriter(parts, "train", 1000)
    writer.add(range(1300))
    state = writer.save()
    writer.add(range(1300, 2100))  # then the power failed
    writer = ShardWriter(parts, "train", 1000)
    writer.restore(state)
    writer.add(range(1300, 2500))
    writer.close()
    print(sums(whole))
    print(sums(parts))
    try:
        Stream(sorted(whole.iterdir()), 257).read(0, 300)
    except Exception as error:
        print(f"{type(error).__name__}: {str(error).replace(place, '')}")
