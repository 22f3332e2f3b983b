"""What weights must be that go in and out: the same model, by whoever's names."""

import contextlib
import dataclasses
import importlib.util
import json
import tempfile
from pathlib import Path

from buildgpt.course.checking import check, equal, expect, lively, refused, text_data, trainer

spec = importlib.util.spec_from_file_location("theirs", Path(__file__).parent / "files/theirs.py")
theirs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(theirs)  # an implementation by their names, which shares no line with ours

IDS = [84, 111, 32, 98, 101, 44, 32, 111, 114, 256, 0]


@contextlib.contextmanager
def folder(**changes):
    """A folder as they write it."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name) / "theirs"
        theirs.make(place, **changes)
        yield place


def gpt(mine, **wishes):
    """A small GPT of theirs, with weights that make a difference."""
    small = {"layers": 2, "heads": 4, "width": 32, "context": 16, "vocab_size": 257}
    return lively(mine.GPT(mine.ModelConfig(**(small | wishes))), 0.3)


def their_names(layers):
    """All names of a GPT-2's tensors."""
    parts = ("ln_1", "ln_2", "attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    names = [f"h.{i}.{part}" for i in range(layers) for part in parts]
    both = {f"{name}.{kind}" for name in (*names, "ln_f") for kind in ("weight", "bias")}
    return both | {"wte.weight", "wpe.weight"}


@check("each tensor of a model has one name of theirs", step="names")
def names(mine):
    for layers in (1, 2, 11):
        model = gpt(mine, layers=layers)
        found = mine.our_names(model)
        given = f"of a model of {layers} layers"
        equal(set(found), set(model.state_dict()), given=f"our names {given}")
        causes = [
            "the block's number stays in the name that is looked up, or is not put back",
            "only one digit of the block's number is taken",
            "what is no block's, the embeddings and the last norm, goes another way",
        ]
        off = sorted(set(found.values()) ^ their_names(layers))[:4]
        equal(off, [], given=f"their names that are missing or wrong {given}", causes=causes)
        equal(len(set(found.values())), len(found), given=f"different names {given}")


@check("matrices of layers are turned, embeddings and vectors are not", step="turned")
def turned(mine):
    import torch

    model = gpt(mine)
    for ours, name in mine.our_names(model).items():
        tensor = model.state_dict()[ours]
        is_layer = tensor.dim() == 2 and name not in ("wte.weight", "wpe.weight")
        equal(bool(mine.is_transposed(ours)), is_layer, given=f"is_transposed({ours!r})")
        count = model.config.vocab_size if ours.startswith("token") else len(tensor)
        stored = torch.arange(count * tensor[0].numel(), dtype=torch.float64)
        stored = stored.view(count, *tensor.shape[1:])
        found = mine.turn_or_widen(ours, stored.t().contiguous() if is_layer else stored, model)
        given = f"turn_or_widen of {name}, which is stored as {tuple(stored.shape)[::-1]}"
        causes = ["view gives the shape, but not the numbers in their places", "a bias was turned"]
        equal(tuple(found.shape), tuple(tensor.shape), given=f"the shape, {given}", causes=causes)
        good = torch.equal(found[:count], stored) and not found[count:].any()
        expect(good, "other numbers", "the same, in their places", given, causes)


@check("on the way out each tensor has their name, and is turned where theirs is", step="turned")
def turned_back(mine):
    import torch

    model = gpt(mine)
    found = mine.to_hugging_face(model)
    wanted = {f"transformer.{name}" for name in their_names(model.config.layers)}
    causes = ['all names begin with "transformer." there', "the head is no tensor of its own"]
    off = sorted(set(found) ^ wanted)[:4]
    equal(off, [], given="their names that are missing or wrong", causes=causes)
    for ours, name in mine.our_names(model).items():
        tensor = model.state_dict()[ours]
        is_layer = tensor.dim() == 2 and name not in ("wte.weight", "wpe.weight")
        tensor = tensor[: model.config.vocab_size] if name == "wte.weight" else tensor
        wanted = tensor.t() if is_layer else tensor
        given = f"{name} of to_hugging_face"
        equal(tuple(found[f"transformer.{name}"].shape), tuple(wanted.shape), given=given)
        good = torch.equal(found[f"transformer.{name}"], wanted)
        expect(good, "other numbers", "the same, in their places", given)


def sizes_of(config):
    """A config's sizes."""
    names = ("layers", "heads", "width", "context", "vocab_size")
    return {name: getattr(config, name) for name in names}


def read(mine, place):
    """What their read_theirs finds, with the switches of a modern model or without."""
    found = mine.read_theirs(mine.read_json(place), place)
    return found[0] if isinstance(found, tuple) else found


@check("a config gives our sizes, and is refused where a GPT-2 would mean another", step="config")
def config(mine):
    with folder(n_layer=3, n_head=2, n_embd=8, n_positions=5) as place:
        wanted = {"layers": 3, "heads": 2, "width": 8, "context": 5, "vocab_size": 257}
        equal(sizes_of(read(mine, place)), wanted, given="sizes of config.json")
    for key, value in (
        ("model_type", "llama"),
        ("activation_function", "gelu"),
        ("layer_norm_epsilon", 1e-6),
        ("n_inner", 100),
        ("tie_word_embeddings", False),
        ("scale_attn_by_inverse_layer_idx", True),
    ):
        with folder(**{key: value}) as place, refused(f"{key} = {value!r}", the_key=key):
            read(mine, place)
    for key, value in (("n_layer", "two"), ("n_embd", 2.5)):
        with folder() as place:
            path = place / "config.json"
            found = json.loads(path.read_text(encoding="utf-8")) | {key: value}
            path.write_text(json.dumps(found), encoding="utf-8")
            with refused(f"{key} = {value!r}", its_name="config.json"):
                read(mine, place)
    with folder() as place:
        (place / "config.json").write_text("[1", encoding="utf-8")
        with refused("a damaged config.json", its_name="config.json"):
            read(mine, place)
        (place / "config.json").unlink()
        with refused("no config.json", its_name="config.json"):
            read(mine, place)


@check("a tensor that is missing, foreign or of another shape is named", step="weights")
def named(mine):
    import torch

    model = gpt(mine)
    good = model.state_dict()
    name = "blocks.1.mlp.up.bias"
    if name not in good:  # inner names of their own
        name = sorted(good)[0]
    for given, tensors in (
        ("a tensor too few", {k: v for k, v in good.items() if k != name}),
        ("another shape", good | {name: torch.zeros(3)}),
    ):
        with refused(f"load_weights with {given}", its_name=name, the_source="here"):
            mine.load_weights(gpt(mine), tensors, "here")
    with refused("load_weights with a tensor too many", its_name="extra"):
        mine.load_weights(gpt(mine), good | {"extra": torch.zeros(3)}, "here")
    other = lively(gpt(mine), 0.1)
    mine.load_weights(other, good, "here")
    same = all(torch.equal(tensor, other.state_dict()[key]) for key, tensor in good.items())
    expect(same, "other weights", "the same", "a model after load_weights")


@check("weights come from safetensors, and a pickle is never opened", step="weights")
def no_pickle(mine):
    import torch

    with folder() as place:
        equal(len(mine.read_weights(place)), 28, given="tensors in model.safetensors")
        (place / "model.safetensors").write_bytes(b"what is this")
        with refused("a damaged model.safetensors", its_name="model.safetensors"):
            mine.read_weights(place)
        (place / "model.safetensors").unlink()
        with refused("no weights at all", its_name="model.safetensors"):
            mine.read_weights(place)
        torch.save({}, place / "pytorch_model.bin")
        with refused("weights that are a pickle only", its_name="pytorch_model.bin"):
            mine.read_weights(place)


def rewrite(place, change):
    """Change the tensors of a folder."""
    from safetensors.torch import load_file, save_file

    tensors = {
        name: tensor.clone() for name, tensor in load_file(place / "model.safetensors").items()
    }
    save_file(change(tensors), place / "model.safetensors")


def apart(model, place):
    """How far a model's logits are from those that their files mean, in float64."""
    import torch

    with torch.no_grad():
        mine = model.double()(torch.tensor([IDS]))[0]
    return (mine - theirs.logits(place, IDS)).abs().max().item()


@check("a model that came in computes what its files mean", step="in")
def logits(mine):
    for changes in ({}, {"n_layer": 1, "n_head": 1}, {"n_layer": 3, "n_head": 8, "n_embd": 24}):
        with folder(**changes) as place:
            model, tokenizer = mine.import_folder(place)
            given = f"logits of {len(IDS)} ids, a folder of {theirs.SMALL | changes}"
            causes = ["a matrix is not turned round", "two names are mixed up"]
            equal(str(next(model.parameters()).dtype), "torch.float32", given="dtype of weights")
            equal(model.training, False, given="model.training after import_folder")
            off = apart(model, place)
            expect(off < 1e-9, f"{off:.3g} apart", "the same", given, causes)
            equal(tokenizer.vocab_size, 257, given="the tokenizer, which lies beside")


@check(
    "names without a prefix, masks beside the weights and a head that repeats are taken", step="in"
)
def old_files(mine):
    import torch

    def old(tensors):
        found = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
        found["h.0.attn.bias"] = torch.ones(1, 1, 16, 16).tril()
        found["h.1.attn.masked_bias"] = torch.tensor(-1e4)
        return found | {"lm_head.weight": found["wte.weight"].clone()}

    with folder() as place:
        model, _ = mine.import_folder(place)
        rewrite(place, old)
        again, _ = mine.import_folder(place)
        same = all(
            torch.equal(one, other)
            for one, other in zip(model.state_dict().values(), again.state_dict().values())
        )
        expect(same, "other weights", "the same", "the same model in an old file")
        rewrite(place, lambda tensors: tensors | {"lm_head.weight": tensors["wte.weight"] + 1})
        with refused("a head that is not tied", the_head="head"):
            mine.import_folder(place)


@check("a vocabulary that is neither GPT-2's nor described is refused", step="in")
def vocabulary(mine):
    with folder() as place:
        (place / "buildgpt_tokenizer.json").unlink()
        with refused("257 ids and no tokenizer beside", how_many="257"):
            mine.import_folder(place)
    with folder(vocab_size=50257, n_layer=1, n_embd=4) as place:
        (place / "buildgpt_tokenizer.json").unlink()
        tokenizer = mine.import_folder(place)[1]
        equal(tokenizer.encode("Hello world"), [15496, 995], given="50,257 ids: the tokenizer's")
        (place / "vocab.json").write_text('{"Hello": 0}', encoding="utf-8")
        with refused("50,257 ids and another vocab.json", how_many="50257"):
            mine.import_folder(place)


@check("a model that went out is what its files mean, and comes back the same", step="out")
def exported(mine):
    import torch

    tokenizer = mine.BytePairTokenizer([(97, 98)])
    for wishes in ({"vocab_size": 258}, {"layers": 1, "heads": 2, "width": 8, "vocab_size": 258}):
        model = gpt(mine, **wishes).float()
        with tempfile.TemporaryDirectory() as name:
            place = Path(name) / "out"
            mine.export_folder(model, tokenizer, place)
            given = f"a model of {wishes}"
            rows = theirs.load_file(place / "model.safetensors")
            table = next(t for key, t in rows.items() if key.endswith("wte.weight"))
            equal(len(table), 258, given=f"rows of wte.weight in the file, {given}")
            again, back = mine.import_folder(place)
            off = apart(model, place)
            expect(off < 1e-5, f"{off:.3g} apart", "the same", f"logits by the files, {given}")
            model = model.float()
            same = all(
                torch.equal(tensor[:258], again.state_dict()[key][:258])
                for key, tensor in model.state_dict().items()
            )
            expect(same, "other weights", "the same bits", f"out and in again, {given}")
            equal(back.pieces, tokenizer.pieces, given="the tokenizer that came back")
            with refused("a folder that is there already", its_name="out"):
                mine.export_folder(model, tokenizer, place)


@check("what others need lies beside: a config, and GPT-2's tokenizer in their format", step="out")
def beside(mine):
    with tempfile.TemporaryDirectory() as name:
        model = gpt(mine, layers=1, width=4, heads=1, vocab_size=50257).float()
        place = Path(name) / "out"
        mine.export_folder(model, mine.GPT2Tokenizer(), place)
        found = json.loads((place / "config.json").read_text(encoding="utf-8"))
        wanted = {"n_layer": 1, "n_head": 1, "n_embd": 4, "n_positions": 16, "vocab_size": 50257}
        wanted |= {"model_type": "gpt2", "eos_token_id": 50256, "tie_word_embeddings": True}
        equal({key: found.get(key) for key in wanted}, wanted, given="config.json")
        vocab = json.loads((place / "vocab.json").read_text(encoding="utf-8"))
        equal((len(vocab), vocab["Hello"]), (50257, 15496), given="vocab.json: words, id of Hello")
        merges = (place / "merges.txt").read_text(encoding="utf-8").splitlines()
        equal((len(merges), merges[1]), (50001, "Ġ t"), given="merges.txt: lines, the second")


def begun(mine, place, **wishes):
    """A Trainer that begins with weights of a folder, or without."""
    recipe = mine.Recipe(
        model=mine.ModelConfig(layers=1, heads=1, width=4, context=16, dropout=0.25),
        data=text_data(mine, place, b"To be, or not to be. " * 30),
        train=mine.TrainConfig(steps=2, tokens_per_step=64, **wishes),
    )
    return trainer(mine, recipe)


@check("a training begins with the weights that it is given, in their shape", step="initial")
def initial(mine):
    import torch

    with folder() as source, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        model, _ = mine.import_folder(source)
        own = begun(mine, Path(name), init_from=str(source))
        wanted = sizes_of(model.config)
        equal(sizes_of(own.model.config), wanted, given="sizes of the model, train.init_from")
        equal(sizes_of(own.recipe.model), wanted, given="and of the recipe that the Trainer keeps")
        same = all(
            torch.equal(one, other)
            for one, other in zip(model.state_dict().values(), own.model.state_dict().values())
        )
        expect(same, "other weights", "those of the folder", "a Trainer with train.init_from")
        equal(own.model.config.dropout, 0.25, given="dropout, which is the recipe's")
        drops = {part.p for part in own.model.modules() if isinstance(part, torch.nn.Dropout)}
        equal(drops <= {0.25}, True, given="dropout of the layers too")
        del own
        plain = begun(mine, Path(name))
        equal(plain.recipe.model.vocab_size, 257, given="vocab_size of a recipe that begins fresh")
        del plain
        tokenizer = json.dumps({"kind": "bpe", "merges": []})
        (source / "buildgpt_tokenizer.json").write_text(tokenizer, encoding="utf-8")
        with refused("weights of another tokenizer", the_key="init_from"):
            begun(mine, Path(name), init_from=str(source))
    with (
        tempfile.TemporaryDirectory() as name,
        refused("vocab_size = 300 beside 257 ids", what="300"),
    ):
        recipe = mine.Recipe(
            model=dataclasses.replace(mine.ModelConfig(layers=1, heads=1, width=4), vocab_size=300),
            data=text_data(mine, Path(name), b"To be, or not to be. " * 90),
            train=mine.TrainConfig(tokens_per_step=2048),
        )
        trainer(mine, recipe)
