"""The playground's HTTP: a page, and three questions in JSON.

    GET  /              the page
    GET  /api/model     what is loaded
    POST /api/next      {"text", ...} -> {"tokens": [{"id", "text", "probability", "share"}]}
    POST /api/continue  {"text", ...} -> lines of JSON: {"text"} each, in the end {"tokens", ...}

A request may also hold max_tokens, temperature, top_k, top_p and seed. What is wrong is answered
with {"error": "a sentence"}. A page of another site cannot ask: neither in its own name (Origin)
nor under a name of its own that leads here (Host, "DNS rebinding").
"""

import ipaddress
import json
import os
import socket
import sys
import threading
import traceback
import webbrowser
from collections.abc import Iterator
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from buildgpt.core import Core

from .player import Player

PAGE = Path(__file__).parent / "page.html"
LOOPBACK = ("127.0.0.1", "localhost")
LARGEST_REQUEST = 4_000_000  # bytes
PATIENCE = 30.0  # seconds for a request to arrive, and for an answer to be read
GONE = (ConnectionError, TimeoutError)  # what one who has left leaves
# The page needs nothing but itself.
POLICY = (
    "default-src 'none'; connect-src 'self'; img-src data:;"
    " style-src 'unsafe-inline'; script-src 'unsafe-inline'; frame-ancestors 'none'"
)


def listen(core: Core, host: str, port: int) -> "Playground":
    """A playground that has its port, and no player yet; UsageError where it cannot be had."""
    try:
        return Playground(host, port)
    except (OSError, OverflowError, TypeError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise core.config.UsageError(
            f"{host}, port {port}, cannot be had: {reason}; choose another with --port or --host"
        ) from None


def serve(playground: "Playground", player: Player, show: bool = False) -> None:
    """Answer until Ctrl-C; `show` opens a browser."""
    playground.player = player
    if playground.host not in LOOPBACK:
        print("whoever reaches this machine can use this; there is no password", file=sys.stderr)
    print(f"{player.loaded.source} plays at {playground.address} until Ctrl-C", flush=True)
    if show:  # beside, as some browsers stay in the foreground
        threading.Thread(target=webbrowser.open, args=(playground.address,), daemon=True).start()
    with suppress(KeyboardInterrupt):
        playground.serve_forever()


class Playground(ThreadingHTTPServer):
    """Answers on host:port for its `player`; port 0 takes a free one. OSError if it is taken."""

    allow_reuse_address = os.name != "nt"  # Windows would let two have the same port
    daemon_threads = False  # waited for in the end: Python must not leave while torch computes
    player: Player

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.connections: set[Any] = set()
        super().__init__((host, port), Handler)

    def process_request(self, request: Any, address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, address)

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        """Hang up, so that nobody who reads or writes is waited for, and end."""
        for connection in [*self.connections]:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        super().server_close()

    @property
    def address(self) -> str:
        """Where a browser finds it."""
        name = socket.gethostname() if self.host in ("", "0.0.0.0") else self.host
        return f"http://{name}:{self.server_address[1]}/"

    def knows(self, name: str) -> bool:
        """Whether this machine goes by a name that somebody asked for: none that a stranger could
        have led here."""
        if self.host in LOOPBACK:
            return name in LOOPBACK
        here = socket.gethostname().lower()
        return name in (*LOOPBACK, self.host.lower(), here, f"{here}.local") or is_address(name)

    def handle_error(self, request: Any, address: Any) -> None:
        """A browser that has gone is no error."""
        if not isinstance(sys.exception(), GONE):
            super().handle_error(request, address)


def is_address(name: str) -> bool:
    """Whether a name is an address in numbers."""
    try:
        return bool(ipaddress.ip_address(name))
    except ValueError:
        return False


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Playground
    timeout = PATIENCE

    def do_GET(self) -> None:
        if not self.is_welcome():
            return
        if urlsplit(self.path).path == "/":
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
        except GONE:
            raise
        except Exception as error:
            self.refuse(*self.blame(error))

    def blame(self, error: Exception) -> tuple[HTTPStatus, str]:
        """Whose mistake it is, and the sentence; of one in the code, the terminal says where."""
        error = self.server.player.explain(error)
        if hasattr(error, "exit_status"):
            return HTTPStatus.BAD_REQUEST, str(error)
        traceback.print_exception(error)
        sentence = f"{type(error).__name__}: {error}; the terminal says where"
        return HTTPStatus.INTERNAL_SERVER_ERROR, sentence

    def is_welcome(self) -> bool:
        """Whether this comes from the playground's own page, or from no page at all."""
        host, origin = self.headers.get("Host", ""), self.headers.get("Origin")
        try:
            named = urlsplit(f"//{host}").hostname
        except ValueError:
            named = "?"
        if (not named or self.server.knows(named)) and origin in (None, f"http://{host}"):
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
        except GONE:
            raise
        except Exception as error:
            _, sentence = self.blame(error)
            self.wfile.write(json.dumps({"error": sentence}).encode() + b"\n")

    def begin(self, kind: str, status: HTTPStatus) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the terminal stays free for what goes wrong."""
