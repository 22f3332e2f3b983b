"""The playground's HTTP: a page, and three questions in JSON.

    GET  /              the page
    GET  /api/model     what is loaded
    POST /api/next      {"text", ...} -> {"tokens": [{"id", "text", "probability", "share"}]}
    POST /api/continue  {"text", ...} -> lines of JSON: {"text"} each, in the end {"tokens", ...}

A request may also hold max_tokens, temperature, top_k, top_p and seed. What is wrong is answered
with {"error": "a sentence"}. A page of another site cannot ask: neither in its own name (Origin)
nor under a name of its own that leads here (Host).
"""

import json
import os
import sys
import traceback
import webbrowser
from collections.abc import Iterator
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from buildgpt.api import Loaded

from .player import Player

PAGE = Path(__file__).parent / "page.html"
LOOPBACK = ("127.0.0.1", "localhost")
LARGEST_REQUEST = 4_000_000  # bytes
PATIENCE = 30.0  # seconds for a request to arrive
# The page needs nothing but itself.
POLICY = (
    "default-src 'none'; connect-src 'self'; img-src data:;"
    " style-src 'unsafe-inline'; script-src 'unsafe-inline'; frame-ancestors 'none'"
)


def serve(loaded: Loaded, host: str, port: int, show: bool = False) -> None:
    """Answer until Ctrl-C; `show` opens a browser. UsageError for a port that cannot be had."""
    try:
        playground = Playground(Player(loaded), host, port)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise loaded.core.config.UsageError(
            f"{host}, port {port}, cannot be had: {reason}; choose another with --port or --host"
        ) from None
    if host not in LOOPBACK:
        print("whoever reaches this machine can use this; there is no password", file=sys.stderr)
    print(f"{loaded.source} plays at {playground.address} until Ctrl-C", flush=True)
    if show:
        webbrowser.open(playground.address)
    with playground, suppress(KeyboardInterrupt):
        playground.serve_forever()


class Playground(ThreadingHTTPServer):
    """Answers on host:port; port 0 takes a free one. OSError where that is taken."""

    allow_reuse_address = os.name != "nt"  # Windows would let two have the same port

    def __init__(self, player: Player, host: str, port: int) -> None:
        self.player, self.host = player, host
        super().__init__((host, port), Handler)

    @property
    def address(self) -> str:
        """Where a browser finds it."""
        return f"http://{self.host}:{self.server_address[1]}/"

    def handle_error(self, request: Any, address: Any) -> None:
        """A browser that has gone is no error."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, address)


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Playground
    timeout = PATIENCE

    def do_GET(self) -> None:
        if not self.is_welcome():
            return
        if self.path == "/":
            self.send("text/html; charset=utf-8", PAGE.read_bytes())
        elif self.path == "/api/model":
            self.send_json(self.server.player.about())
        else:
            self.refuse(HTTPStatus.NOT_FOUND, f"there is no {self.path} here")

    def do_POST(self) -> None:
        if not self.is_welcome():
            return
        if self.path not in ("/api/next", "/api/continue"):
            self.refuse(HTTPStatus.NOT_FOUND, f"there is no {self.path} here")
        elif (asked := self.asked()) is not None:
            self.answer(asked)

    def answer(self, asked: dict[str, Any]) -> None:
        """Ask the model; a mistake in the request is told in one sentence."""
        player = self.server.player
        try:
            text, sampling = player.wishes(asked)
            if self.path == "/api/next":
                self.send_json({"tokens": player.next_tokens(text, sampling)})
            else:
                player.loaded.tokenizer.encode(text)  # told before the answer has begun
                self.send_lines(player.go_on(text, sampling))
        except ConnectionError:
            raise
        except Exception as error:
            self.refuse(*self.blame(error))

    def blame(self, error: Exception) -> tuple[HTTPStatus, str]:
        """Whose mistake it is, and the sentence; of one in the code, the terminal says where."""
        if hasattr(error, "exit_status"):
            return HTTPStatus.BAD_REQUEST, str(error)
        traceback.print_exception(error)
        sentence = f"{type(error).__name__}: {error}; the terminal says where"
        return HTTPStatus.INTERNAL_SERVER_ERROR, sentence

    def is_welcome(self) -> bool:
        """Whether this comes from the playground's own page, or from no page at all."""
        host, origin = self.headers.get("Host", ""), self.headers.get("Origin")
        named = urlsplit(f"//{host}").hostname or ""
        ours = self.server.host not in LOOPBACK or named in ("", *LOOPBACK)
        if ours and origin in (None, f"http://{host}"):
            return True
        self.refuse(HTTPStatus.FORBIDDEN, "this playground answers its own page alone")
        return False

    def asked(self) -> dict[str, Any] | None:
        """The request's object; None, and an answer that says so, if it holds none."""
        try:
            length = int(self.headers.get("Content-Length", ""))
        except ValueError:
            self.refuse(HTTPStatus.LENGTH_REQUIRED, "a request needs its Content-Length")
            return None
        if not 0 <= length <= LARGEST_REQUEST:
            too_large = f"a request has at most {LARGEST_REQUEST:,} bytes"
            self.refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, too_large)
            return None
        try:
            asked = json.loads(self.rfile.read(length))
        except (ValueError, RecursionError):
            asked = None
        if isinstance(asked, dict):
            return asked
        self.refuse(HTTPStatus.BAD_REQUEST, 'a request is a JSON object such as {"text": "To be"}')
        return None

    def refuse(self, status: HTTPStatus, sentence: str) -> None:
        self.send_json({"error": sentence}, status)

    def send_json(self, value: dict[str, Any], status: HTTPStatus = HTTPStatus.OK) -> None:
        self.send("application/json", json.dumps(value).encode(), status)

    def send(self, kind: str, data: bytes, status: HTTPStatus = HTTPStatus.OK) -> None:
        self.begin(kind, status)
        self.wfile.write(data)

    def send_lines(self, values: Iterator[dict[str, Any]]) -> None:
        """Each value as soon as it is there; the connection's end is the answer's."""
        self.begin("application/x-ndjson", HTTPStatus.OK)
        try:
            for value in values:
                self.wfile.write(json.dumps(value).encode() + b"\n")
        except ConnectionError:
            raise
        except Exception as error:
            _, sentence = self.blame(error)
            self.wfile.write(json.dumps({"error": sentence}).encode() + b"\n")
        finally:
            values.close()  # type: ignore[attr-defined]  # leaves the model to the next

    def begin(self, kind: str, status: HTTPStatus) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the terminal stays free for what goes wrong."""
