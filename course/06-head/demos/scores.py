import torch

from gpt.model import attend_by_hand

# Two numbers a token: "I am a noun", "I am a verb". The verb asks for nouns, the nouns for verbs.
words = ["cat", "dog", "bird", "sings"]
keys = torch.tensor([[[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [0.0, 4.0]]])
queries = keys.flip(2)
# A value that is 1 in one place shows how much of each token is gathered.
gathered = attend_by_hand(queries, keys, torch.eye(4)[None])[0]
for word, shares in zip(words, gathered.tolist()):
    print(f"{word:>5}:", "  ".join(f"{share:.2f} {other}" for share, other in zip(shares, words)))
