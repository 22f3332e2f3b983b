import math

import torch

from gpt.config import DataConfig, ModelConfig
from gpt.data import Batches, Corpus
from gpt.model import GPT

torch.manual_seed(1337)
batches = Batches(Corpus(DataConfig()).train, 64, 1337)
print(f"first loss {GPT(ModelConfig(vocab_size=257))(*batches(0, 32)).item():.3f}")
print(f"of even guesses {math.log(257):.3f}")
