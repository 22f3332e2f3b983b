"""make bench: the README's tables are the newest record's, and the parts measure what they say."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))


@pytest.fixture
def tables():
    """tools/bench_table.py."""
    spec = importlib.util.spec_from_file_location("bench_table", ROOT / "tools/bench_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ROW = {"ratio_to_first": 1.0, "ratio_lowest": 1.0, "ratio_highest": 1.0, "peak_memory_gb": 1.234}
RECORD = {
    "date": "2030-01-02",
    "commit": "c0ffee",
    "hardware": {"cores": 2, "processor": "Abacus", "bf16": True, "torch": "9.9"},
    "training": {
        "matmul_peak_tflops": 1.0,
        "rows": {
            "train nanoGPT": ROW | {"median": 1234.5, "share_of_peak": 0.5},
            "train ours": ROW | {"median": 12345.6, "share_of_peak": 0.754},
        },
    },
    "decoding": {
        "read_gb_per_second": 50.4,
        "rows": {"decode ours bfloat16": ROW | {"median": 123.4, "share_of_read": 0.61}},
    },
    "generating": {"prefill": {"prefill ours bfloat16": ROW | {"median": 99.6}}},
    "preparing": {"error": "it failed"},
    "loading": {"train ours": {"seconds_a_step": 1e-4, "share_of_step": 0.0014}},
    "starting": {"shakespeare": {"first": 4.0, "later": 2.62}},
    "memory": {"ratio": 2.25, "micro_batch": 4, "context": 1024, "own_gb": 1.0, "whole_gb": 2.25},
    "learning": {
        "shakespeare": {"text": "a.txt", "seconds": 75.1, "val_loss": 1.4567, "curve": []},
        "better": {
            "text": "a.txt",
            "seconds": 240.2,
            "val_loss": 1.4,
            "curve": [],
            "seeds": [{"val_loss": 1.3}, {"val_loss": 1.5}],
        },
    },
}


def test_the_readme_shows_the_newest_record(tables, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["bench_table.py", "--check"])
    assert tables.main() == 0, "run: python tools/bench_table.py"


def test_a_readme_with_other_figures_is_found_and_mended(tables, tmp_path, monkeypatch, capsys):
    results = tmp_path / "benchmarks/results"
    results.mkdir(parents=True)
    (results / "2029-12-31-cpu.json").write_text("{}")  # an older one
    (results / "2030-01-02-cpu.json").write_text(json.dumps(RECORD))
    readme = tmp_path / "README.md"
    readme.write_text(f"above\n{tables.BEGIN}\n| old |\n{tables.END}\nbelow\n")
    monkeypatch.setattr(sys, "argv", ["bench_table.py", "--check"])
    assert tables.main(tmp_path) == 1
    assert "not those of the newest record" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["bench_table.py"])
    assert tables.main(tmp_path) == 0
    text = readme.read_text()
    assert text.startswith("above\n") and text.endswith("\nbelow\n") and "old" not in text
    monkeypatch.setattr(sys, "argv", ["bench_table.py", "--check"])
    assert tables.main(tmp_path) == 0


def test_every_part_that_was_measured_has_its_row(tables, tmp_path):
    path = tmp_path / "2030-01-02-cpu.json"
    path.write_text(json.dumps(RECORD))
    found = tables.figures(path).splitlines()
    for line in (
        "| **buildgpt** | 12,300 | 75% | 1.23 GB |",
        "| **buildgpt**, bf16 | 123 | 61% |",
        "| **buildgpt**, bf16, a prompt of 512 tokens | 100 |",
        "| `shakespeare` on a.txt, 75 s | **1.457** |",
        "| `better` on a.txt, 240 s | **1.400**, the mean of 1.300, 1.500 |",
        "| `shakespeare`: from the command to the first step | 2.6 s |",
        "| the loader's share of a step (10.7M parameters) | 0.14% |",
    ):
        assert line in found
    assert found.index("| **buildgpt** | 12,300 | 75% | 1.23 GB |") < found.index(
        "| nanoGPT | 1,230 | 50% | 1.23 GB |"
    )
    assert not any("tiktoken" in line for line in found)  # that part failed


def test_the_picture_is_drawn_from_a_record_with_holes(tmp_path):
    picture = pytest.importorskip("picture", exc_type=ImportError)
    record = RECORD | {"quick": True, "generating": {"error": "it failed"}}
    for name in ("first.svg", "second.svg"):
        picture.draw(record, tmp_path / name)
    first = (tmp_path / "first.svg").read_bytes()
    assert b"</svg>" in first and first == (tmp_path / "second.svg").read_bytes()


def test_a_tokens_weights_are_those_that_the_decoder_packs():
    cpu = pytest.importorskip("cpu", reason="benchmarks are for Linux", exc_type=ImportError)
    blocks = 12 * (768 * 2304 + 768 * 768 + 2 * 768 * 3072)
    assert cpu.weight_bytes("bfloat16") == 2 * (blocks + 50304 * 768)
    assert cpu.weight_bytes("float32") == 4 * (blocks + 50304 * 768)


def test_the_loader_is_timed_on_real_shards():
    parts = pytest.importorskip("parts", exc_type=ImportError)
    assert 0 < parts.seconds_of_loading(16, 2, steps=3) < 1
