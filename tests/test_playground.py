"""The playground: its answers against the model itself, its manners as a server, and its page."""

import contextlib
import http.client
import json
import math
import os
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import webbrowser

import pytest
import torch
from browsing import LEAST_CONTRAST, LOOKS, needs_browser, opened

from buildgpt import api
from buildgpt.course import own
from buildgpt.course.series import CORE
from buildgpt.playground.player import Player
from buildgpt.playground.server import Playground, serve


@pytest.fixture(scope="module")
def loaded(trained):
    return api.load(trained)


@contextlib.contextmanager
def serving(loaded, host="127.0.0.1"):
    """A playground on a free port."""
    with Playground(host, 0) as playground:
        playground.player = Player(loaded)
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
    assert headers["X-Content-Type-Options"] == "nosniff"
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
        assert "weights are broken" in refusal(ask("POST", "/api/next", {"text": "a"}), 400)
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
        ({"temperature": float("inf")}, "temperature = inf"),
        ({"temperature": 10**400}, "temperature = 1000"),
        ({"seed": 2**70}, "seed = 1180591620717411303424"),
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


def test_a_top_p_that_is_nothing_in_fp32_is_told(ask):
    assert "too small" in refusal(ask("POST", "/api/next", {"top_p": 1e-50}), 400)


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
            {"Host": "[::1"},
            {"Host": "[abc]:80"},
        ):
            assert "own page" in refusal(ask(verb, path, {}, **headers), 403)
    own = {"Host": "localhost:5", "Origin": "http://localhost:5"}
    assert ask("POST", "/api/next", {}, **own)[0] == 200


def test_where_others_may_ask_it_is_by_names_that_are_this_machines(loaded):
    with serving(loaded, "0.0.0.0") as playground:
        assert playground.address == f"http://{socket.gethostname()}:{playground.server_port}/"
        here = socket.gethostname().lower()  # as a browser sends it
        for name in ("localhost", "127.0.0.1", "192.168.1.7", here, f"{here}.local"):
            assert playground.knows(name)
        for name in ("elsewhere.example", f"{here}.example", "1.2.3.4.example"):
            assert not playground.knows(name)


def test_the_page_may_load_nothing_from_elsewhere(ask):
    status, headers, body = ask("GET", "/")
    assert status == 200
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert not re.search(r"https?://", body)


# Who goes, and who waits.


def together(*threads):
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)


def test_two_who_ask_at_once_have_their_turns_and_their_own_texts(loaded, monkeypatch):
    """Never are two inside the model, and each gets what it would have got alone."""
    generate, inside, most, found = loaded.core.generate, [], [], {}
    original = generate.next_logits

    def watched(*arguments):
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.001)
        inside.pop()
        return original(*arguments)

    monkeypatch.setattr(generate, "next_logits", watched)
    player, meet = Player(loaded), threading.Barrier(2)

    def asking(text, seed):
        _, sampling = player.wishes({"max_tokens": 40, "seed": seed})
        meet.wait(60)
        found[text] = "".join(line.get("text", "") for line in player.go_on(text, sampling))

    texts = {"the cat": 5, "a mat": 6}
    together(*(threading.Thread(target=asking, args=words) for words in texts.items()))
    assert max(most) == 1
    monkeypatch.undo()
    for text, seed in texts.items():
        assert found[text] == loaded.continuations(text, max_tokens=40, seed=seed)[0]


def test_one_who_reads_nothing_leaves_the_model_to_others(loaded):
    player = Player(loaded)
    text, sampling = player.wishes({"text": "the", "max_tokens": 100})
    unread = player.go_on(text, sampling)
    next(unread)
    assert player.turn.acquire(timeout=60)


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

    def halting(*_):
        yield from ("to", " be", ",")
        gate.wait(60)
        yield " or"

    monkeypatch.setattr(generate, "stream_text", halting)
    with serving(loaded) as playground:
        connection = http.client.HTTPConnection(*playground.server_address, timeout=60)
        connection.request("POST", "/api/continue", json.dumps({"max_tokens": 5}))
        answer = connection.getresponse()
        early = [json.loads(answer.readline()) for _ in range(3)]
        gate.set()
        rest = answer.read().decode().splitlines()
    assert [line["text"] for line in early] == ["to", " be", ","]
    assert json.loads(rest[0]) == {"text": " or"}
    assert json.loads(rest[1])["tokens"] == 3


# The command.


def started(environment, *words):
    """The command in a process of its own, once it has said where it plays."""
    command = [sys.executable, "-m", "buildgpt", "play", *map(str, words)]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    said = process.stdout.readline()
    found = re.search(r"http://127\.0\.0\.1:(\d+)/", said)
    if not found:
        process.kill()
    assert found, said + process.communicate()[1]
    return process, int(found[1])


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is no signal that can be sent there")
def test_the_command_plays_until_ctrl_c_also_with_a_learners_package(
    trained, tmp_path, say, environment
):
    folder = tmp_path / "mine"
    shutil.copytree(CORE, folder / "gpt", ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / "gpt" / "generate.py"
    code = path.read_text("utf-8")
    path.write_text(code + "\n\ndef stream_text(*_):\n    yield 'my own words'\n", "utf-8")
    process, port = started(environment, trained, "--port", 0, "--code", folder)
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


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is no signal that can be sent there")
def test_ctrl_c_in_the_middle_of_an_answer_ends_it_quietly(trained, environment):
    process, port = started(environment, trained, "--port", 0)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", "/api/continue", json.dumps({"max_tokens": 10**6, "seed": 1}))
    answer = connection.getresponse()
    for _ in range(3):
        answer.readline()
    silent = socket.create_connection(("127.0.0.1", port))  # it is not waited for
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20)[1] == ""
    assert process.returncode == 0
    silent.close()


def test_an_error_in_a_learners_package_is_one_sentence(trained, tmp_path, monkeypatch):
    """Such as `core_for` makes, which needs no package of theirs to be imported here."""
    explained = own.mistake("ZeroDivisionError: oops; in gpt/generate.py, line 7", 1)
    player = Player(api.load(trained), lambda error: explained)
    monkeypatch.setattr(player, "next_tokens", lambda *_: 1 / 0)
    with Playground("127.0.0.1", 0) as playground:
        playground.player = player
        thread = threading.Thread(target=playground.handle_request)
        thread.start()
        connection = http.client.HTTPConnection(*playground.server_address, timeout=60)
        connection.request("POST", "/api/next", "{}")
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())) == (400, {"error": str(explained)})
        thread.join()


def test_a_host_that_is_none_is_told(trained, say):
    for host in ("nowhere.invalid", "\u00e9..x"):
        said = say("play", trained, "--port", 0, "--host", host)
        assert (said.status, said.err.count("\n")) == (2, 1)
        assert "--host" in said.err


def test_who_opens_it_to_others_is_told_so_and_a_browser_is_opened(loaded, monkeypatch, capsys):
    shown = queue.Queue()
    monkeypatch.setattr(webbrowser, "open", shown.put)
    with Playground("0.0.0.0", 0) as playground:
        monkeypatch.setattr(playground, "serve_forever", lambda: None)
        serve(playground, Player(loaded), show=True)
        assert shown.get(timeout=60) == playground.address
    said = capsys.readouterr()
    assert "no password" in said.err
    assert playground.address in said.out


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
    page.click("#text")
    page.keyboard.press("Control+End")
    page.keyboard.type(" on")
    page.click("#back")
    assert page.input_value("#text") == "the cat"
    assert page.is_disabled("#back")
    page.click("#forth")
    assert page.input_value("#text") == "the cat" + more + " on"
    assert page.is_disabled("#forth")


@needs_browser
@pytest.mark.parametrize("way", ["button", "Escape"])
def test_an_answer_can_be_stopped(tab, loaded, monkeypatch, way):
    generate = loaded.core.generate

    def endless(*_):
        while True:
            time.sleep(0.01)
            yield "so "

    monkeypatch.setattr(generate, "stream_text", endless)
    page = tab()
    page.focus("#go")
    page.keyboard.press("Enter")
    page.locator("#stop:enabled").wait_for()
    page.wait_for_timeout(100)
    page.focus("#text")
    page.keyboard.type("not now")
    page.click("#stop") if way == "button" else page.keyboard.press("Escape")
    page.locator("#said", has_text="stopped").wait_for()
    assert re.fullmatch("(so )+", page.input_value("#text"))
    assert page.is_disabled("#stop")


@needs_browser
def test_while_the_next_ones_are_asked_for_the_last_ones_cannot_be_chosen(tab, loaded, monkeypatch):
    """And however fast somebody types, there is one question at a time."""
    generate, asked, gate = loaded.core.generate, [], threading.Event()
    original = generate.next_logits

    def halting(*arguments):
        asked.append(1)
        gate.wait(60)
        return original(*arguments)

    page = tab()
    page.locator("#next[aria-busy=false]").wait_for()
    monkeypatch.setattr(generate, "next_logits", halting)
    first = page.locator("#next button").first
    letter = first.get_attribute("data-text")
    first.click()
    first.click()
    first.click()
    assert page.input_value("#text") == letter
    page.focus("#text")
    for key in "the cat":
        page.keyboard.type(key)
        page.wait_for_timeout(210)  # as long as the page waits for another key
    assert len(asked) == 1
    gate.set()
    page.locator("#next[aria-busy=false]").wait_for()
    assert len(asked) == 2


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
    page.fill("#seed", "1.5")
    page.click("#go")
    page.locator("#said.wrong", has_text="seed = 1.5").wait_for()
    page.locator("#next[aria-busy=false]").wait_for()
    assert "seed = 1.5" in page.inner_text("#said")
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
