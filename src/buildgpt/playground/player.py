"""What a playground asks of a model: how a text goes on, and what may come next."""

import os
import threading
import time
from collections.abc import Callable, Iterator
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
TOO_LARGE = 2**63  # and more, of any number


class Player:
    """A loaded model that is asked by several threads, one token after the other.

    `explain` makes a sentence for the user of an error in the model's code, where it can.
    """

    def __init__(
        self, loaded: Loaded, explain: Callable[[Exception], Exception] = lambda error: error
    ) -> None:
        self.loaded, self.explain = loaded, explain
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
            right = right and (isinstance(value, str) or abs(value) < TOO_LARGE or value != value)
            config.require(right, f"{name} = {str(value)[:40]} is of the wrong kind or size")
        rest = {"seed": int.from_bytes(os.urandom(4))} | asked
        text = rest.pop("text", "")
        # Half a character, which JSON can spell and no tokenizer can read.
        whole = text.encode("utf-8", "ignore").decode() == text
        config.require(whole, "the text holds half of a surrogate pair, which is no character")
        return text, self.loaded.sampling(**rest)

    def go_on(self, text: str, sampling: Any) -> Iterator[dict[str, Any]]:
        """Yield {"text"} piece by piece, in the end {"tokens", "seconds", "seed"}: tokens are the
        pieces but the last, which only ends a character; seconds are those since the beginning.

        Whoever asks for a piece has the model for that long; it waits for nobody who reads.
        """
        loaded, begun, count = self.loaded, time.perf_counter(), 0
        with self.turn:
            model = loaded.decoder_for(sampling)
        pieces = iter(loaded.core.generate.stream_text(model, loaded.tokenizer, text, sampling))
        while (piece := self.one_of(pieces)) is not None:
            count += 1
            yield {"text": piece}
        seconds = round(time.perf_counter() - begun, 3)
        yield {"tokens": max(count - 1, 0), "seconds": seconds, "seed": sampling.seed}

    def one_of(self, pieces: Iterator[str]) -> str | None:
        """The next one; None after the last."""
        with self.turn:
            return next(pieces, None)

    def next_tokens(self, text: str, sampling: Any) -> list[dict[str, Any]]:
        """The likeliest next tokens: `id`, `text`, `probability` as the model has it, and `share`,
        with which it is drawn after temperature, top-k and top-p."""
        tokenizer = self.loaded.tokenizer
        ids = tokenizer.encode(text) or [tokenizer.end_of_text]
        with self.turn, torch.inference_mode():
            plain, share = self.chances(ids, sampling)
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

    def chances(self, ids: list[int], sampling: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Of each id to be next, (V,): as the model has it, and as it is drawn."""
        core, model = self.loaded.core, self.loaded.decoder_for(sampling)
        device = self.loaded.model.token_embedding.weight.device
        row = torch.tensor([ids[-self.loaded.model.config.context :]], device=device)
        logits = core.generate.next_logits(model, row, model.new_cache()).float().cpu()
        plain, drawn = (
            core.generate.probabilities(logits, wish)[0]
            for wish in (self.loaded.sampling(temperature=1.0), sampling)
        )
        if (plain + drawn).isnan().any():
            raise core.config.UserError(
                "no token is left to draw: the model's weights are broken, or top-p is too small"
            )
        return plain, drawn
