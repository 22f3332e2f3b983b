"""Whether decoding with a cache gives what reading at once gives."""

from buildgpt.course.checking import check, near


@check("with a cache, however the text is split, the logits are those without one", step="")
def splits(mine):
    import torch

    config = mine.core.config.ModelConfig(layers=2, heads=2, width=32, context=16, vocab_size=50)
    model = mine.core.model.GPT(config).eval()
    torch.nn.init.normal_(model.position_embedding.weight, std=0.2)
    ids = torch.arange(8)[None] * 5
    with torch.no_grad():
        whole = model(ids)
        for sizes in ([8], [4, 4], [5, 1, 2], [1] * 8):
            cache = model.new_cache()
            parts = [model.logits(model.hidden(part, cache)) for part in ids.split(sizes, dim=1)]
            off = (torch.cat(parts, dim=1) - whole).abs().max()
            near(off, 0.0, 1e-5, f"how far logits are off with a cache, text split {sizes}")
