"""Whether epochs have orders of their own."""

import numpy as np

from buildgpt.course.checking import check, equal, expect


@check("each epoch has an order of its own, decided by the seed", step="shuffle")
def orders(mine):
    stream = np.arange(1001, dtype=np.uint16)
    batches, twin = (mine.Batches(stream, 10, 1) for _ in range(2))
    epochs = [batches(100 * epoch, 100)[0][:, 0].tolist() for epoch in range(4)]
    for number in (1, 2, 3):
        same = sum(one == other for one, other in zip(epochs[number], epochs[0]))
        given = f"sequences in the same place in epoch {number} as in epoch 0, of 100"
        expect(same < 20, f"{same}", "hardly any: about 1", given)
        twins = twin(100 * number, 100)[0][:, 0].tolist()
        equal(epochs[number], twins, given=f"epoch {number} of two batches with the same seed")
