"""The playground: its answers against the model itself, its manners as a server, and its page."""

import contextlib
import http.client
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from browsing import LEAST_CONTRAST, LOOKS, needs_browser, opened

from buildgpt import api
from buildgpt.course.series import CORE
from buildgpt.playground.player import Player
from buildgpt.playground.server import Playground

SOURCE = Path(__file__).parent.parent / "src"


@pytest.fixture(scope="module")
def loaded(trained):
    return api.load(trained)


@contextlib.contextmanager
def serving(loaded):
    """A playground on a free port."""
    with Playground(Player(loaded), "127.0.0.1", 0) as playground:
        thread = threading.Thread(target=playground.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield playground
        finally:
            playground.shutdown()
            thread.join()


@pytest.fixture
def ask(loaded):
    """ask("POST", "/api/next", {"text": "a"}) -> (status, headers, body)."""
    with serving(loaded) as playground:

        def ask(verb, path, body=None, **headers):
            if isinstance(body, dict):
                body = json.dumps(body)
            connection = http.client.HTTPConnection(*playground.server_address, timeout=60)
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(verb, path, body, named)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read().decode()

        yield ask


def refusal(answer, status: int) -> str:
    """The sentence with which a request was refused with this status."""
    assert answer[0] == status, answer
    return json.loads(answer[2])["error"]


# What it answers.


def test_it_says_what_is_loaded(ask, loaded):
    status, _, body = ask("GET", "/api/model")
    facts = json.loads(body)
    assert status == 200
    ids = loaded.tokenizer.vocab_size  # those of the padding do not count
    sizes = {name: [*p.shape] for name, p in loaded.model.named_parameters()}
    sizes["token_embedding.weight"][0] = ids
    assert facts["parameters"] == sum(map(math.prod, sizes.values()))
    assert facts["vocab_size"] == ids
    assert (facts["step"], facts["context"], facts["run"]) == (8, 16, loaded.source)


@pytest.mark.parametrize("wish", [{}, {"temperature": 0}, {"top_k": 3, "top_p": 0.9}])
def test_a_text_goes_on_as_sample_has_it(ask, loaded, wish):
    wish = {"max_tokens": 40, "seed": 5} | wish
    status, headers, body = ask("POST", "/api/continue", {"text": "the cat"} | wish)
    *pieces, end = [json.loads(line) for line in body.splitlines()]
    assert (status, headers["Content-Type"]) == (200, "application/x-ndjson")
    text = "".join(piece["text"] for piece in pieces)
    assert text == loaded.continuations("the cat", **wish)[0]
    assert (end["tokens"], end["seed"]) == (len(text), 5)  # characters are its tokens
    assert end["seconds"] > 0


def test_without_a_seed_each_answer_names_its_own(ask):
    ends = [json.loads(ask("POST", "/api/continue", {"max_tokens": 1})[2].splitlines()[-1])]
    ends += [json.loads(ask("POST", "/api/continue", {"max_tokens": 1})[2].splitlines()[-1])]
    assert ends[0]["seed"] != ends[1]["seed"]


@pytest.mark.parametrize("text", ["", "t", "the cat sat on a mat and saw"])
def test_what_may_come_next_is_the_models_softmax(ask, loaded, text):
    """Of the last 16 tokens, which is the context; in float64, and cut to the 3 likeliest."""
    asked = {"text": text, "temperature": 0.5, "top_k": 3}
    tokens = json.loads(ask("POST", "/api/next", asked)[2])["tokens"]
    ids = loaded.tokenizer.encode(text) or [loaded.tokenizer.end_of_text]
    with torch.no_grad():
        logits = loaded.model(torch.tensor([ids[-16:]]))[0, -1].double()
    plain, sharp = logits.softmax(0), (logits / 0.5).softmax(0)
    order = plain.argsort(descending=True)[:10]
    assert [token["id"] for token in tokens] == order.tolist()
    for rank, token in enumerate(tokens):
        kept = sharp[order[:3]].sum()
        assert token["probability"] == pytest.approx(plain[token["id"]].item(), rel=0.02)
        share = (sharp[token["id"]] / kept).item() if rank < 3 else 0
        assert token["share"] == pytest.approx(share, rel=0.04)
        assert token["text"] == loaded.tokenizer.decode([token["id"]])


def test_broken_weights_are_told_and_do_not_end_it(ask, loaded):
    weight = loaded.model.token_embedding.weight
    kept = weight.detach().clone()
    try:
        loaded.__dict__.pop("decoder", None)
        weight.data.fill_(float("nan"))
        assert "weights" in refusal(ask("POST", "/api/next", {"text": "a"}), 400)
        lines = ask("POST", "/api/continue", {"text": "a"})[2].splitlines()
        assert "weights" in json.loads(lines[-1])["error"]
    finally:
        weight.data.copy_(kept)
        loaded.__dict__.pop("decoder", None)
    assert ask("POST", "/api/next", {"text": "a"})[0] == 200


# What it does not answer.


@pytest.mark.parametrize(
    "asked, named",
    [
        ({"top_p": 3}, "top-p = 3"),
        ({"temperature": -1}, "temperature = -1"),
        ({"temperature": float("nan")}, "temperature"),
        ({"max_tokens": 1.5}, "max_tokens = 1.5"),
        ({"max_tokens": True}, "max_tokens = True"),
        ({"text": 5}, "text = 5"),
        ({"prompt": "x"}, "'prompt'"),
        ({"text": "\ud800"}, "surrogate"),
        ({"text": "\u2603"}, "\u2603"),
    ],
)
@pytest.mark.parametrize("path", ["/api/continue", "/api/next"])
def test_what_cannot_be_meant_is_refused_in_a_sentence(ask, path, asked, named):
    assert named in refusal(ask("POST", path, asked), 400)


def test_what_is_no_request_is_refused(ask):
    for body in ("", "{", "[]", "[" * 100_000, b"\xff"):
        assert "JSON object" in refusal(ask("POST", "/api/next", body), 400)
    assert "Content-Length" in refusal(ask("POST", "/api/next", Content_Length="many"), 411)
    assert "bytes" in refusal(ask("POST", "/api/next", Content_Length="4000001"), 413)
    assert "bytes" in refusal(ask("POST", "/api/next", Content_Length="-1"), 413)
    for verb, path in (("GET", "/../pyproject.toml"), ("GET", "/api/next"), ("POST", "/")):
        assert path in refusal(ask(verb, path), 404)


def test_other_sites_cannot_ask(ask):
    """Nor under a name of theirs that leads to this machine (DNS rebinding)."""
    for verb, path in (("GET", "/"), ("GET", "/api/model"), ("POST", "/api/continue")):
        for headers in (
            {"Host": "elsewhere.example:80"},
            {"Origin": "https://elsewhere.example"},
            {"Origin": "null"},
            {"Origin": "http://localhost:1"},
            {"Host": "elsewhere.example", "Origin": "http://elsewhere.example"},
        ):
            assert "own page" in refusal(ask(verb, path, {}, **headers), 403)
    own = {"Host": "localhost:5", "Origin": "http://localhost:5"}
    assert ask("POST", "/api/next", {}, **own)[0] == 200


def test_the_page_may_load_nothing_from_elsewhere(ask):
    status, headers, body = ask("GET", "/")
    assert status == 200
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert not re.search(r"https?://", body)


# Who goes, and who waits.


def test_one_who_has_gone_leaves_the_model_to_the_next(loaded, monkeypatch):
    """The first of two asks for far more than it stays for."""
    generate, drawn = loaded.core.generate, []
    original = generate.stream_text

    def counted(*arguments):
        for piece in original(*arguments):
            drawn.append(piece)
            yield piece

    monkeypatch.setattr(generate, "stream_text", counted)
    with serving(loaded) as playground:
        first = http.client.HTTPConnection(*playground.server_address, timeout=60)
        body = json.dumps({"text": "the", "max_tokens": 1_000_000, "seed": 1})
        first.request("POST", "/api/continue", body)
        answer = first.getresponse()
        assert "text" in json.loads(answer.readline())
        answer.close()
        first.close()
        second = http.client.HTTPConnection(*playground.server_address, timeout=60)
        second.request("POST", "/api/next", json.dumps({"text": "the"}))
        assert second.getresponse().status == 200
    assert len(drawn) < 1_000_000


def test_the_first_to_ask_for_lines_gets_them_before_the_last_is_drawn(loaded, monkeypatch):
    generate, gate = loaded.core.generate, threading.Event()
    original = generate.stream_text

    def halting(*arguments):
        for number, piece in enumerate(original(*arguments)):
            if number == 3:
                gate.wait(60)
            yield piece

    monkeypatch.setattr(generate, "stream_text", halting)
    with serving(loaded) as playground:
        connection = http.client.HTTPConnection(*playground.server_address, timeout=60)
        connection.request("POST", "/api/continue", json.dumps({"max_tokens": 5}))
        answer = connection.getresponse()
        early = [json.loads(answer.readline()) for _ in range(3)]
        gate.set()
        rest = answer.read().decode().splitlines()
    assert all("text" in line for line in early)
    assert "tokens" in json.loads(rest[-1])


# The command.


def started(*words):
    """The command in a process of its own, once it has said where it plays."""
    env = os.environ | {"PYTHONPATH": str(SOURCE)}
    command = [sys.executable, "-m", "buildgpt", "play", *map(str, words)]
    process = subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    said = process.stdout.readline()
    found = re.search(r"http://127\.0\.0\.1:(\d+)/", said)
    if not found:
        process.kill()
    assert found, said + process.communicate()[1]
    return process, int(found[1])


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is no signal that can be sent there")
def test_the_command_plays_until_ctrl_c_also_with_a_learners_package(trained, tmp_path, say):
    folder = tmp_path / "mine"
    shutil.copytree(CORE, folder / "gpt", ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / "gpt" / "generate.py"
    code = path.read_text("utf-8")
    path.write_text(code + "\n\ndef stream_text(*_):\n    yield 'my own words'\n", "utf-8")
    process, port = started(trained, "--port", 0, "--code", folder)
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("POST", "/api/continue", json.dumps({"text": "the"}))
        first = connection.getresponse().readline()
        assert json.loads(first) == {"text": "my own words"}
        taken = say("play", trained, "--port", port)
        assert (taken.status, taken.err.count("\n")) == (2, 1)
        assert f"port {port}," in taken.err
    finally:
        process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 0


def test_a_package_that_has_not_come_that_far_is_told_so(trained, tmp_path, say):
    folder = tmp_path / "gpt"
    folder.mkdir()
    (folder / "tokenizer.py").write_text("class ByteTokenizer:\n    pass\n")
    said = say("play", trained, "--code", folder)
    assert said.status == 2
    assert "buildgpt play needs" in said.err


# The page.


@pytest.fixture
def tab(loaded, browser):
    """tab(width, scheme): the page in a browser, without a complaint of it."""
    with serving(loaded) as playground:
        # A request that is refused, which a browser reports, is what one of the tests is about.
        refused = "status of 400"
        # The driver puts in looks.js, which the page's own rules would not let in.
        with opened(browser, playground.address, refused, bypass_csp=True) as page:
            page.add_init_script(LOOKS)

            def tab(width: int = 1280, scheme: str = "light"):
                page.set_viewport_size({"width": width, "height": 800})
                page.emulate_media(color_scheme=scheme)
                page.goto(playground.address)
                page.locator("#next li").first.wait_for()
                return page

            yield tab


def ended(page):
    """The page, when an answer has come to its end."""
    page.locator("#said", has_text="seed").wait_for()
    page.locator("#next li").first.wait_for()
    return page


@needs_browser
def test_the_page_writes_on_and_takes_back(tab, loaded):
    page = tab()
    assert f"{loaded.model.parameter_count():,} parameters" in page.inner_text("#model")
    page.fill("#text", "the cat")
    page.fill("#seed", "7")
    page.keyboard.press("Control+Enter")
    ended(page)
    more = loaded.continuations("the cat", seed=7)[0]
    assert page.input_value("#text") == "the cat" + more
    assert page.inner_text("#said").startswith(f"{len(more)} tokens, ")
    page.click("#back")
    assert page.input_value("#text") == "the cat"
    assert page.is_disabled("#back")


@needs_browser
def test_a_token_is_written_by_the_keyboard(tab, loaded):
    page = tab()
    page.fill("#text", "the ca")
    page.locator("#temperature").focus()
    page.keyboard.press("Home")
    page.locator("#next li .percent", has_text="100.0%").wait_for()
    first = page.locator("#next button").first
    letter = first.get_attribute("data-text")
    first.focus()
    page.keyboard.press("Enter")
    assert page.input_value("#text") == "the ca" + letter
    assert page.input_value("#temperature") == "0"


@needs_browser
def test_what_goes_wrong_is_said_on_the_page(tab):
    page = tab()
    page.fill("#text", "\u2603")
    page.locator("#said.wrong", has_text="\u2603").wait_for()
    page.fill("#text", "the")
    page.locator("#next li").first.wait_for()
    assert page.inner_text("#said") == ""


@needs_browser
def test_the_page_can_be_read_at_any_width_by_day_and_by_night(tab):
    for width in (360, 1280):
        for scheme in ("light", "dark"):
            page = tab(width, scheme)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.evaluate("looks.geometry()") == []
            assert page.evaluate(f"looks.contrast({LEAST_CONTRAST})") == []
            unnamed = "[...document.querySelectorAll('button, input, textarea')].filter(e =>"
            unnamed += " !(e.innerText || e.ariaLabel || e.labels?.length)).map(e => e.outerHTML)"
            assert page.evaluate(unnamed) == []
