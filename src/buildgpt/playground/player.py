"""What a playground asks of a model: how a text goes on, and what may come next."""

import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import torch

from buildgpt.api import Loaded

KINDS: dict[str, type | tuple[type, ...]] = {
    "text": str,
    "max_tokens": int,
    "temperature": (int, float),
    "top_k": int,
    "top_p": (int, float),
    "seed": int,
}
SHOWN = 10  # of the tokens that may come next


class Player:
    """A loaded model that is asked by several threads, one after the other."""

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded
        self.turn = threading.Lock()

    def about(self) -> dict[str, Any]:
        """What the page says of the model."""
        model = self.loaded.model
        return {
            "run": self.loaded.source,
            "step": self.loaded.step,
            "parameters": model.parameter_count(),
            "context": model.config.context,
            "tokenizer": self.loaded.tokenizer.kind,
            "vocab_size": self.loaded.tokenizer.vocab_size,
        }

    def wishes(self, asked: dict[str, Any]) -> tuple[str, Any]:
        """The text and the checked Sampling of a request; UsageError for what cannot be meant."""
        config = self.loaded.core.config
        for name, value in asked.items():
            config.require(
                name in KINDS, f"{name!r} is nothing to ask for; there are {', '.join(KINDS)}"
            )
            right = isinstance(value, KINDS[name]) and not isinstance(value, bool)
            config.require(right, f"{name} = {value!r} is of the wrong kind")
        rest = {"seed": int.from_bytes(os.urandom(4))} | asked
        text = rest.pop("text", "")
        # Half a character, which JSON can spell and no tokenizer can read.
        whole = text.encode("utf-8", "ignore").decode() == text
        config.require(whole, "the text holds half of a surrogate pair, which is no character")
        return text, self.loaded.sampling(**rest)

    def go_on(self, text: str, sampling: Any) -> Iterator[dict[str, Any]]:
        """Yield {"text"} piece by piece, in the end {"tokens", "seconds", "seed"}: tokens are
        those that the tokenizer counts in the pieces, seconds those since the first was asked for.

        One who stops asking leaves the model to the next.
        """
        loaded, pieces = self.loaded, []
        with self.turn:
            begun = time.perf_counter()
            model = loaded.decoder_for(sampling)
            for piece in loaded.core.generate.stream_text(model, loaded.tokenizer, text, sampling):
                pieces.append(piece)
                yield {"text": piece}
            seconds = time.perf_counter() - begun
        tokens = len(loaded.tokenizer.encode("".join(pieces)))
        yield {"tokens": tokens, "seconds": round(seconds, 3), "seed": sampling.seed}

    @torch.inference_mode()
    def next_tokens(self, text: str, sampling: Any) -> list[dict[str, Any]]:
        """The likeliest next tokens: `id`, `text`, `probability` as the model has it, and `share`,
        with which it is drawn after temperature, top-k and top-p."""
        core, tokenizer = self.loaded.core, self.loaded.tokenizer
        ids = tokenizer.encode(text) or [tokenizer.end_of_text]
        with self.turn:
            model = self.loaded.decoder_for(sampling)
            device = self.loaded.model.token_embedding.weight.device
            row = torch.tensor([ids[-self.loaded.model.config.context :]], device=device)
            logits = core.generate.next_logits(model, row, model.new_cache()).float().cpu()
        if logits.isnan().any():
            raise core.config.UserError("the model gives no numbers: its weights are broken")
        plain = core.generate.probabilities(logits, self.loaded.sampling(temperature=1.0))[0]
        share = core.generate.probabilities(logits, sampling)[0]
        likeliest = plain.topk(min(SHOWN, len(plain))).indices.tolist()
        return [
            {
                "id": i,
                "text": "" if i == tokenizer.end_of_text else tokenizer.decode([i]),
                "probability": float(plain[i]),
                "share": float(share[i]),
            }
            for i in likeliest
        ]
