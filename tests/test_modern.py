"""The modern architecture: GPT-2 with all switches off, and what always holds with them on."""

import dataclasses
import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from buildgpt.decoding import for_decoding, pack_for_few
from buildgpt.gpt import model as model_module
from buildgpt.gpt import modern as modern_module
from buildgpt.gpt.checkpoint import load_run
from buildgpt.gpt.config import ModelConfig, ModernConfig, UserError
from buildgpt.gpt.generate import Sampling, generate
from buildgpt.gpt.model import GPT
from buildgpt.gpt.modern import (
    LARGEST_BIGRAM_TABLE,
    SOFTCAP,
    Modern,
    bigram_rows,
    build,
    build_like,
    hash_bigrams,
    mask,
    rotate,
    rotation,
    set_window,
    value_table,
    window_at,
)
from buildgpt.gpt.train import without_embeddings

CONFIG = ModelConfig(
    layers=4, heads=2, width=16, context=12, vocab_size=11, architecture="modern", init_std=0.3
)
END_OF_TEXT = CONFIG.vocab_size - 1
SWITCHES = [field.name for field in dataclasses.fields(ModernConfig)]
ALL_OFF = ModernConfig(**dict.fromkeys(SWITCHES, False))


def lively(switches: ModernConfig = ModernConfig(), config: ModelConfig = CONFIG) -> Modern:  # noqa: B008
    """A model whose weights are all random, also those that begin at zero or one."""
    model = build(config, switches)
    for parameter in model.parameters():
        nn.init.normal_(parameter, mean=float(parameter.dim() < 2) / 2, std=0.2)
    set_window(model, 0.5)
    return model.eval()


def without(name: str) -> ModernConfig:
    return dataclasses.replace(ModernConfig(), **{name: False})


def only(name: str) -> ModernConfig:
    return dataclasses.replace(ALL_OFF, **{name: True})


VARIANTS = [
    ModernConfig(),
    ALL_OFF,
    *(without(name) for name in SWITCHES),
    *(only(name) for name in SWITCHES),
]


def named(switches: ModernConfig) -> str:
    on = [name for name in SWITCHES if getattr(switches, name)]
    off = [name for name in SWITCHES if name not in on]
    if len(on) < 2:
        return "only " + "".join(on)
    return "without " + "".join(off)


every_variant = pytest.mark.parametrize("switches", VARIANTS, ids=named)


def some_ids(rows: int = 2, length: int = CONFIG.context) -> torch.Tensor:
    """Ids with ends of text among them."""
    ids = torch.randint(END_OF_TEXT, (rows, length))
    ids[0, length // 3] = ids[-1, length // 2] = END_OF_TEXT
    return ids


# GPT-2, where nothing is switched on.


def test_with_all_switches_off_it_is_gpt2():
    theirs = GPT(dataclasses.replace(CONFIG, architecture="gpt2"))
    ours = build(CONFIG, ALL_OFF)
    ours.load_state_dict(theirs.state_dict())
    ids = some_ids()
    torch.testing.assert_close(ours(ids), theirs(ids), rtol=1e-6, atol=1e-6)
    assert ours.parameter_count() == theirs.parameter_count()


def test_with_all_switches_off_it_begins_as_gpt2_does():
    theirs, ours = (
        build(dataclasses.replace(CONFIG, width=64, architecture=a), ALL_OFF)
        for a in ("gpt2", "modern")
    )
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters()):
        assert mine.std().item() == pytest.approx(other.std().item(), rel=0.2), name


@pytest.mark.parametrize("name", SWITCHES)
def test_every_switch_changes_the_model(name):
    if name == "zero_init":
        changed, plain = build(CONFIG, only(name)), build(CONFIG, ALL_OFF)
        assert not changed.blocks[0].mlp.out.weight.any()
        assert plain.blocks[0].mlp.out.weight.any()
        return
    plain, changed = lively(ALL_OFF), lively(only(name))
    weights = plain.state_dict()
    changed.load_state_dict(
        {k: weights.get(k, v) for k, v in changed.state_dict().items()}, strict=True
    )
    ids = some_ids()
    assert (plain(ids) - changed(ids)).abs().max() > 1e-4


# What always holds.


@every_variant
def test_no_output_depends_on_a_later_token(switches):
    model, ids = lively(switches), some_ids()
    logits = model(ids)
    for place in range(1, CONFIG.context):
        changed = ids.clone()
        changed[:, place] = (changed[:, place] + 1) % CONFIG.vocab_size
        assert torch.equal(model(changed)[:, :place], logits[:, :place])


@every_variant
def test_a_later_token_gets_no_gradient(switches, monkeypatch):
    """Neither what its embedding gives to the stream, nor what it offers as a value."""
    model, entered = lively(switches), []

    def watch(embedding: torch.nn.Module, ids: torch.Tensor, out: torch.Tensor) -> None:
        out.retain_grad()
        entered.append(out)

    tables = [model.token_embedding, *model.value_embeddings]
    tables += [] if model.bigram_embedding is None else [model.bigram_embedding]
    for table in tables:
        table.register_forward_hook(watch)
    model(some_ids())[:, :3].sum().backward()
    assert len(entered) == len(tables)
    for out in entered:
        assert out.grad[:, :3].any() and not out.grad[:, 3:].any()


@every_variant
def test_decoding_with_the_cache_gives_the_logits_of_the_full_pass(switches):
    model, ids = lively(switches), some_ids()
    with torch.no_grad():
        whole = model(ids)
        for split in range(1, CONFIG.context):
            cache = model.new_cache()
            parts = [model.hidden(ids[:, :split], cache)]
            parts += [model.hidden(ids[:, i : i + 1], cache) for i in range(split, CONFIG.context)]
            logits = model.logits(torch.cat(parts, dim=1))
            torch.testing.assert_close(logits, whole, rtol=1e-5, atol=1e-5)
            cache = model.new_cache()
            parts = [model.hidden(piece, cache) for piece in (ids[:, :split], ids[:, split:])]
            logits = model.logits(torch.cat(parts, dim=1))
            torch.testing.assert_close(logits, whole, rtol=1e-5, atol=1e-5)


@every_variant
def test_the_packed_model_decodes_to_the_same_logits(switches):
    model, ids = lively(switches), some_ids()
    with torch.inference_mode():
        packed = for_decoding(model)
        assert (packed is model) or any("Packed" in type(m).__name__ for m in packed.modules())
        torch.testing.assert_close(packed(ids), model(ids), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_packed_model_decodes_any_split_of_a_prompt(dtype):
    """As near to fp32 as the full pass in that dtype; its keys and values are kept in fp32 even
    where a prompt's products are narrower."""
    model, ids = lively(), some_ids()
    decoder = for_decoding(model, dtype)
    pack_for_few(decoder)
    with torch.inference_mode():
        whole = model(ids)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            error = 1e-5 + (model(ids) - whole).abs().max().item()
        assert error < 0.05
        for split in range(1, CONFIG.context):
            cache = decoder.new_cache()
            parts = [decoder.hidden(piece, cache) for piece in (ids[:, :split], ids[:, split:])]
            found = decoder.logits(torch.cat(parts, dim=1))
            torch.testing.assert_close(found, whole, rtol=0, atol=error)
            if decoder is not model:
                assert {part.keys.dtype for part in cache[:-1]} == {torch.float32}
            assert cache[-1].keys.dtype == torch.int64


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_a_text_goes_on_with_what_the_full_pass_finds_likeliest(dtype, error):
    """Also beyond the context, where the last tokens are computed anew."""
    model, said = lively(), [3, END_OF_TEXT, 1]
    for token in generate(for_decoding(model, dtype), said, Sampling(30, temperature=0.0)):
        logits = model(torch.tensor([said[-CONFIG.context :]]))[0, -1].tolist()
        assert logits[token] >= max(logits) - error
        said = [*said, int(token)]
    assert len(said) == 33 and len(set(said)) > 2


@every_variant
def test_padding_ids_get_nothing(switches):
    model, ids = lively(switches), some_ids()
    model.train()
    assert model(ids).shape == (*ids.shape, CONFIG.vocab_size)
    model(ids, ids).backward()
    for name, parameter in model.named_parameters():
        if len(parameter) == 128 and name != "bigram_embedding.weight":
            assert not parameter.grad[CONFIG.vocab_size :].any(), name
    padding = sum(
        (128 - CONFIG.vocab_size) * CONFIG.width
        for name, p in model.named_parameters()
        if len(p) == 128 and name != "bigram_embedding.weight"
    )
    assert model.parameter_count() == sum(p.numel() for p in model.parameters()) - padding


@every_variant
def test_every_parameter_learns(switches):
    """One that got no gradient would stop ranks from training together."""
    model = lively(switches)
    model(some_ids(), some_ids()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name


def test_a_chosen_row_of_a_cache_goes_on_alone():
    model, ids = lively(), some_ids()
    with torch.no_grad():
        whole = model(ids)
        cache = model.new_cache(5)
        model.hidden(ids[:, :5], cache)
        chosen = [part.select(torch.tensor([1, 0]), 7) for part in cache]
        rest = model.logits(model.hidden(ids.flip(0)[:, 5:], chosen))
    torch.testing.assert_close(rest, whole.flip(0)[:, 5:], rtol=1e-5, atol=1e-5)


def test_more_than_the_context_is_refused():
    with pytest.raises(ValueError, match="13 tokens exceed a context of 12"):
        lively().hidden(torch.zeros(1, 13, dtype=torch.int64))


def test_a_model_like_another_has_its_shape_and_switches():
    model = lively(without("bigrams"))
    again = build_like(model)
    assert isinstance(again, Modern)
    assert again.switches == model.switches
    again.load_state_dict(model.state_dict())
    assert type(build_like(GPT(CONFIG))) is type(build(CONFIG, ModernConfig()))


# The parts, against others' or written out.


def test_a_zero_head_guesses_nothing():
    model = build(CONFIG, ModernConfig())
    loss = model(some_ids(), some_ids())
    assert loss.item() == pytest.approx(math.log(CONFIG.vocab_size))


@pytest.mark.parametrize("depth", [4, 8, 64])
def test_rotary_positions_turn_pairs_as_complex_numbers(depth):
    x = torch.randn(2, 3, 5, depth)
    cosines, sines = rotation(7, 12, depth, x)
    turned = rotate(x, cosines, sines).double()
    pairs = torch.complex(*x.double().chunk(2, dim=3))
    turning = depth // 4
    for pair in range(depth // 2):
        speed = 1024 ** -(pair / max(turning - 1, 1)) if pair < turning else 0.0
        for time in range(5):
            angle = torch.tensor((7 + time) * speed, dtype=torch.float64)
            expected = pairs[..., time, pair] * torch.polar(torch.ones_like(angle), angle)
            found = torch.complex(turned[..., time, pair], turned[..., time, pair + depth // 2])
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_rotary_positions_are_those_of_transformers():
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    q, k = torch.randn(2, 2, 3, 6, 16)
    cosines, sines = rotation(0, 6, 16, q)
    both = [torch.cat([table, table], dim=1)[None] for table in (cosines, sines)]
    expected = apply_rotary_pos_emb(q, k, *both)
    for mine, theirs in zip((q, k), expected):
        torch.testing.assert_close(rotate(mine, cosines, sines), theirs)


def test_only_the_distance_counts():
    q, k = torch.randn(2, 1, 1, 1, 16)
    products = []
    for start in (0, 5, 100):
        there, here = (
            rotate(x, *rotation(place, place + 1, 16, x))
            for x, place in ((k, start), (q, start + 9))
        )
        products.append((there * here).sum().item())
    assert products == pytest.approx([products[0]] * 3, abs=1e-4)


def test_the_norm_is_the_published_one():
    x = torch.randn(3, 16, dtype=torch.float64)
    norm = build(CONFIG, ModernConfig()).norm
    assert not list(norm.parameters())
    expected = x / (x.square().mean(dim=1, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(norm(x), expected)


def test_logits_stay_below_the_cap_and_keep_their_order():
    model = lively()
    model.head.weight.data *= 100
    hidden = torch.randn(4, 3, CONFIG.width)
    capped = model.logits(hidden)
    plain = F.linear(hidden, model.head.weight)[..., : CONFIG.vocab_size]
    assert plain.abs().max() > SOFTCAP >= capped.abs().max()
    torch.testing.assert_close(capped, SOFTCAP * torch.tanh(plain / SOFTCAP))


@pytest.mark.parametrize("rows", [1, 7, 24])
@pytest.mark.parametrize("untied", [True, False])
def test_a_loss_in_parts_is_the_loss_of_capped_logits(monkeypatch, rows, untied):
    """Value and gradients, in float64, whatever stands in the padding; no logits are kept."""
    switches = ModernConfig() if untied else without("untied_head")
    model, ids = lively(switches).double(), some_ids(2, 13)
    model.head_weight().data.mul_(20)[CONFIG.vocab_size :] = 1e3
    assert model(ids[:, :-1]).abs().max() > 0.9 * SOFTCAP

    def results():
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
            loss = model(ids[:, :-1], ids[:, 1:]) / 3
        wide = any(t.numel() == 24 * CONFIG.vocab_size for t in kept)
        return wide, [loss.detach(), *torch.autograd.grad(loss, list(model.parameters()))]

    keeps, plain = results()
    monkeypatch.setattr(model_module, "LOGITS_AT_ONCE", rows * 128)
    keeps_in_parts, in_parts = results()
    assert keeps and (keeps_in_parts == (rows == 24))
    for part, whole in zip(in_parts, plain):
        torch.testing.assert_close(part, whole, rtol=1e-10, atol=1e-13)


def visible_naively(ids: list[int], window: int, by_document: bool) -> list[list[bool]]:
    rows = []
    for i in range(len(ids)):
        row = []
        for j in range(len(ids)):
            crossed = END_OF_TEXT in ids[j + 1 : i + 1]
            row.append(j <= i and i - j < window and not (by_document and crossed))
        rows.append(row)
    return rows


@given(
    ids=st.lists(st.sampled_from([0, 1, END_OF_TEXT]), min_size=1, max_size=12),
    window=st.integers(1, 12),
    by_document=st.booleans(),
    seen=st.integers(0, 11),
)
def test_the_mask_shows_what_it_may(ids, window, by_document, seen):
    seen = min(seen, len(ids) - 1)
    known = torch.tensor([ids])
    documents = lively().documents(known) if by_document else None
    found = mask(known, seen, torch.tensor(window), documents)[0, 0]
    assert (found == 0).tolist() == visible_naively(ids, window, by_document)[seen:]
    assert set(found.flatten().tolist()) <= {0.0, -math.inf}


@pytest.mark.parametrize("switches", [ModernConfig(), only("windows"), only("document_mask")])
def test_masks_of_blocks_show_what_plain_ones_do(monkeypatch, switches):
    """FlexAttention, which a CPU has forward only; traced once, though the windows open."""
    config = dataclasses.replace(CONFIG, context=140)  # more than one block of 128
    model, ids = lively(switches, config), some_ids(2, 140)
    traced = []

    def backend(graph, inputs):
        traced.append(graph)
        return graph.forward

    compiled = torch.compile(model, backend=backend)
    for done in (0.0, 0.3, 0.9):
        set_window(model, done)
        with torch.no_grad():
            plain = model(ids)
            with monkeypatch.context() as patch:
                patch.setattr(modern_module, "takes_blocks", lambda known: True)
                assert not isinstance(model.view(ids, 0).far, torch.Tensor)
                torch.testing.assert_close(compiled(ids), plain, rtol=1e-5, atol=1e-5)
    assert len(traced) == 1 and "flex_attention" in str(traced[0].graph)


def test_what_lies_in_another_document_changes_nothing():
    model = lively(ModernConfig())
    ids = some_ids(1)
    end = ids[0].tolist().index(END_OF_TEXT)
    changed = ids.clone()
    changed[0, :end] = (changed[0, :end] + 1) % END_OF_TEXT
    assert torch.equal(model(ids)[0, end:], model(changed)[0, end:])
    assert not torch.equal(model(ids)[0, :end], model(changed)[0, :end])


def test_windows_open_in_quarters():
    opened = [window_at(step / 100, 256) for step in range(101)]
    assert opened == [64] * 25 + [128] * 25 + [192] * 25 + [256] * 26
    assert window_at(0.0, 2) == 1


def test_a_closed_window_hides_what_is_far():
    model, ids = lively(only("windows")), some_ids()
    set_window(model, 0.0)  # three tokens in long windows, one in short ones
    changed = ids.clone()
    changed[:, 0] = (changed[:, 0] + 1) % END_OF_TEXT
    far = 1 + 2  # the one layer of four with a long window passes it on so far
    assert torch.equal(model(ids)[:, far:], model(changed)[:, far:])
    assert not torch.equal(model(ids)[:, :far], model(changed)[:, :far])


@pytest.mark.parametrize("vocab_size", [11, 66, 256, 257, 50257])
def test_every_pair_of_few_ids_has_its_own_row(vocab_size):
    rows = bigram_rows(vocab_size)
    ids = torch.randint(vocab_size, (1, 500))
    ids[0, ::50] = vocab_size - 1  # opens a document, and has itself before it
    found = hash_bigrams(ids, vocab_size, rows)[0].tolist()
    pairs = list(zip([ids[0, 0].item(), *ids[0, :-1].tolist()], ids[0].tolist()))
    pairs = [(b, b) if b == vocab_size - 1 else (a, b) for a, b in pairs]
    assert min(found) >= 0 and max(found) < rows
    if vocab_size**2 <= LARGEST_BIGRAM_TABLE:
        assert len(set(found)) == len(set(pairs))
    assert all(a == b for a, p in zip(found, pairs) for b, q in zip(found, pairs) if p == q)


@pytest.mark.parametrize("vocab_size", [257, 50257, 65536])
def test_pairs_of_many_ids_are_spread_over_all_rows_as_by_chance(vocab_size):
    """Whose ids are as unlike in frequency as words are; and one word after all others."""
    rows, generator = bigram_rows(vocab_size), torch.Generator().manual_seed(1)
    logarithms = torch.rand(1, 400_000, generator=generator, dtype=torch.double)
    ids = (vocab_size**logarithms).long() - 1
    distinct = torch.stack([ids[0, :-1], ids[0, 1:]]).unique(dim=1).size(1)
    used = hash_bigrams(ids, vocab_size, rows).unique().numel()
    by_chance = rows * (1 - math.exp(-distinct / rows))
    assert 0.97 * by_chance < used < 1.03 * by_chance
    before = torch.arange(vocab_size - 1)
    after_all = torch.stack([before, torch.full_like(before, 5)], dim=1)
    found = hash_bigrams(after_all, vocab_size, rows)[:, 1].unique().numel()
    assert found > 0.97 * rows * (1 - math.exp(-len(before) / rows))


def test_embeddings_of_values_return_at_the_top():
    assert [value_table(i, 12) for i in range(12)] == [0, 1, 2, *[None] * 6, 0, 1, 2]
    assert [value_table(i, 4) for i in range(4)] == [0, 1, 0, 1]
    assert [value_table(i, 3) for i in range(3)] == [0, None, 0]
    assert [value_table(i, 1) for i in range(1)] == [None]


# In and out.


def test_an_exported_model_gives_the_same_logits(tmp_path, fit, corpus):
    from buildgpt import api
    from buildgpt.gpt.hub import OUR_FORMAT, import_folder

    settings = ["model.architecture=modern", "modern.relu2=false", "train.steps=2"]
    run = fit("modern", *settings, "train.optimizer=muon")
    folder = api.export_run(str(run), tmp_path / "exported")
    names = {path.name for path in folder.iterdir()}
    assert names == {"config.json", "model.safetensors", "buildgpt_tokenizer.json"}
    assert OUR_FORMAT in (folder / "config.json").read_text()
    before = load_run(run)
    model, tokenizer = import_folder(folder)
    ids = torch.randint(before.tokenizer.vocab_size, (2, 16))
    assert torch.equal(model(ids), before.model(ids))
    assert tokenizer.to_dict() == before.tokenizer.to_dict()
    again = load_run(api.import_run(str(folder), "again", tmp_path / "runs"))
    assert torch.equal(again.model(ids), before.model(ids))
    assert again.recipe.modern == before.recipe.modern
    assert api.load(str(folder)).generate("the ", max_tokens=5, temperature=0.0) == api.load(
        str(run)
    ).generate("the ", max_tokens=5, temperature=0.0)


def test_a_folder_of_a_later_version_is_refused(tmp_path):
    from buildgpt.gpt.hub import OUR_FORMAT, import_folder

    tables = {"format": OUR_FORMAT, "model": {}, "modern": {"levitation": True}}
    (tmp_path / "config.json").write_text(json.dumps(tables))
    with pytest.raises(UserError, match="damaged, or of a later version"):
        import_folder(tmp_path)


def test_parameters_without_embeddings_are_those_of_products():
    blocks = 12 * CONFIG.layers * CONFIG.width**2
    tied, untied = (build(CONFIG, s) for s in (ALL_OFF, ModernConfig()))
    assert without_embeddings(tied) == blocks
    assert without_embeddings(untied) == blocks + CONFIG.vocab_size * CONFIG.width
