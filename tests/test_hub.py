"""Hugging Face GPT-2 folders, in and out, with `transformers` as the authority."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from buildgpt.gpt import hub as hub_module
from buildgpt.gpt.config import ModelConfig, UserError
from buildgpt.gpt.hub import OUR_TOKENIZER, export_folder, import_folder
from buildgpt.gpt.model import GPT
from buildgpt.gpt.tokenizer import BytePairTokenizer, ByteTokenizer, CharTokenizer, GPT2Tokenizer

LETTERS = CharTokenizer("abcdefghijklmnopqrstuvwxyz .,!")  # and end of text: 31 ids
WEIGHTS = "model.safetensors"
SHAPE = {"n_layer": 2, "n_head": 2, "n_embd": 16, "n_positions": 12}


def randomise(model: nn.Module) -> nn.Module:
    """Every parameter random, so that none can be forgotten or mixed up unseen."""
    for parameter in model.parameters():
        nn.init.normal_(parameter, mean=float(parameter.dim() < 2) / 10, std=0.3)
    return model.eval()


def random_gpt(vocab_size: int = LETTERS.vocab_size) -> GPT:
    model = GPT(ModelConfig(layers=2, heads=2, width=16, context=12, vocab_size=vocab_size))
    randomise(model)
    return model


def save_theirs(folder: Path, vocab_size: int = LETTERS.vocab_size) -> GPT2LMHeadModel:
    """A folder as `transformers` writes it; with our tokenizer where it is not GPT-2's."""
    theirs = randomise(GPT2LMHeadModel(GPT2Config(vocab_size=vocab_size, **SHAPE)))
    theirs.save_pretrained(folder)
    if vocab_size == LETTERS.vocab_size:
        LETTERS.save(folder / OUR_TOKENIZER)
    return theirs


@pytest.fixture
def folder(tmp_path) -> Path:
    """A good folder, to be tampered with."""
    save_theirs(tmp_path / "theirs")
    return tmp_path / "theirs"


def refusal(folder: Path) -> str:
    """The one sentence with which a folder is refused."""
    with pytest.raises(UserError) as refused:
        import_folder(folder)
    sentence = str(refused.value)
    assert sentence
    assert "\n" not in sentence
    return sentence


def change_config(folder: Path, **changes) -> None:
    """Set keys of config.json, or take away those set to `...`."""
    config = json.loads((folder / "config.json").read_text()) | changes
    kept = {key: value for key, value in config.items() if value is not ...}
    (folder / "config.json").write_text(json.dumps(kept))


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in load_file(folder / WEIGHTS).items()}


def write_weights(folder: Path, tensors: dict[str, torch.Tensor | None]) -> None:
    """Write those that are not None."""
    kept = {name: t.clone().contiguous() for name, t in tensors.items() if t is not None}
    save_file(kept, folder / WEIGHTS)


def assert_same_logits(ours: GPT, theirs: GPT2LMHeadModel) -> None:
    ids = torch.randint(ours.config.vocab_size, (3, ours.config.context))
    with torch.no_grad():
        expected = theirs(ids).logits
        torch.testing.assert_close(ours(ids), expected, rtol=0, atol=1e-4)
        assert expected.std() > 0.2  # so that the tolerance means something
        loss = theirs(ids, labels=ids).loss.item()  # they shift targets themselves
        assert ours(ids[:, :-1], ids[:, 1:]).item() == pytest.approx(loss, abs=1e-4)


# In.


@pytest.mark.parametrize("vocab_size", [LETTERS.vocab_size, 50257])
def test_imported_weights_give_the_logits_of_transformers(tmp_path, vocab_size):
    theirs = save_theirs(tmp_path / "theirs", vocab_size)
    model, tokenizer = import_folder(tmp_path / "theirs")
    assert_same_logits(model, theirs)
    assert tokenizer.kind == ("gpt2" if vocab_size == 50257 else "char")
    assert model.parameter_count() == sum(p.numel() for p in theirs.parameters())
    assert not model.training


def test_padding_of_the_imported_vocabulary_is_zero(folder):
    model, _ = import_folder(folder)
    assert model.token_embedding.num_embeddings == 128
    assert not model.token_embedding.weight[LETTERS.vocab_size :].any()


def test_old_names_and_masks_are_accepted(folder):
    """OpenAI's own files: no "transformer." before the names, each layer's mask beside it."""
    before = import_folder(folder)[0].state_dict()

    old = {name.removeprefix("transformer."): t for name, t in read_weights(folder).items()}
    for layer in range(SHAPE["n_layer"]):
        old[f"h.{layer}.attn.bias"] = torch.ones(1, 1, 12, 12, dtype=torch.uint8).tril()
        old[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    write_weights(folder, old)
    optional = ("tie_word_embeddings", "n_inner", "scale_attn_weights", "add_cross_attention")
    change_config(folder, n_ctx=12, **dict.fromkeys(optional, ...))
    after = import_folder(folder)[0].state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_a_head_that_repeats_the_embedding_is_accepted(folder):
    tensors = read_weights(folder)
    write_weights(folder, tensors | {"lm_head.weight": tensors["transformer.wte.weight"]})
    import_folder(folder)


def test_an_untied_head_is_refused(folder):
    """Whatever the config says, and whether or not there is an embedding to compare it with."""
    tensors = read_weights(folder)
    head = {"lm_head.weight": tensors["transformer.wte.weight"] + 1e-6}
    write_weights(folder, tensors | head)
    assert "head is not tied" in refusal(folder)
    write_weights(folder, tensors | head | {"transformer.wte.weight": None})
    refusal(folder)


def test_half_precision_is_read_as_fp32(folder):
    write_weights(folder, {name: t.half() for name, t in read_weights(folder).items()})
    model, _ = import_folder(folder)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert_same_logits(model, GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32))


# Out.


def test_exported_weights_give_their_logits_in_transformers(tmp_path):
    ours = random_gpt()
    export_folder(ours, LETTERS, tmp_path / "out")
    theirs, report = AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", output_loading_info=True
    )
    assert type(theirs) is GPT2LMHeadModel
    assert not any(report.values())  # no name missing, none unexpected
    assert_same_logits(ours, theirs)
    config = theirs.config
    assert (config.vocab_size, config.n_positions) == (LETTERS.vocab_size, 12)
    assert config.eos_token_id == config.bos_token_id == LETTERS.end_of_text


TEXTS = [
    "Hello, I'm a language model,",
    "",
    " ",
    "  two\n\n\tlines  \r\n and  a tail   ",
    "don't WON'T we'll they've 1234 3.14 x=y+z;",
    "naïve 漢字 🙂👩‍👩‍👧 \u0301 \x00\x7f ﬁ",
]


def test_exported_gpt2_opens_in_transformers_with_its_tokenizer(tmp_path):
    ours, tokenizer = random_gpt(50257), GPT2Tokenizer()
    export_folder(ours, tokenizer, tmp_path / "out")
    assert_same_logits(ours, AutoModelForCausalLM.from_pretrained(tmp_path / "out"))
    theirs = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert len(theirs) == tokenizer.vocab_size == 50257
    assert theirs.eos_token_id == tokenizer.end_of_text == 50256
    for text in TEXTS:
        ids = tokenizer.encode(text)
        assert theirs(text).input_ids == ids
        assert theirs.decode(ids, clean_up_tokenization_spaces=False) == text


@pytest.mark.parametrize(
    "tokenizer",
    [LETTERS, ByteTokenizer(), BytePairTokenizer.train("to be or not to be " * 9, 270)],
    ids=lambda tokenizer: tokenizer.kind,
)
def test_out_and_in_again_is_the_same_to_the_bit(tmp_path, tokenizer):
    ours = random_gpt(tokenizer.vocab_size)
    export_folder(ours, tokenizer, tmp_path / "out")
    model, read = import_folder(tmp_path / "out")
    assert model.config == ours.config
    assert read.to_dict() == tokenizer.to_dict()
    for name, tensor in ours.state_dict().items():
        true = slice(tokenizer.vocab_size) if name == "token_embedding.weight" else slice(None)
        assert torch.equal(tensor[true], model.state_dict()[name][true]), name


def test_in_and_out_again_is_the_same_to_the_bit(folder, tmp_path):
    export_folder(*import_folder(folder), tmp_path / "out")
    theirs = load_file(folder / WEIGHTS)
    ours = load_file(tmp_path / "out" / WEIGHTS)
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(tensor, ours[name]) for name, tensor in theirs.items())


def test_exporting_leaves_the_model_as_it_was(tmp_path):
    ours = random_gpt()
    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    export_folder(ours, LETTERS, tmp_path / "out")
    assert all(torch.equal(tensor, before[name]) for name, tensor in ours.state_dict().items())
    assert ours.token_embedding.num_embeddings == 128


def test_an_export_holds_no_pickle(tmp_path):
    export_folder(random_gpt(), LETTERS, tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"config.json", "model.safetensors", OUR_TOKENIZER}


def test_an_existing_folder_is_not_overwritten(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="exists already"):
        export_folder(random_gpt(), LETTERS, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("failing", ["save_tensors", "write_text", "export_gpt2_tokenizer"])
def test_a_failing_export_leaves_nothing_behind(tmp_path, monkeypatch, failing):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(hub_module, failing, full)
        with pytest.raises(OSError, match="No space left"):
            export_folder(random_gpt(50257), GPT2Tokenizer(), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    export_folder(random_gpt(), LETTERS, tmp_path / "out")  # and the next one succeeds


def test_what_a_killed_export_left_is_in_nobodys_way(tmp_path):
    (tmp_path / ".out.tmp").mkdir()
    (tmp_path / ".out.tmp" / "pytorch_model.bin").write_bytes(b"half")
    export_folder(random_gpt(), LETTERS, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert not (tmp_path / "out" / "pytorch_model.bin").exists()


# Refused: what it describes.

FOREIGN = [
    {"model_type": "llama"},
    {"model_type": ...},
    {"activation_function": "relu"},
    {"layer_norm_epsilon": 1e-6},
    {"scale_attn_weights": False},
    {"scale_attn_by_inverse_layer_idx": True},
    {"tie_word_embeddings": False},
    {"add_cross_attention": True},
    {"n_inner": 100},
]


@pytest.mark.parametrize("change", FOREIGN, ids=str)
def test_another_architecture_is_refused_by_what_differs(folder, change):
    change_config(folder, **change)
    (key,) = change
    assert key in refusal(folder)


DAMAGED = [
    {"n_layer": ...},
    {"n_embd": ...},
    {"vocab_size": ...},
    {"n_layer": "2"},
    {"n_layer": 2.0},
    {"n_layer": True},
    {"n_positions": None},
    {"n_embd": [16]},
    {"vocab_size": 31.0},
    {"n_head": 0},
    {"n_head": 3},
    {"n_layer": -2},
]


@pytest.mark.parametrize("change", DAMAGED, ids=str)
def test_a_damaged_config_is_refused(folder, change):
    change_config(folder, **change)
    refusal(folder)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"7", b"\xff\xfe", b'"gpt2"'], ids=str)
def test_a_config_that_is_none_is_refused(folder, text):
    (folder / "config.json").write_bytes(text)
    assert "config.json" in refusal(folder)


def test_a_folder_without_config_is_refused(folder, tmp_path):
    (folder / "config.json").unlink()
    assert "config.json" in refusal(folder)
    assert "config.json" in refusal(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "change",
    [{"n_layer": 1}, {"n_layer": 3}, {"n_positions": 13}, {"n_embd": 32}, {"n_embd": 8}],
    ids=str,
)
def test_a_config_that_disagrees_with_the_weights_is_refused(folder, change):
    change_config(folder, **change)
    assert "does not fit" in refusal(folder)


def test_a_foreign_tokenizer_is_refused(folder):
    (folder / OUR_TOKENIZER).unlink()
    assert "only GPT-2's tokenizer" in refusal(folder)

    ByteTokenizer().save(folder / OUR_TOKENIZER)
    assert "of 31 ids" in refusal(folder)
    (folder / OUR_TOKENIZER).write_text('{"kind": "other"}')
    assert "tokenizer" in refusal(folder)


def test_a_vocabulary_of_gpt2s_size_with_other_pieces_is_refused(tmp_path):
    spelling = GPT2Tokenizer().spelling()
    a, b, *_ = spelling
    path = tmp_path / "vocab.json"
    path.write_text(json.dumps(spelling), encoding="utf-8")
    assert hub_module.spells_like_gpt2(path, GPT2Tokenizer())
    path.write_text(json.dumps(spelling | {a: spelling[b], b: spelling[a]}), encoding="utf-8")
    assert not hub_module.spells_like_gpt2(path, GPT2Tokenizer())
    path.write_text("{", encoding="utf-8")
    assert not hub_module.spells_like_gpt2(path, GPT2Tokenizer())


# Refused: what it holds.


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_is_never_opened(folder, tmp_path):
    (folder / WEIGHTS).unlink()
    torch.save({"trap": Trap(tmp_path / "sprung")}, folder / "pytorch_model.bin")
    sentence = refusal(folder)
    assert "pytorch_model.bin" in sentence
    assert "pickle" in sentence
    assert not (tmp_path / "sprung").exists()


def test_a_folder_without_weights_is_refused(folder):
    (folder / WEIGHTS).unlink()
    sentence = refusal(folder)
    assert "model.safetensors" in sentence
    assert "pickle" not in sentence


def test_a_cut_file_is_refused(folder):
    path = folder / WEIGHTS
    whole = path.read_bytes()
    for size in (0, 4, 8, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert "model.safetensors is damaged" in refusal(folder)
    path.write_bytes(whole + b"\0")
    assert "model.safetensors is damaged" in refusal(folder)


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("hub") / "theirs"
    save_theirs(folder)
    shutil.copy(folder / WEIGHTS, folder / "good")
    return folder


@given(data=st.data())
def test_a_changed_header_is_refused_or_means_the_same(shared_folder, data):
    """Any byte, any value: a model or one sentence, nothing else."""
    good = bytearray((shared_folder / "good").read_bytes())
    header = 8 + int.from_bytes(good[:8], "little")
    position = data.draw(st.integers(0, header - 1))
    good[position] = data.draw(st.integers(0, 255))
    (shared_folder / WEIGHTS).write_bytes(good)
    sentence = "no objection"
    try:
        import_folder(shared_folder)
    except UserError as error:
        sentence = str(error)
    assert "\n" not in sentence


EVERY_NAME = ["wte.weight", "wpe.weight", "ln_f.weight", "ln_f.bias"] + [
    f"h.1.{module}.{kind}"
    for module in ("ln_1", "ln_2", "attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    for kind in ("weight", "bias")
]


@pytest.mark.parametrize("name", EVERY_NAME)
def test_a_tensor_missing_renamed_or_misshapen_is_refused(folder, name):
    full = f"transformer.{name}"
    good = read_weights(folder)
    tensor = good[full]
    shapes = [tensor[None], tensor[..., :-1], tensor[:-1], tensor[..., :1], tensor.flatten()[0]]
    if tensor.dim() == 2:
        shapes += [tensor.t(), tensor.flatten(), torch.cat([tensor, tensor])]
    misshapen = [{full: bad} for bad in shapes if bad.shape != tensor.shape]
    for change in [{full: None}, {full: None, f"{full}s": tensor}, *misshapen]:
        write_weights(folder, good | change)
        assert "does not fit" in refusal(folder)


def test_a_tensor_too_many_is_refused(folder):
    write_weights(folder, read_weights(folder) | {"score.weight": torch.ones(3)})
    assert "score.weight" in refusal(folder)
