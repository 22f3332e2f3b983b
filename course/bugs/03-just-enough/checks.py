"""Whether every sequence that fits is read."""

import numpy as np

from buildgpt.course.checking import check, equal


@check("a text of T + 1 tokens is one sequence, and each T more are another one", step="epochs")
def all_sequences(mine):
    for tokens, context, count in ((9, 8, 1), (17, 8, 2), (16, 8, 1), (10, 3, 3)):
        try:
            batches = mine.Batches(np.arange(tokens, dtype=np.uint16), context, 1)
            seen = sorted({int(batches(p, 1)[0][0, 0]) for p in range(3 * count)})
        except Exception as error:
            seen = f"{type(error).__name__}: {error}"
        given = f"where each sequence begins, of {tokens} tokens with T = {context}"
        equal(seen, [i * context for i in range(count)], given=given)
