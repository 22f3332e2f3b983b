"""What Muon must do: keep a gradient's directions, and move a matrix as far along each."""

import math

from buildgpt.course.checking import check, equal, expect, lively, near

SHAPES = ((1, 1), (1, 4), (4, 4), (7, 3), (3, 7), (24, 16))


def turned(rows, columns, values, seed=1):
    """(matrix, left, right): a float64 matrix with these singular values, and its directions."""
    import torch

    torch.manual_seed(seed)
    count = min(rows, columns)
    left = torch.linalg.qr(torch.randn(rows, rows, dtype=torch.float64))[0][:, :count]
    right = torch.linalg.qr(torch.randn(columns, columns, dtype=torch.float64))[0][:count]
    return (left * torch.tensor(values[:count], dtype=torch.float64)) @ right, left, right


def spread(count, smallest):
    """Values from 1 down to the smallest, each the same share of the one before."""
    return [smallest ** (i / max(count - 1, 1)) for i in range(count)]


@check("all singular values come near 1, whatever they were", step="orthogonal")
def near_one(mine):
    import torch

    for rows, columns in SHAPES:
        for smallest in (1.0, 0.3, 0.02):
            values = spread(min(rows, columns), smallest)
            matrix, *_ = turned(rows, columns, values)
            found = mine.orthogonalise(matrix[None], torch.float64)
            given = f"a {rows} x {columns} matrix, singular values from 1 to {values[-1]:.2f}"
            equal(tuple(found.shape), (1, rows, columns), given=f"the shape, {given}")
            seen = torch.linalg.svdvals(found[0])
            causes = [
                "the matrix is not divided by its norm first: the quintic is for values up to 1",
                "too few rounds",
                "coefficients in another order: a is x's, b the gram's, c its square's",
            ]
            words = f"values from {seen[0]:.3f} to {seen[-1]:.3f}"
            good = 0.6 < seen.min() and seen.max() < 1.25
            expect(good, words, "all between 0.6 and 1.25", given, causes)


@check("directions stay: what went in along one comes out along its partner", step="orthogonal")
def directions(mine):
    import torch

    for rows, columns in SHAPES:
        matrix, left, right = turned(rows, columns, spread(min(rows, columns), 0.1))
        found = mine.orthogonalise(matrix[None], torch.float64)[0]
        inner = left.T @ found @ right.T
        off = (inner - inner.diag().diag()).abs().max().item()
        given = f"a {rows} x {columns} matrix"
        causes = ["tall ones are laid on their side and left so", "x @ gram, not gram @ x"]
        expect(off < 1e-6, f"directions mixed by {off:.3g}", "the same directions", given, causes)
        expect(inner.diag().min() > 0, "some turned round", "none turned round", given)


@check("neither size nor neighbours matter, and nothing comes of nothing", step="orthogonal")
def alone(mine):
    import torch

    matrix, *_ = turned(5, 4, spread(4, 0.1))
    other, *_ = turned(5, 4, spread(4, 0.5), seed=2)
    wanted = mine.orthogonalise(matrix[None], torch.float64)[0]
    found = mine.orthogonalise(torch.stack([1e4 * matrix, other, 0 * matrix]), torch.float64)
    off = (found[0] - wanted).abs().max().item()
    causes = ["the whole stack is divided by one norm: each matrix has its own"]
    expect(off < 1e-4, f"{off:.3g} off", "the same", "10,000 times a matrix, in a stack", causes)
    off = (found[1] - mine.orthogonalise(other[None], torch.float64)[0]).abs().max().item()
    given = "a matrix beside one that is 10,000 times as large"
    expect(off < 1e-4, f"{off:.3g} off", "the same as alone", given, causes)
    zero = found[2].abs().max().item()
    equal(zero, 0.0, given="a matrix of zeros", causes=["0 divided by 0 is no number"])
    for dtype in (torch.float32, torch.bfloat16):
        found = mine.orthogonalise(matrix[None].float(), dtype)
        equal(found.dtype, torch.float32, given=f"the dtype of the result, products in {dtype}")
        off = (found[0] - wanted).abs().max().item()
        expect(off < 0.1, f"{off:.3g} off", "nearly the same", f"products in {dtype}")
    rough = mine.orthogonalise(matrix[None].float(), torch.bfloat16)[0]
    same = torch.equal(rough, mine.orthogonalise(matrix[None].float(), torch.float32)[0])
    causes = ["products are not taken in the dtype that is asked for"]
    expect(not same, "the same bits", "rounded", "products in bfloat16 and in float32", causes)


def small(mine):
    """(module, config): one block with matrices of some shapes, and what is no matter of Muon."""
    import torch
    from torch import nn

    block = nn.ModuleDict(
        {
            "qkv": nn.Linear(4, 12, bias=False),
            "out": nn.Linear(4, 4),
            "up": nn.Linear(4, 16, bias=False),
            "down": nn.Linear(16, 4, bias=False),
            "norm": nn.LayerNorm(4),
        }
    )
    again = nn.ModuleDict({"out": nn.Linear(4, 4, bias=False)})
    parts = {"token_embedding": nn.Embedding(9, 4), "blocks": nn.ModuleList([block, again])}
    model = lively(nn.ModuleDict(parts))
    words = {"optimizer": "muon", "lr": 0.01, "matrix_lr": 0.1, "weight_decay": 0.0}
    if mine.done("29-muon/normuon"):
        words["normuon"] = False
    torch.manual_seed(5)
    return model, words


def push(model, optimizer, seed):
    """One update by random gradients; returns how each parameter has moved."""
    import torch

    torch.manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer.step()
    return {name: p.detach() - before[name] for name, p in model.named_parameters()}


@check("what Muon takes, AdamW leaves, and the other way round", step="shared")
def whose(mine):
    import torch

    model, words = small(mine)
    optimizer = mine.build_optimizer(model, mine.TrainConfig(**words), torch.float64)
    groups = {}
    for group in optimizer.param_groups:
        groups |= {p: ("parts" in group, group.get("parts")) for p in group["params"]}
    count = sum(len(group["params"]) for group in optimizer.param_groups)
    equal(count, len(list(model.parameters())), given="parameters in all groups")
    for name, parameter in model.named_parameters():
        wanted = name.startswith("blocks.") and parameter.dim() == 2
        given = f"whether Muon takes {name}, of {parameter.dim()} axes"
        equal(groups[parameter][0], wanted, given=given)
        if wanted:
            parts = 3 if "qkv" in name else 1
            equal(groups[parameter][1], parts, given=f"how many matrices {name} is")
    mine.build_optimizer(model, mine.TrainConfig(**(words | {"optimizer": "adamw"})))
    moves = push(model, optimizer, 1)
    for name, parameter in model.named_parameters():
        if not groups[parameter][0]:
            near(moves[name].abs().max(), 0.01, 1e-4, f"how far AdamW moves {name}, lr = 0.01")


def halves(matrix, name):
    """The matrices that a parameter of a block is."""
    return [*matrix.chunk(3)] if "qkv" in name else [matrix]


@check("an update is as large along every direction of a matrix", step="muon")
def even(mine):
    import torch

    model, words = small(mine)
    optimizer = mine.build_optimizer(model, mine.TrainConfig(**words), torch.float64)
    rate(mine, optimizer)
    for step in range(3):
        moves = push(model, optimizer, step)
        for name, parameter in model.named_parameters():
            if not (name.startswith("blocks.") and parameter.dim() == 2):
                continue
            for part in halves(moves[name], name):
                rows, columns = part.shape
                wanted = 0.1 * math.sqrt(max(1.0, rows / columns))
                seen = torch.linalg.svdvals(part)
                given = f"{name}, {rows} x {columns}, matrix_lr = 0.1, update {step + 1}"
                causes = [
                    "step does not call update for the groups with parts",
                    "queries, keys and values are one matrix instead of three",
                    "the root of rows / columns is missing, or is taken of wide matrices too",
                    "the update has no rate, or AdamW's",
                ]
                words = f"singular values from {seen[-1]:.3g} to {seen[0]:.3g}"
                good = 0.55 * wanted < seen[-1] and seen[0] < 1.25 * wanted
                expect(good, words, f"all near {wanted:.3g}", given, causes)


def rate(mine, optimizer):
    """Give the optimizer its first rate, and a momentum where it takes one."""
    heavy = (0.95,) if mine.done("29-muon/momentum") else ()
    mine.set_rates(optimizer, 0.01, *heavy)


@check("the direction is that of the momentum, looking ahead by one step", step="muon")
def ahead(mine):
    import torch

    model, words = small(mine)
    optimizer = mine.build_optimizer(model, mine.TrainConfig(**words), torch.float64)
    rate(mine, optimizer)
    memory = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for step in range(3):
        moves = push(model, optimizer, step)
        for name, parameter in model.named_parameters():
            if name.startswith("blocks.") and parameter.dim() == 2:
                memory[name] = 0.95 * memory[name] + 0.05 * parameter.grad
                mixed = 0.05 * parameter.grad + 0.95 * memory[name]
                for part, move in zip(halves(mixed, name), halves(moves[name], name)):
                    scale = 0.1 * math.sqrt(max(1.0, part.size(0) / part.size(1)))
                    wanted = -scale * mine.orthogonalise(part[None], torch.float64)[0]
                    off = (move - wanted).abs().max().item()
                    causes = [
                        "weights move along the gradient, not against it",
                        "the momentum itself is taken, without looking ahead",
                        "the shares 0.95 and 0.05 are the other way round",
                        "the momentum begins with the first gradient, not with zeros",
                    ]
                    given = f"{name}, update {step + 1}, a momentum of 0.95"
                    words = f"a move that is {off:.3g} off"
                    expect(off < 1e-6, words, "-rate * orthogonalise(...)", given, causes)


@check("a run that is saved and loaded goes on by the same bits", step="muon")
def resumed(mine):
    import torch

    model, words = small(mine)
    config = mine.TrainConfig(**words)
    optimizer = mine.build_optimizer(model, config)
    push(model, optimizer, 1)
    tensors = {k: v.clone() for k, v in mine.optimizer_tensors(model, optimizer).items()}
    for name in ("blocks.0.up.weight", "blocks.0.qkv.weight"):
        kept = [key for key in tensors if key.startswith(f"{name}/")]
        causes = ["the momentum is kept elsewhere than in self.state"]
        expect(kept, "nothing", "its momentum", f"what optimizer_tensors has of {name}", causes)
    twin = small(mine)[0]
    twin.load_state_dict(model.state_dict())
    other = mine.build_optimizer(twin, config)
    mine.load_optimizer_tensors(twin, other, tensors)
    moves, again = push(model, optimizer, 2), push(twin, other, 2)
    for name, move in moves.items():
        causes = ["the momentum is kept elsewhere than in self.state"]
        given = f"how update 2 moves {name}, with and without a pause"
        expect(torch.equal(move, again[name]), "other bits", "the same", given, causes)


@check("embeddings move six times as far as norms", step="shares")
def shares(mine):
    model, words = small(mine)
    optimizer = mine.build_optimizer(model, mine.TrainConfig(**words))
    rate(mine, optimizer)
    moves = push(model, optimizer, 1)
    for name, wanted in (("token_embedding.weight", 0.06), ("blocks.0.norm.weight", 0.01)):
        near(moves[name].abs().max(), wanted, 1e-4, f"how far {name} moves, lr = 0.01")


@check("momentum rises from 0.85 to 0.95 and falls again", step="momentum")
def rises(mine):
    for step, steps, wanted in (
        (0, 1000, 0.85),
        (125, 1000, 0.9),
        (150, 2000, 0.9),
        (300, 1000, 0.95),
        (950, 1000, 0.95),
        (975, 1000, 0.9),
        (1000, 1000, 0.85),
        (5, 40, 0.9),
        (35, 40, 0.9),
    ):
        near(mine.momentum(step, steps), wanted, 1e-9, f"momentum({step}, {steps})")


@check("with normuon neurons move about as far, the matrix as far as without", step="normuon")
def neurons(mine):
    import torch

    sizes = {}
    for normuon in (False, True):
        model, words = small(mine)
        config = mine.TrainConfig(**(words | {"normuon": normuon}))
        optimizer = mine.build_optimizer(model, config, torch.float64)
        rate(mine, optimizer)
        for step in range(8):
            moved = push(model, optimizer, step)["blocks.0.up.weight"]
        sizes[normuon] = moved.norm(dim=1)
    whole = {normuon: found.norm().item() for normuon, found in sizes.items()}
    near(whole[True], whole[False], 1e-6, "the size of a matrix's update, with and without")
    ratios = {normuon: (found.max() / found.min()).item() for normuon, found in sizes.items()}
    words = f"{ratios[True]:.2f} times, without it {ratios[False]:.2f} times"
    given = "the largest move of a neuron over the smallest, update 8"
    expect(ratios[True] < ratios[False], words, "nearer to 1 than without", given)


@check("a weight decays only where its update makes it smaller", step="cautious")
def cautious(mine):
    import torch

    moves = {}
    for decay, careful in ((0.0, True), (0.5, False), (0.5, True)):
        model, words = small(mine)
        words |= {"weight_decay": decay, "cautious_decay": careful}
        optimizer = mine.build_optimizer(model, mine.TrainConfig(**words), torch.float64)
        rate(mine, optimizer)
        weight = model["blocks"][0]["up"].weight
        old = weight.detach().clone()
        moves[decay, careful] = push(model, optimizer, 1)["blocks.0.up.weight"]
    update = moves[0.0, True]
    for careful in (False, True):
        there = old * update < 0 if careful else torch.ones_like(old, dtype=torch.bool)
        wanted = update - 0.1 * 0.5 * old * there
        off = (moves[0.5, careful] - wanted).abs().max().item()
        given = f"matrix_lr = 0.1, weight_decay = 0.5, cautious_decay = {careful}"
        expect(off < 1e-9, f"a move that is {off:.3g} off", "update and decay", given)
