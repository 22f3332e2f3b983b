import numpy as np

from gpt.data import Batches

for tokens in (9, 17, 25):
    try:
        batches = Batches(np.arange(tokens, dtype=np.uint16), 8, 1)
        print(f"{tokens} tokens, T = 8: sequences {batches.sequences}")
    except Exception as error:
        print(f"{tokens} tokens, T = 8: {type(error).__name__}: {error}")
