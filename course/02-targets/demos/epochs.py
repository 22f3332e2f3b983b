import numpy as np

from gpt.data import Batches

batches = Batches(np.arange(10), context=3)
for position in range(7):
    x, y = batches(position, 1)
    print("position", position, "inputs", x.tolist(), "targets", y.tolist())
