"""Hugging Face GPT-2 folders, in and out. Safetensors only: a pickle is never opened.

A modern model, which `transformers` has no class for, goes into a folder of our own format:
    config.json             "format": OUR_FORMAT, and the recipe's sections "model" and "modern"
    model.safetensors       weights under our names, the vocabulary widened as in a checkpoint
    buildgpt_tokenizer.json what is needed to encode and decode

Reads and writes local folders; whoever wants to download does so before.
"""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from .checkpoint import appearing, find_run, load_run, load_weights, save_tensors
from .config import ModelConfig, ModernConfig, Recipe, UserError, require, write_text
from .modern import GPT, Modern, build, switches_of
from .tokenizer import GPT2Tokenizer, Tokenizer, load_tokenizer

# Our name of a module -> theirs. In a block, {} is its number.
NAMES = {
    "token_embedding": "wte",
    "position_embedding": "wpe",
    "norm": "ln_f",
    "blocks.{}.attention_norm": "h.{}.ln_1",
    "blocks.{}.attention.qkv": "h.{}.attn.c_attn",
    "blocks.{}.attention.out": "h.{}.attn.c_proj",
    "blocks.{}.mlp_norm": "h.{}.ln_2",
    "blocks.{}.mlp.up": "h.{}.mlp.c_fc",
    "blocks.{}.mlp.out": "h.{}.mlp.c_proj",
}

# Our name of a size -> theirs.
SIZE_NAMES = {
    "layers": "n_layer",
    "heads": "n_head",
    "width": "n_embd",
    "context": "n_positions",
    "vocab_size": "vocab_size",
}

# What must be so in their config.json for the weights to mean what ours do.
FIXED: dict[str, Any] = {
    "model_type": "gpt2",
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "reorder_and_upcast_attn": False,
    "tie_word_embeddings": True,
    "add_cross_attention": False,
}

# Our tokenizer beside theirs, under a name that no other program takes for its own.
OUR_TOKENIZER = "buildgpt_tokenizer.json"
OUR_FORMAT = "buildgpt-modern-1"


def import_folder(folder: Path) -> tuple[GPT, Tokenizer]:
    """A model, fp32 on the CPU, and its tokenizer from a Hugging Face GPT-2 folder, or from one
    of our own format.

    Raises UserError for another architecture, for weights that are only there as a pickle, and
    for tensors with other names or shapes.
    """
    found = read_json(folder)
    is_ours = found.get("format") == OUR_FORMAT
    config, switches = (read_ours if is_ours else read_theirs)(found, folder)
    tokenizer, model = import_tokenizer(folder, config.vocab_size), build(config, switches)
    tensors = read_weights(folder)
    load_weights(model, tensors if is_ours else from_hugging_face(tensors, model), str(folder))
    return model.eval(), tokenizer


def build_model(
    recipe: Recipe, tokenizer: Tokenizer, initial: str, runs: Path
) -> tuple[GPT, Recipe]:
    """What a training starts with: a model, fresh or with the weights of `initial`; and the
    recipe with its true shape."""
    if initial:
        source = load_initial(initial, tokenizer, runs)
        theirs, ours = source.config.architecture, recipe.model.architecture
        require(
            theirs == ours,
            f'train.init_from = {initial!r} holds a model of the architecture "{theirs}", the'
            f' recipe asks for "{ours}": set model.architecture = "{theirs}"',
        )
        config = dataclasses.replace(source.config, dropout=recipe.model.dropout)
        recipe = dataclasses.replace(recipe, model=config, modern=switches_of(source))
        # Built anew, as its layers took the source's dropout when they were made.
        model = build(recipe.model, recipe.modern)
        model.load_state_dict(source.state_dict())
        return model, recipe
    wished, true = recipe.model.vocab_size, tokenizer.vocab_size
    require(
        wished in (0, true),
        f"model.vocab_size = {wished}, but the data's tokenizer has {true} ids",
    )
    recipe = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, vocab_size=true))
    return build(recipe.model, recipe.modern), recipe


def load_initial(source: str, tokenizer: Tokenizer, runs: Path) -> GPT:
    """The weights to start a training from: those of a run, or of a folder as above.

    Raises UserError if they are another tokenizer's.
    """
    if (Path(source) / "config.json").exists():
        model, theirs = import_folder(Path(source))
    else:
        run = load_run(find_run(source, runs))
        model, theirs = run.model, run.tokenizer
    if theirs.to_dict() != tokenizer.to_dict():
        raise UserError(
            f"train.init_from = {source!r} was trained with another tokenizer ({theirs.kind}) than"
            f" the data ({tokenizer.kind}); prepare the text with its tokenizer"
        )
    return model


def read_json(folder: Path) -> dict[str, Any]:
    """What config.json holds; UserError where there is none."""
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError
        return found
    except OSError:
        raise UserError(f"{folder} is no Hugging Face folder: it has no config.json") from None
    except ValueError:
        raise UserError(f"{folder}/config.json is damaged or describes no GPT-2") from None


def read_ours(found: dict[str, Any], folder: Path) -> tuple[ModelConfig, ModernConfig]:
    """What a config.json of our own format says."""
    try:
        return ModelConfig(**found["model"]), ModernConfig(**found["modern"])
    except (KeyError, TypeError):
        raise UserError(f"{folder}/config.json is damaged, or of a later version") from None


def read_theirs(theirs: dict[str, Any], folder: Path) -> tuple[ModelConfig, ModernConfig]:
    """What their config.json says, as ours; UserError where it describes anything but a GPT-2."""
    try:
        found = {"model_type": None} | {k: v for k, v in theirs.items() if k in FIXED}
        for key, value in found.items():
            if value != FIXED[key]:
                raise UserError(f"{folder} is no GPT-2 that fits: its {key} is {value!r}")
        if theirs.get("n_inner") not in (None, 4 * theirs["n_embd"]):
            raise UserError(f"{folder} is no GPT-2 that fits: its n_inner is {theirs['n_inner']}")
        sizes = {our: theirs[their] for our, their in SIZE_NAMES.items()}
        if any(type(size) is not int for size in sizes.values()):
            raise TypeError
        return ModelConfig(**sizes), ModernConfig()
    except (TypeError, KeyError):
        raise UserError(f"{folder}/config.json is damaged or describes no GPT-2") from None


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Their tensors from model.safetensors; never from a pickle."""
    path = folder / "model.safetensors"
    if not path.exists():
        pickles = sorted(p.name for p in folder.glob("*.bin"))
        raise UserError(
            f"{folder} has no model.safetensors, only {pickles[0]}; pickles are not opened here,"
            " as they can run any program: convert it with safetensors first"
            if pickles
            else f"{folder} has no model.safetensors, the one file that weights are read from"
        )
    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path} is damaged: {error}") from None


def our_names(model: GPT) -> dict[str, str]:
    """Our tensor names -> theirs: "blocks.3.mlp.up.bias" -> "h.3.mlp.c_fc.bias"."""
    names = {}
    for ours in model.state_dict():
        module, _, kind = ours.rpartition(".")
        number = module.split(".")[1] if module.startswith("blocks.") else ""
        pattern = module.replace(f".{number}.", ".{}.", 1) if number else module
        names[ours] = f"{NAMES[pattern].format(number)}.{kind}"
    return names


def is_transposed(name: str) -> bool:
    """Their Conv1D keeps the weights of a linear layer as (in, out), ours as (out, in)."""
    return name.endswith((".qkv.weight", ".out.weight", ".up.weight"))


def from_hugging_face(theirs: dict[str, Tensor], model: GPT) -> dict[str, Tensor]:
    """Their tensors under our names, turned and with the vocabulary widened as `model` has it."""
    theirs = {name.removeprefix("transformer."): tensor for name, tensor in theirs.items()}
    embedding, head = theirs.get("wte.weight"), theirs.get("lm_head.weight")
    if embedding is not None and head is not None and not torch.equal(head, embedding):
        raise UserError("this model's head is not tied to its embedding, so it is no GPT-2")
    # Old files keep each layer's triangular mask beside the weights.
    ignored = ("lm_head.weight", ".attn.bias", ".attn.masked_bias")
    names = {their: our for our, their in our_names(model).items()}
    ours = {names.get(name, name): t for name, t in theirs.items() if not name.endswith(ignored)}
    return {name: turn_or_widen(name, tensor, model) for name, tensor in ours.items()}


def turn_or_widen(name: str, tensor: Tensor, model: GPT) -> Tensor:
    """One of their tensors, under our name, as ours; what is no matrix stays as it is."""
    if tensor.dim() != 2:
        return tensor
    if name == "token_embedding.weight":
        padding = model.token_embedding.num_embeddings - model.config.vocab_size
        return F.pad(tensor, (0, 0, 0, padding))
    return tensor.t().contiguous() if is_transposed(name) else tensor


def to_hugging_face(model: GPT) -> dict[str, Tensor]:
    """Our weights under their names, with the true vocabulary."""
    weights = model.state_dict()
    weights["token_embedding.weight"] = weights["token_embedding.weight"][: model.config.vocab_size]
    return {
        f"transformer.{their}": weights[our].t() if is_transposed(our) else weights[our]
        for our, their in our_names(model).items()
    }


def import_tokenizer(folder: Path, vocab_size: int) -> Tokenizer:
    """Ours if the folder came from here, else GPT-2's; UserError where neither fits."""
    ours = folder / OUR_TOKENIZER
    tokenizer = load_tokenizer(ours) if ours.exists() else GPT2Tokenizer()
    same_pieces = spells_like_gpt2(folder / "vocab.json", tokenizer)
    if tokenizer.vocab_size == vocab_size and same_pieces:
        return tokenizer
    raise UserError(
        f"{folder} has a vocabulary of its own, of {vocab_size} ids; only GPT-2's tokenizer, of"
        f" {GPT2Tokenizer().vocab_size}, can be imported"
    )


def spells_like_gpt2(path: Path, tokenizer: Tokenizer) -> bool:
    """Whether a vocab.json, if there is one, gives GPT-2's pieces the ids that GPT-2 does."""
    if not path.exists() or not isinstance(tokenizer, GPT2Tokenizer):
        return True
    try:
        return json.loads(path.read_text(encoding="utf-8")) == tokenizer.spelling()
    except ValueError:
        return False


def export_folder(model: GPT, tokenizer: Tokenizer, folder: Path) -> None:
    """Write a folder that `transformers` opens without this project; of a modern model, one of
    our own format.

    GPT-2's tokenizer goes along in their format. For any other, which they have no format for,
    only our own file does, and ids have to be made here. Raises UserError if the folder exists.
    """
    if folder.exists():
        raise UserError(f"{folder} exists already; choose another folder")
    with appearing(folder) as temporary:
        if isinstance(model, Modern):
            weights, config = dict(model.state_dict()), our_config(model)
        else:
            weights, config = to_hugging_face(model), their_config(model, tokenizer)
        save_tensors(temporary / "model.safetensors", weights, {"format": "pt"})
        write_text(temporary / "config.json", json.dumps(config, indent=2))
        tokenizer.save(temporary / OUR_TOKENIZER)
        if config.get("model_type") == "gpt2" and isinstance(tokenizer, GPT2Tokenizer):
            export_gpt2_tokenizer(tokenizer, temporary, model.config.context)


def our_config(model: Modern) -> dict[str, Any]:
    """A config.json of our own format."""
    sizes, switches = dataclasses.asdict(model.config), dataclasses.asdict(model.switches)
    return {"format": OUR_FORMAT, "model": sizes, "modern": switches}


def their_config(model: GPT, tokenizer: Tokenizer) -> dict[str, Any]:
    """A config.json for `transformers`."""
    config = dataclasses.asdict(model.config)
    dropouts = dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), config["dropout"])
    ends = dict.fromkeys(("bos_token_id", "eos_token_id"), tokenizer.end_of_text)
    return {
        "architectures": ["GPT2LMHeadModel"],
        **FIXED,
        **{their: config[our] for our, their in SIZE_NAMES.items()},
        **dropouts,
        **ends,
    }


def export_gpt2_tokenizer(tokenizer: GPT2Tokenizer, folder: Path, context: int) -> None:
    """vocab.json, merges.txt and tokenizer_config.json, as `transformers` reads them."""
    merges = Path(__file__).parent / "gpt2_merges.txt"
    shutil.copyfile(merges, folder / "merges.txt")
    write_text(folder / "vocab.json", json.dumps(tokenizer.spelling(), ensure_ascii=False))
    about = {"tokenizer_class": "GPT2Tokenizer", "model_max_length": context}
    write_text(folder / "tokenizer_config.json", json.dumps(about))
