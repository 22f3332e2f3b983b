"""The figures that lesson 2 quotes: name -> (value, how it is shown, tolerance)."""

import numpy as np

from gpt.data import Batches, Corpus

stream = Corpus("data/shakespeare.txt").train
FIGURES = {
    "sequences of Shakespeare": (Batches(stream, 64, 1).sequences, "{:,.0f}", 0.0),
    "sequences of ten": (Batches(np.arange(10), 3, 1).sequences, "{:.0f}", 0.0),
}
