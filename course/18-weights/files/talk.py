"""GPT-2 talks through your code: python talk.py gpt2 "Once upon a time"

The folder gpt2 holds their config.json and model.safetensors, half a gigabyte. With a network:

    pip install huggingface_hub
    hf download openai-community/gpt2 config.json model.safetensors --local-dir gpt2
"""

import sys
from pathlib import Path

from gpt.config import UserError
from gpt.generate import Sampling, stream_text
from gpt.hub import import_folder

if __name__ == "__main__":
    folder, *words = sys.argv[1:] or ["gpt2"]
    prompt = " ".join(words) or "Once upon a time"
    try:
        model, tokenizer = import_folder(Path(folder))
    except UserError as error:
        sys.exit(f"{error}\n\n{__doc__}")
    print(prompt, end="", flush=True)
    for piece in stream_text(model, tokenizer, prompt, Sampling(max_tokens=60, top_k=50)):
        print(piece, end="", flush=True)
    print()
