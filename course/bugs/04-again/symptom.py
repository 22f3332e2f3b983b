import numpy as np

from gpt.data import Batches

batches = Batches(np.arange(1001, dtype=np.uint16), 10, seed=1)
epochs = [batches(100 * epoch, 100)[0][:, 0].tolist() for epoch in range(4)]
for number, epoch in enumerate(epochs):
    same = sum(one == other for one, other in zip(epoch, epochs[0]))
    print(f"epoch {number} begins {epoch[:6]}; in the same place as in epoch 0: {same} of 100")
