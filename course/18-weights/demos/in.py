import importlib.util
import os
import tempfile
from pathlib import Path

import theirs
import torch

from gpt.hub import import_folder

ids = list(b"To be, or not to")
with tempfile.TemporaryDirectory() as place:
    folder = Path(place)
    theirs.make(folder)
    model, tokenizer = import_folder(folder)
    print(f"{model.parameter_count():,} parameters, a tokenizer of {tokenizer.vocab_size} ids")
    with torch.no_grad():
        mine = model(torch.tensor([ids]))[0]
    named = theirs.logits(folder, ids)
    print(f"logits of {named.std():.1f} spread, at most {(mine - named).abs().max():.0e} apart")
    if importlib.util.find_spec("transformers"):
        os.environ["HF_HUB_OFFLINE"] = "1"
        from transformers import GPT2LMHeadModel, logging

        logging.disable_progress_bar()
        with torch.no_grad():
            found = GPT2LMHeadModel.from_pretrained(folder)(torch.tensor([ids])).logits[0]
        off = (mine - found).abs().max()
        print(f"and at most {off:.0e} from what transformers computes")
