import numpy as np

from gpt.data import Batches

try:
    print(Batches(np.arange(8), context=8, seed=1)(0, 1))
except Exception as error:
    print(type(error).__name__, error)
