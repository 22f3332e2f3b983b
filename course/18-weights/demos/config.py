import json
import tempfile
from pathlib import Path

import theirs

from gpt.hub import read_json, read_theirs

with tempfile.TemporaryDirectory() as place:
    folder = Path(place)
    changes = ({}, {"model_type": "llama"}, {"activation_function": "gelu"}, {"n_inner": 64}, None)
    for change in changes:
        theirs.make(folder, **(change or {}))
        if change is None:
            (folder / "config.json").write_text(json.dumps([1, 2]))
        try:
            print(read_theirs(read_json(folder), folder))
        except Exception as error:
            print(f"{type(error).__name__}: {str(error).replace(place, 'folder')}")
