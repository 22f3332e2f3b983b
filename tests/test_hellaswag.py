"""HellaSwag, against hand-made probabilities and a scorer that takes one ending at a time."""

import json
import lzma
import math
import os
import random
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from buildgpt.gpt import hellaswag as module
from buildgpt.gpt.config import ModelConfig, UsageError, UserError
from buildgpt.gpt.hellaswag import HellaSwag, Item, Spelt, hellaswag, read_hellaswag
from buildgpt.gpt.model import GPT
from buildgpt.gpt.runtime import Runtime
from buildgpt.gpt.tokenizer import ByteTokenizer, CharTokenizer, GPT2Tokenizer, Tokenizer

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("BUILDGPT_SHARED_DATA", ROOT.parent / "shared" / "data"))
CPU = Runtime(torch.device("cpu"))
LETTERS = CharTokenizer("abcdefgh ")


def lively(vocab_size: int, context: int, width: int = 16, dropout: float = 0.0) -> GPT:
    """A model whose random weights are large enough that its losses differ."""
    torch.manual_seed(0)
    sizes = {"layers": 2, "heads": 2, "width": width, "context": context}
    model = GPT(ModelConfig(**sizes, vocab_size=vocab_size, dropout=dropout))
    for parameter in model.parameters():
        nn.init.normal_(parameter, mean=float(parameter.dim() < 2) / 10, std=0.3)
    return model.eval()


def letters(draw: random.Random, longest: int) -> str:
    return "".join(draw.choices("abcdefgh ", k=draw.randint(1, longest)))


def made_up(count: int, before: int = 30, ending: int = 12) -> list[Item]:
    """Items of letters, of all lengths up to the given ones."""
    draw = random.Random(0)
    return [
        Item(
            letters(draw, before), tuple(letters(draw, ending) for _ in range(4)), draw.randrange(4)
        )
        for _ in range(count)
    ]


def naive(model: GPT, tokenizer: Tokenizer, item: Item) -> tuple[list[float], list[int]]:
    """The summed loss and the number of tokens of each ending: four whole passes, one by one."""
    sums, counts = [], []
    for text in item.endings:
        context, ending = tokenizer.encode(item.context), tokenizer.encode(" " + text)
        ids = torch.tensor([context + ending])
        with torch.no_grad():
            logits = model(ids[:, :-1])
        losses = F.cross_entropy(logits[0], ids[0, 1:], reduction="none").double()
        sums.append(float(losses[-len(ending) :].sum()))
        counts.append(len(ending))
    return sums, counts


@pytest.fixture
def scores(monkeypatch):
    """The (N, 4) sums and means by which a call of hellaswag chose."""
    share = module.share

    def scores(*words) -> tuple[torch.Tensor, torch.Tensor, HellaSwag]:
        seen = []
        monkeypatch.setattr(
            module, "share", lambda x, labels: (seen.append(x), share(x, labels))[1]
        )
        found = hellaswag(*words)
        return *seen, found

    return scores


# The protocol.


class Unigram(GPT):
    """Each letter has its own probability whatever stands before: a, b, c ... 2, 3, 4 ... bits."""

    def hidden(self, ids, cache=None):
        return ids[..., None].float()

    def logits(self, hidden):
        bits = torch.tensor([1.0, 2, 3, 4, 5, 6, 7, 8, 9])  # the space comes first
        rest = torch.tensor([1 - float((2**-bits).sum())]).log2()  # what end of text has
        row = torch.cat([-bits, rest]) * math.log(2)
        return row.expand(*hidden.shape[:-1], -1)


HAND_MADE = [
    # bits: a space (1) and c (4) make 5, a mean of 2.5; a space and four a make 9, a mean of 1.8.
    Item("abc", ("c", "aaaa", "hhh", "ccc"), 0),  # the sum is right
    Item("h", ("hhh", "c", "ddd", "aaaa"), 3),  # the mean is right
    Item("hh", ("hhh", "a", "gg", "bbbb"), 1),  # 1 + 2 bits are lowest by sum and by mean
    Item("gg a", ("c", "aaaa", "hhh", "ccc"), 2),  # neither is right
    Item("d", ("c", "aaaa", "hhh", "ccc"), 1),  # the mean is right
]


def unigram() -> Unigram:
    sizes = {"layers": 1, "heads": 1, "width": 8, "context": 16}
    return Unigram(ModelConfig(**sizes, vocab_size=LETTERS.vocab_size))


def test_acc_goes_by_the_sum_and_acc_norm_by_the_mean(scores):
    sums, means, found = scores(unigram(), LETTERS, HAND_MADE, CPU)
    assert found == HellaSwag(acc=2 / 5, acc_norm=3 / 5, items=5, cut=0)
    bits = torch.tensor([5, 9, 28, 13]).double()
    torch.testing.assert_close(sums[0] / math.log(2), bits, rtol=1e-6, atol=0)
    counts = torch.tensor([2, 5, 4, 4])
    torch.testing.assert_close(means[0] / math.log(2), bits / counts, rtol=1e-6, atol=0)


def test_of_equal_endings_the_first_is_chosen():
    for label, share in ((0, 1.0), (1, 0.0)):
        item = Item("a", ("bb", "bb", "bb", "bb"), label)
        found = hellaswag(unigram(), LETTERS, [item], CPU)
        assert (found.acc, found.acc_norm) == (share, share)


def test_the_standard_error_is_the_binomials():
    found = HellaSwag(acc=0.5, acc_norm=0.25, items=400, cut=0)
    assert found.standard_error(found.acc) == pytest.approx(0.025)
    assert found.standard_error(found.acc_norm) == pytest.approx(math.sqrt(0.25 * 0.75 / 400))


def test_broken_weights_are_no_result():
    model = lively(LETTERS.vocab_size, 64)
    nn.init.constant_(model.norm.weight, math.nan)
    found = hellaswag(model, LETTERS, made_up(5), CPU)
    assert math.isnan(found.acc)
    assert math.isnan(found.acc_norm)


# Against one ending at a time.


@pytest.mark.parametrize("count", [1, 3, 150])
def test_sums_are_those_of_one_ending_at_a_time(scores, count):
    model, items = lively(LETTERS.vocab_size, 64), made_up(count)
    sums, means, found = scores(model, LETTERS, items, CPU)
    expected = [naive(model, LETTERS, item) for item in items]
    wanted, counts = (torch.tensor(part).double() for part in zip(*expected))
    torch.testing.assert_close(sums, wanted, rtol=2e-6, atol=1e-5)
    torch.testing.assert_close(means, wanted / counts, rtol=2e-6, atol=1e-5)
    labels = torch.tensor([item.label for item in items])
    assert found.acc == float((wanted.argmin(1) == labels).double().mean())
    assert found.acc_norm == float(((wanted / counts).argmin(1) == labels).double().mean())
    assert (found.items, found.cut) == (count, 0)


def test_an_empty_context_is_an_end_of_text(scores):
    model = lively(LETTERS.vocab_size, 64)
    endings = tuple("abcd")
    sums, *_ = scores(model, LETTERS, [Item("", endings, 0)], CPU)
    for place, ending in enumerate(endings):
        ids = torch.tensor([[LETTERS.end_of_text, *LETTERS.encode(" " + ending)]])
        wanted = model(ids[:, :-1], ids[:, 1:], reduction="none").sum()
        assert float(sums[0, place]) == pytest.approx(wanted.item(), rel=1e-5)


@pytest.fixture(scope="module")
def real() -> list[Item]:
    """HellaSwag's own validation items."""
    path = SHARED / "hellaswag_val.jsonl.xz"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    return read_hellaswag(path)


def test_all_items_of_the_validation_split_are_read(real):
    assert len(real) == 10042
    assert real[0].context == "A man is sitting on a roof. he"
    assert real[0].endings[3] == "starts pulling up roofing on a roof."
    assert [real[0].label, real[1].label, real[2].label] == [3, 3, 2]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_real_items_are_answered_as_one_ending_at_a_time_is(scores, real, dtype):
    """Wherever the two best scores differ by more than rounding."""
    tokenizer, runtime = GPT2Tokenizer(), Runtime(CPU.device, dtype)
    model = lively(tokenizer.vocab_size, context=192, width=32)
    items = random.Random(0).sample(real, 50 if dtype == torch.float32 else 25)
    sums, means, found = scores(model, tokenizer, items, runtime)
    with runtime.autocast():
        expected = [naive(model, tokenizer, item) for item in items]
    wanted, counts = (torch.tensor(part).double() for part in zip(*expected))
    rounding = 1e-5 if dtype == torch.float32 else 2e-3
    torch.testing.assert_close(sums, wanted, rtol=rounding, atol=0)
    clear = 0
    for mine, theirs in ((sums, wanted), (means, wanted / counts)):
        for row, other in zip(mine, theirs):
            best, second = sorted(other.tolist())[:2]
            if second - best > 2 * rounding * second:
                assert row.argmin() == other.argmin()
                clear += 1
    assert clear > len(items)
    assert found.cut == 0


# What is computed.


def test_a_context_is_computed_once_and_only_endings_reach_the_head(real, monkeypatch):
    tokenizer, items = GPT2Tokenizer(), real[:100]
    model = lively(tokenizer.vocab_size, context=192, width=8)
    read, scored = [], []
    hidden, logits = GPT.hidden, GPT.logits
    monkeypatch.setattr(GPT, "hidden", lambda s, ids, c: (read.append(ids), hidden(s, ids, c))[1])
    monkeypatch.setattr(GPT, "logits", lambda s, h: (scored.append(len(h)), logits(s, h))[1])
    hellaswag(model, tokenizer, items, CPU)
    contexts = [len(tokenizer.encode(item.context)) for item in items]
    endings = [len(tokenizer.encode(" " + text)) for item in items for text in item.endings]
    assert sum(scored) == sum(endings)
    assert max(scored) <= module.SCORED
    least = sum(contexts) + sum(endings)
    assert sum(ids.numel() for ids in read) < 1.3 * least  # with what fills up
    assert len(read) < len(items)  # many at once: one by one there would be four an item


@pytest.mark.parametrize(("count", "longest"), [(1000, 20), (100, 60)])
def test_groups_hold_every_item_once_and_contexts_of_like_length(count, longest):
    draw = random.Random(1)
    items = [Spelt([0] * draw.randint(1, longest), [], False) for _ in range(count)]
    found = module.groups(items)
    assert sorted(i for group in found for i in group) == list(range(count))
    for group in found:
        lengths = [len(items[i].context) for i in group]
        assert max(lengths) - min(lengths) <= module.SPREAD
        assert len(group) <= module.GROUP


def test_progress_is_told():
    heard = []
    hellaswag(unigram(), LETTERS, made_up(70, 3, 3), CPU, lambda *words: heard.append(words))
    assert heard[-1] == (70, 70)
    assert [share for _, share in heard] == [70] * len(heard)
    assert sorted(heard) == heard


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_measured_without_dropout_and_left_as_it_was(training):
    model = lively(LETTERS.vocab_size, 64, dropout=0.5).train(training)
    modes = []
    model.blocks[0].register_forward_hook(lambda block, *_: modes.append(block.training))
    first, second = (hellaswag(model, LETTERS, made_up(40), CPU) for _ in range(2))
    assert first == second
    assert modes
    assert not any(modes)
    assert all(part.training is training for part in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    model(torch.tensor([[1, 2]]), torch.tensor([[2, 3]])).backward()  # it can still be trained


# Items longer than the context.


def test_a_long_item_loses_the_beginning_of_its_context(scores):
    """The same for its four endings, of which the longest and what stands before it just fit."""
    model = lively(LETTERS.vocab_size, context=20)
    items = made_up(100, before=30, ending=12)
    sums, _, found = scores(model, LETTERS, items, CPU)
    cut = 0
    for item, mine in zip(items, sums):
        room = 20 + 1 - max(len(" " + ending) for ending in item.endings)
        cut += len(item.context) > room
        short = Item(item.context[-room:], item.endings, item.label)
        wanted = torch.tensor(naive(model, LETTERS, short)[0]).double()
        torch.testing.assert_close(mine, wanted, rtol=2e-6, atol=1e-5)
    assert found.cut == cut
    assert 20 < cut < 80


def test_of_an_ending_longer_than_the_context_its_first_tokens_count(scores):
    model = lively(LETTERS.vocab_size, context=8)
    item = Item("abc", ("abcdefghabc", "b", "cdcdcdcdcdcd", "abcdefg"), 1)
    sums, means, found = scores(model, LETTERS, [item], CPU)
    short = Item("c", tuple(ending[:7] for ending in item.endings), 1)
    wanted, counts = (torch.tensor(part).double() for part in naive(model, LETTERS, short))
    assert counts.tolist() == [8, 2, 8, 8]
    torch.testing.assert_close(sums[0], wanted, rtol=2e-6, atol=1e-5)
    torch.testing.assert_close(means[0], wanted / counts, rtol=2e-6, atol=1e-5)
    assert found.cut == 1


def test_a_byte_tokenizer_spells_everything():
    item = Item("Ünïcode", ("漢字", "b", "c", "d"), 0)
    assert hellaswag(lively(257, 64), ByteTokenizer(), [item], CPU).items == 1


def test_a_tokenizer_that_cannot_spell_an_item_is_refused():
    item = Item("abc", ("abc", "The end.", "c", "d"), 0)
    with pytest.raises(
        UserError, match=r"cannot read HellaSwag: .*does not know the character 'T'"
    ):
        hellaswag(unigram(), LETTERS, [item], CPU)


# Ranks.

TWO = """
import json, random, sys, torch
from pathlib import Path
from buildgpt.gpt import hellaswag as module
from buildgpt.gpt.config import ModelConfig, RuntimeConfig
from buildgpt.gpt.model import GPT
from buildgpt.gpt.runtime import start_runtime
from buildgpt.gpt.tokenizer import CharTokenizer

torch.set_num_threads(1)
runtime = start_runtime(RuntimeConfig(device="cpu", dtype="fp32", compile="off"))
letters = CharTokenizer("abcdefgh ")
torch.manual_seed(0)
sizes = {"layers": 2, "heads": 2, "width": 16, "context": 30}
model = GPT(ModelConfig(**sizes, vocab_size=letters.vocab_size, init_std=0.3))
told, share = [], module.share
module.share = lambda losses, labels: (told.append(losses.tolist()), share(losses, labels))[1]
items = module.read_hellaswag(Path(sys.argv[1], "items.jsonl"))
shares = []
found = module.hellaswag(model, letters, items, runtime, lambda *words: shares.append(words))
told += [[found.acc, found.acc_norm, found.items, found.cut], shares[-1]]
Path(sys.argv[1], f"{runtime.world_size}-{runtime.rank}.json").write_text(json.dumps(told))
runtime.close()
"""


def written(items: list[Item]) -> str:
    """The lines of a file of items."""
    lines = ({"ctx": i.context, "endings": i.endings, "label": i.label} for i in items)
    return "".join(json.dumps(line) + "\n" for line in lines)


def test_ranks_share_the_items_and_agree_in_every_bit(tmp_path, environment):
    (tmp_path / "items.jsonl").write_text(written(made_up(300)))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(listener.getsockname()[1])}
    processes = []
    for world_size, rank in ((1, 0), (2, 0), (2, 1)):
        ranks = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size)}
        command = [sys.executable, "-c", TWO, str(tmp_path)]
        processes.append(subprocess.Popen(command, env=environment | ranks | address))
    try:
        assert [process.wait(timeout=120) for process in processes] == [0, 0, 0]
    finally:
        for process in processes:
            process.kill()
    alone, first, second = (
        json.loads((tmp_path / f"{name}.json").read_text()) for name in ("1-0", "2-0", "2-1")
    )
    assert alone[:3] == first[:3] == second[:3]
    assert alone[3] == [300, 300]
    assert first[3][0] + second[3][0] == 300
    assert min(first[3][0], second[3][0]) > 100


# The file.


def test_a_file_is_read_packed_or_not(tmp_path):
    items = made_up(7)
    (tmp_path / "a.jsonl").write_text(written(items))
    (tmp_path / "a.jsonl.xz").write_bytes(lzma.compress(written(items).encode()))
    for name in ("a.jsonl", "a.jsonl.xz"):
        assert read_hellaswag(tmp_path / name) == items
        assert read_hellaswag(tmp_path / name, limit=3) == items[:3]
        assert read_hellaswag(tmp_path / name, limit=100) == items


def test_a_label_may_be_a_string(tmp_path):
    (tmp_path / "a.jsonl").write_text(written(made_up(1)).replace('"label": 0', '"label": "0"'))
    assert '"0"' in (tmp_path / "a.jsonl").read_text()
    assert read_hellaswag(tmp_path / "a.jsonl") == made_up(1)


GOOD = written(made_up(1)).encode()
BAD = {
    "torn": GOOD[:-9],
    "a label of 4": GOOD.replace(b'"label": 0', b'"label": 4'),
    "no label": GOOD.replace(b"label", b"lable"),
    "an unknown label": GOOD.replace(b'"label": 0', b'"label": ""'),
    "three endings": b'{"ctx": "a", "endings": ["b", "c", "d"], "label": 0}\n',
    "an ending that is no text": b'{"ctx": "a", "endings": ["b", "c", "d", 1], "label": 0}\n',
    "no object": b"[1, 2]\n",
    "no JSON": b"<html>\n",
    "no UTF-8": GOOD.replace(b'"ctx": "', b'"ctx": "\xff'),
    "a blank line": b"\n",
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_a_line_that_is_no_item_is_named(tmp_path, bad):
    path = tmp_path / "a.jsonl"
    path.write_bytes(GOOD * 2 + bad + GOOD)
    with pytest.raises(UserError, match=r"a\.jsonl, line 3 is no item") as refused:
        read_hellaswag(path)
    assert refused.value.exit_status == 1
    assert "\n" not in str(refused.value)
    assert len(read_hellaswag(path, limit=2)) == 2


@pytest.mark.parametrize("packed", [lzma.compress(GOOD * 2)[:-20], b"no xz at all"])
def test_a_damaged_archive_is_refused(tmp_path, packed):
    (tmp_path / "a.jsonl.xz").write_bytes(packed)
    with pytest.raises(UserError, match=r"line \d is no item .* damaged"):
        read_hellaswag(tmp_path / "a.jsonl.xz")


def test_a_file_that_is_empty_or_not_there_is_refused(tmp_path):
    (tmp_path / "a.jsonl").touch()
    with pytest.raises(UserError, match="is empty"):
        read_hellaswag(tmp_path / "a.jsonl")
    with pytest.raises(UserError, match=r"cannot read .*: No such file"):
        read_hellaswag(tmp_path / "b.jsonl")
    with pytest.raises(UserError, match="Is a directory"):
        read_hellaswag(tmp_path)


def test_a_negative_limit_is_refused(tmp_path):
    with pytest.raises(UsageError, match="must not be negative"):
        read_hellaswag(tmp_path / "a.jsonl", limit=-1)


# The verb.

LINES = [
    Item("the cat sat on", ("a mat", "the hats", "rats", "that"), 0),
    Item("the rats", ("eat", "saw a cat", "sat", "and"), 1),
    Item("a hat", ("on", "that rats eat", "the mat", "saw"), 2),
]


@pytest.fixture
def file(tmp_path) -> Path:
    (tmp_path / "items.jsonl").write_text(written(LINES))
    return tmp_path / "items.jsonl"


def test_eval_measures_hellaswag(say, trained, file):
    outcome = say("eval", trained, "--hellaswag", "--file", file, "--json")
    assert (outcome.status, outcome.err) == (0, "")
    found = json.loads(outcome.out.splitlines()[-1])
    assert {"run", "step", "acc", "acc_norm", "items", "cut", "references"} <= found.keys()
    assert (found["step"], found["items"]) == (8, 3)
    share = found["acc_norm"]
    assert found["acc_norm_error"] == pytest.approx(math.sqrt(share * (1 - share) / 3))
    said = say("eval", trained, "--hellaswag", "--file", file).out
    assert f"acc_norm {share:.2%} ± {found['acc_norm_error']:.2%}, acc {found['acc']:.2%}" in said
    for reference in ("25.00%  chance", "29.55%  OpenAI's GPT-2 124M", "33.70%  GPT-3 124M"):
        assert reference in said
    assert f"{found['cut']} items are longer than the model's context" in said
    limited = say("eval", trained, "--hellaswag", "--file", file, "--limit", "2", "--json")
    assert json.loads(limited.out)["items"] == 2


def test_a_hugging_face_folder_is_measured_as_its_run_is(say, trained, exported, file):
    words = ("--hellaswag", "--file", file, "--json")
    run, folder = (json.loads(say("eval", path, *words).out) for path in (trained, exported))
    assert [run[k] for k in ("acc", "acc_norm", "items")] == [
        folder[k] for k in ("acc", "acc_norm", "items")
    ]


def test_the_recipes_file_is_taken_if_it_is_there(say, trained, file):
    usual = file.parent / "data" / "hellaswag" / "hellaswag_val.jsonl"
    usual.parent.mkdir(parents=True)
    usual.write_bytes(file.read_bytes())
    assert json.loads(say("eval", trained, "--hellaswag", "--json").out)["items"] == 3


@pytest.mark.parametrize(
    ("options", "status", "sentence"),
    [
        (["--limit", "3"], 2, "add --hellaswag"),
        (["--file", "x"], 2, "add --hellaswag"),
        (["--hellaswag", "--data", "x"], 2, "by --file"),
        (["--hellaswag", "--file", "x", "--limit", "-1"], 2, "must not be negative"),
        (["--hellaswag", "--file", "x"], 1, "cannot read HellaSwag's items from x"),
    ],
)
def test_wrong_words_get_one_sentence(say, trained, options, status, sentence):
    outcome = say("eval", trained, *options)
    assert outcome.status == status
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1
    assert sentence in outcome.err


def test_broken_weights_are_said(say, trained, file, monkeypatch):
    monkeypatch.setattr(module, "share", lambda losses, labels: math.nan)
    words = ("eval", trained, "--hellaswag", "--file", file)
    assert json.loads(say(*words, "--json").out)["acc_norm"] is None
    assert "losses are no numbers" in say(*words).out
