"""FLOPs, peaks and prices: by hand, and against the model itself."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from buildgpt.gpt.config import SIZES, ModelConfig, ModernConfig, TrainConfig, UsageError
from buildgpt.gpt.model import GPT
from buildgpt.gpt.modern import build
from buildgpt.reproduce import arithmetic

OWN = '[h100.price]\non_demand = 1.0\ndate = "2031-01-02"\nsource = "mine"\n'


def gpt2(size: str) -> ModelConfig:
    return ModelConfig(**SIZES[size], vocab_size=50257)


@pytest.mark.parametrize(
    ("size", "parameters", "flops"),
    [
        # 6 x (all parameters - 1024 positions x width) + 12 x layers x 1024 x width
        ("124M", 124_439_808, 855_166_464),
        ("355M", 354_823_168, 2_424_637_440),
        ("774M", 774_030_080, 5_202_547_200),
        ("1558M", 1_557_611_200, 10_279_555_200),
    ],
)
def test_flops_by_hand(size, parameters, flops):
    model = gpt2(size)
    positions = model.context * model.width
    attention = 12 * model.layers * model.context * model.width
    assert arithmetic.product_parameters(model) == parameters - positions
    assert flops == 6 * (parameters - positions) + attention
    assert arithmetic.flops_per_token(model) == flops


def test_product_parameters_are_the_models_own_without_positions():
    model = ModelConfig(layers=3, heads=2, width=10, context=7, vocab_size=130)
    own = GPT(model).parameter_count()
    assert arithmetic.product_parameters(model) == own - 7 * 10


def modern(**shape: int) -> ModelConfig:
    return ModelConfig(layers=5, heads=2, architecture="modern", **shape)


@pytest.mark.parametrize("rms_norm", [True, False])
def test_a_modern_models_product_parameters_are_all_that_are_not_looked_up(rms_norm):
    config, switches = modern(width=16, context=8, vocab_size=128), ModernConfig(rms_norm=rms_norm)
    own = {name: p.numel() for name, p in build(config, switches).named_parameters()}
    left = {name: n for name, n in own.items() if n > 2 and "embedding" not in name}
    assert own["skip_weights"] == left.pop("skip_weights", 2)
    assert arithmetic.product_parameters(config, switches) == sum(left.values())
    tied = ModernConfig(rms_norm=rms_norm, untied_head=False)
    assert arithmetic.product_parameters(config, tied) == sum(left.values())


def test_a_modern_models_flops_are_those_that_torch_counts():
    config, switches = modern(width=16, context=8, vocab_size=128), ModernConfig(windows=False)
    ids = torch.zeros(3, 8, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter:
        build(config, switches)(ids, ids).backward()
    assert counter.get_total_flops() == 3 * 8 * arithmetic.flops_per_token(config, switches)


def test_windows_are_counted_as_they_open():
    """Five layers, of which the fourth and the last see all of the window, the others half."""
    config = modern(width=16, context=8, vocab_size=128)
    train = TrainConfig(steps=10, tokens_per_step=64, double_at=(4,))
    seen, tokens = 0, 0
    for step, window in enumerate([2, 2, 2, 4, 4, 6, 6, 6, 8, 8]):
        size = 32 if step < 4 else 64
        seen, tokens = seen + size * (2 * window + 3 * window // 2), tokens + size
    products = arithmetic.product_parameters(config, ModernConfig())
    expected = 6 * products + 12 * 16 * seen / tokens
    assert arithmetic.flops_per_token(config, ModernConfig(), train) == pytest.approx(expected)
    everything = arithmetic.flops_per_token(config, ModernConfig(windows=False), train)
    assert everything == 6 * products + 12 * 16 * 5 * 8


def test_a_peak_is_known_by_torchs_name_or_by_ours_and_never_guessed():
    assert arithmetic.peak_flops("NVIDIA H100 80GB HBM3", "bfloat16") == 989.4e12
    assert arithmetic.peak_flops("h100", "bf16") == 989.4e12
    assert arithmetic.peak_flops("Tesla T4", "float16") == 65e12
    assert arithmetic.peak_flops("Tesla T4", "bfloat16") is None
    assert arithmetic.peak_flops("h100", "int8") is None
    for unknown in ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", "NVIDIA H1", "cpu", "", "assumed"):
        assert arithmetic.peak_flops(unknown, "bf16") is None
        assert arithmetic.price(unknown) is None


def test_a_price_has_a_date_and_a_source():
    dollars, date, source = arithmetic.price("NVIDIA H100 80GB HBM3")
    assert dollars > 0 and date and source
    assert arithmetic.price("rtx3090") is None


def test_every_entry_of_gpus_toml_is_whole():
    known = arithmetic.load_gpus()
    assumed = known.pop("assumed")
    assert assumed.keys() == set(arithmetic.ASSUMED)
    names = [name for gpu in known.values() for name in gpu["device_names"]]
    assert len(names) == len(set(names))
    for gpu in known.values():
        needed = {"name", "device_names", "memory_gb", "peak_tflops", "specs"}
        assert needed | {"bandwidth_gb_s", "link_gb_s"} <= gpu.keys()
        assert {"fp16", "fp32"} <= gpu["peak_tflops"].keys() <= {"fp16", "fp32", "bf16"}
        if "price" in gpu:
            assert gpu["price"]["date"] and gpu["price"]["source"]
        for row in gpu.get("measured", []):
            assert row["model"] in SIZES
            assert row.keys() == {"model", "tokens_per_second", "date", "by", "gpus", "source"}


def test_estimates_are_no_rosier_than_what_was_measured():
    known = arithmetic.load_gpus()
    assumed = known.pop("assumed")["utilisation"]
    for gpu in known.values():
        for row in gpu.get("measured", []):
            done = row["tokens_per_second"] * arithmetic.flops_per_token(gpt2(row["model"]))
            share = done / (gpu["peak_tflops"]["bf16"] * 1e12)
            assert assumed <= round(share, 2) < 1


def test_own_prices_replace_those_that_they_name(tmp_path):
    path = tmp_path / "prices.toml"
    card = "memory_gb = 9\nbandwidth_gb_s = 9\nlink_gb_s = 9\n"
    card += 'peak_tflops = { fp16 = 9, fp32 = 9 }\ndevice_names = ["X"]\n'
    path.write_text(OWN + "[mine]\n" + card)
    assert arithmetic.price("h100", path) == (1.0, "2031-01-02", "mine")
    assert arithmetic.price("h200", path) == arithmetic.price("h200")
    assert arithmetic.find_gpu("h100", path)["memory_gb"] == 80
    assert arithmetic.find_gpu("X", path)["memory_gb"] == 9


@pytest.mark.parametrize(
    ("text", "said"),
    [(None, "cannot read the prices"), ("[", "is not TOML"), ("h100 = 3", "write [h100]")]
    + [("[h100]\nmemory_gb = 0", "h100: memory_gb must be"), ("[x]", "x: memory_gb must be")]
    + [("[assumed]\nutilisation = true", "assumed: utilisation must be a number above 0")],
)
def test_bad_price_files_are_told(tmp_path, text, said):
    path = tmp_path / "prices.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=said.replace("[", r"\[")):
        arithmetic.load_gpus(path)
