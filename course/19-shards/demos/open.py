import tempfile
from pathlib import Path

import numpy as np

from gpt.data import header, open_shard

print("header(3) begins with", header(3)[:12].hex(" ", 4))
tokens = np.array([50256, 464, 1266], dtype="<u2").tobytes()
files = {
    "good": header(3) + tokens,
    "cut": header(3) + tokens[:-1],
    "foreign": bytes(1024) + tokens,
    "swapped": header(3)[3::-1] + header(3)[4:] + tokens,
    "short": b"To be, or not to be",
}
with tempfile.TemporaryDirectory() as place:
    for name, content in files.items():
        path = Path(place) / f"{name}.bin"
        path.write_bytes(content)
        try:
            print(f"{name}: {open_shard(path)}")
        except Exception as error:
            print(f"{name}: {type(error).__name__}: {str(error).replace(place, '')}")
