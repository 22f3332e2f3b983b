from pathlib import Path

from gpt.config import load_recipe
from gpt.generate import Sampling, continue_text
from gpt.model import Block
from gpt.train import Trainer


def by_heart():
    """Train on the sonnet alone, then let it be recited from its first letter."""
    trainer = Trainer(load_recipe(Path("sonnet.toml")))
    trainer.run()
    said = continue_text(trainer.model, trainer.tokenizer, "S", Sampling(150, temperature=0))
    print(f"S{said}\n")


by_heart()
print("The same with two plus signs missing in Block:")
Block.forward = lambda own, x: own.mlp(own.mlp_norm(own.attention(own.attention_norm(x))))
by_heart()
