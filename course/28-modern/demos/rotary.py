import dataclasses

import torch
from race import MODEL, train

from gpt.config import ModernConfig
from gpt.modern import Modern, rotate, rotation

torch.manual_seed(1)
q, k = torch.randn(1, 1, 1, 16), torch.randn(1, 1, 1, 16)
turned = rotation(0, 200, 16, q)
queries, keys = (rotate(x.expand(1, 1, 200, 16), *turned)[0, 0] for x in (q, k))
for back in (0, 1, 5, 50):
    scores = [float(queries[place] @ keys[place - back]) for place in (60, 100, 199)]
    words = ", ".join(f"{score:.3f}" for score in scores)
    print(f"the key lies {back:2} before the query: scores {words} at 60, 100 and 199")
names = [field.name for field in dataclasses.fields(ModernConfig)]
for what, switches in (
    ("a table of positions", ModernConfig(**dict.fromkeys(names, False))),
    ("rotary positions", ModernConfig(**(dict.fromkeys(names, False) | {"rotary": True}))),
):
    torch.manual_seed(1)
    loss = train(Modern(MODEL, switches), 100)
    print(f"{what}: loss after 100 steps {loss:.3f}")
