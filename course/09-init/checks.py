"""What a model must be like before it has learnt anything."""

import math

from buildgpt.course.checking import check, equal, expect, near, refused


def config(mine, **wishes):
    """A small ModelConfig."""
    small = {"layers": 2, "width": 64, "heads": 4, "context": 32, "vocab_size": 100}
    return mine.ModelConfig(**(small | wishes))


@check("before any training, every token is about equally likely again", step="matrices")
def even(mine):
    import torch

    torch.manual_seed(0)
    for vocab_size in (100, 257):
        ids = torch.randint(vocab_size, (16, 33))
        model = mine.GPT(config(mine, vocab_size=vocab_size))
        found = model(ids[:, :-1], ids[:, 1:])
        causes = ["nn.Linear keeps its own, louder start: initialise asks for nn.Embedding only"]
        near(found, math.log(vocab_size), 0.04, f"the loss with {vocab_size} ids", causes)


@check("matrices start with the spread init_std, biases with 0", step="matrices")
def spreads(mine):
    torch_seed(0)
    for std in (0.02, 0.1):
        model = mine.GPT(config(mine, init_std=std))
        named = [(name, p) for name, p in model.named_parameters() if p.dim() == 2]
        expect(len(named) >= 6, f"{len(named)}", "one for each layer and table", "matrices")
        for name, p in named:
            spread, mean = p.std().item(), p.mean().item()
            given = f"{name}, init_std = {std}"
            good = 0.4 * std < spread < 1.1 * std
            causes = ["another spread than the config's", "a layer that is left as PyTorch made it"]
            expect(
                good, f"{spread:.4f}", f"about {std}, or less in a layer that adds", given, causes
            )
            expect(abs(mean) < 0.1 * std, f"{mean:.4f}", "0", f"the mean of {given}")
        largest = max(p.std().item() for _, p in named)
        near(largest, std, 0.1 * std, f"the largest spread of a matrix, init_std = {std}")
        vectors = [p for p in model.parameters() if p.dim() == 1]
        constant = all(bool((p == p[0]).all()) for p in vectors)
        expect(constant, "random numbers", "0 in biases, 0 and 1 in norms", "vectors", ["biases"])


def torch_seed(seed):
    """The same numbers each time."""
    import torch

    torch.manual_seed(seed)


def added(mine, layers):
    """The spread of what the blocks add to the residual stream before training, in a Block each."""
    import torch

    torch.manual_seed(1)
    model = mine.GPT(config(mine, layers=layers)).double().eval()
    ends = []
    for module in model.modules():
        if isinstance(module, mine.Block):
            module.register_forward_hook(lambda block, given, out: ends.append((given[0], out)))
    model(torch.randint(100, (4, 32)))
    return (ends[-1][1] - ends[0][0]).std().item()


@check("however deep, all blocks together add as much to the stream", step="depth")
def calm(mine):
    shallow = added(mine, 2)
    for layers in (8, 18):
        deep = added(mine, layers)
        causes = [
            "the layers that add to the stream start with the spread of all the others",
            "divided by 2 * layers, not by its root",
            "the module's own matrices are set again afterwards: apply comes to children first",
        ]
        given = f"the spread of what {layers} layers add, over that of 2 layers"
        expect(0.75 < deep / shallow < 1.33, f"{deep / shallow:.2f}", "about 1", given, causes)


@check("a layer that adds starts with init_std over the root of 2 * layers", step="depth")
def shares(mine):
    torch_seed(0)
    for layers in (2, 8):
        model = mine.GPT(config(mine, layers=layers, init_std=0.1))
        found = min(p.std().item() for p in model.parameters() if p.dim() == 2)
        wanted = 0.1 / math.sqrt(2 * layers)
        given = f"the smallest spread of a matrix, {layers} layers, init_std = 0.1"
        causes = ["each block adds twice: attention's sum and the MLP's"]
        near(found, wanted, 0.1 * wanted, given, causes)
        layers_of = [m for m in model.modules() if getattr(m, "in_features", 0) == 4 * 64]
        for m in layers_of:
            causes = ["the layer that leads into the MLP is scaled, not the one that adds"]
            given = f"the spread of an MLP's second layer, {layers} layers, init_std = 0.1"
            near(m.weight.std().item(), wanted, 0.1 * wanted, given, causes)


@check("the head is the embedding turned round: one table, counted once", step="tied")
def tied(mine):
    import torch

    small, large = (mine.GPT(config(mine, vocab_size=size)) for size in (128, 256))
    more = sum(p.numel() for p in large.parameters()) - sum(p.numel() for p in small.parameters())
    causes = ["there is still a head with weights of its own"]
    equal(more, 128 * 64, given="width 64: the weights that 128 more ids cost", causes=causes)
    model = small.double()
    hidden = torch.randn(1, 3, 64, dtype=torch.float64)
    table = max(model.parameters(), key=lambda p: p.size(0) == 128)
    off = (model.logits(hidden) - hidden @ table.T).abs().max().item()
    given = "logits(hidden), against products with the rows of the embedding"
    expect(off < 1e-9, f"{off:.3g} apart", "the same", given, ["a bias, or another table"])


@check("a size by name stands for layers, heads and width; keys beside it win", step="size")
def sizes(mine):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.toml"

        def shape(text, *overrides):
            path.write_text(text, encoding="utf-8")
            model = mine.load_recipe(path, [*overrides]).model
            return model.layers, model.heads, model.width

        known = {"124M": (12, 12, 768), "355M": (24, 16, 1024), "774M": (36, 20, 1280)}
        for name, wanted in (known | {"1558M": (48, 25, 1600)}).items():
            found = shape(f'[model]\nsize = "{name}"\n')
            equal(found, wanted, given=f'size = "{name}": layers, heads, width')
        found = shape('[model]\nlayers = 2\nsize = "355M"\n')
        equal(found, (2, 16, 1024), given='layers = 2 and size = "355M"')
        found = shape("[model]\nlayers = 2\n", "model.size=774M")
        equal(found, (36, 20, 1280), given="layers = 2 in the file, --set model.size=774M")
        with refused('size = "125M"', the_value="125M", a_known_one="124M"):
            shape('[model]\nsize = "125M"\n')


@check("GPT-2 has 124,439,808 parameters, and it takes no memory to count them", step="count")
def counted(mine):
    import torch

    known = (("124M", 12, 12, 768, 124439808), ("1558M", 48, 25, 1600, 1557611200))
    for name, layers, heads, width, wanted in known:
        wish = mine.ModelConfig(
            layers=layers, heads=heads, width=width, context=1024, vocab_size=50257
        )
        with torch.device("meta"):
            found = mine.GPT(wish).parameter_count()
        causes = [
            "a bias too many or too few",
            "the tied table is counted twice",
            "positions have another number than the context",
        ]
        equal(found, wanted, given=f"parameters of the {name} GPT-2", causes=causes)
