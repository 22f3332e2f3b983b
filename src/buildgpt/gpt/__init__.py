"""The core: a GPT from text to text, in a dozen files that are read in order.

text -> tokenizer -> shards -> batches -> model -> loss -> optimizer -> checkpoint
-> generate and evaluate
"""

import time

# The first line of the core that runs. Importing torch takes seconds, and they belong to a run.
PROCESS_START = time.monotonic()
