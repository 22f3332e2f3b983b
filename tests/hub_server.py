"""A server on loopback that serves datasets the way the Hugging Face hub does, and misbehaves on
request: what huggingface_hub asks for a listing, and plain downloads with ranges."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

REVISION = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """`files`: {repository: {name: bytes}}. `log` holds (method, path, Range) of each request.

    Misbehaviour: `cuts` {name: [bytes sent before the connection is cut, a request each]},
    `refuses_ranges`, `lies` {name: bytes sent instead}, `statuses` {name: [status, ...]}.
    """

    daemon_threads = True

    def __init__(self, files: dict[str, dict[str, bytes]]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = files
        self.log: list[tuple[str, str, str | None]] = []
        self.cuts: dict[str, list[int]] = {}
        self.lies: dict[str, bytes] = {}
        self.statuses: dict[str, list[int]] = {}
        self.refuses_ranges = False
        self.page = 1000  # entries of a listing at a time
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is no news."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def downloads(self) -> list[tuple[str, str | None]]:
        """The names of the files asked for, in order, each with its Range."""
        return [(p.rpartition("/")[2], r) for _, p, r in self.log if "/blob/" in p]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.log.append((self.command, path, self.headers.get("Range")))
        for repository, files in self.server.files.items():
            api, resolve = f"/api/datasets/{repository}", f"/datasets/{repository}/resolve/"
            if path == api:
                return self.reply(json.dumps({"id": repository, "sha": REVISION}).encode())
            if path.startswith(f"{api}/tree/{REVISION}"):
                return self.tree(files, path.removeprefix(f"{api}/tree/{REVISION}").strip("/"))
            if path.startswith(resolve):  # large files lie elsewhere
                name = path.removeprefix(resolve).removeprefix(f"{REVISION}/")
                return self.redirect(f"/blob/{repository}/{name}", files[name])
            if path.startswith(f"/blob/{repository}/"):
                name = path.removeprefix(f"/blob/{repository}/")
                return self.blob(name.rpartition("/")[2], files[name])
        self.reply(b"not here", 404)

    do_HEAD = do_GET

    def tree(self, files: dict[str, bytes], folder: str) -> None:
        """A listing of one folder, in pages."""
        inside = {n: d for n, d in sorted(files.items()) if n.rpartition("/")[0] == folder}
        entries = [
            {
                "type": "file",
                "oid": hashlib.sha1(data).hexdigest(),
                "size": len(data),
                "path": name,
                "lfs": {
                    "oid": hashlib.sha256(data).hexdigest(),
                    "size": len(data),
                    "pointerSize": 134,
                },
            }
            for name, data in inside.items()
        ]
        entries.append({"type": "directory", "oid": "0" * 40, "size": 0, "path": "more"})
        start = int(parse_qs(urlsplit(self.path).query).get("cursor", ["0"])[0])
        stop = start + self.server.page
        link = f'<{self.server.url}{urlsplit(self.path).path}?cursor={stop}>; rel="next"'
        headers = {"Link": link} if stop < len(entries) else {}
        self.reply(json.dumps(entries[start:stop]).encode(), 200, headers)

    def redirect(self, place: str, data: bytes) -> None:
        digest = hashlib.sha256(data).hexdigest()
        headers = {"Location": self.server.url + place, "X-Repo-Commit": REVISION}
        headers |= {"X-Linked-Size": str(len(data)), "X-Linked-Etag": f'"{digest}"'}
        self.reply(b"", 302, headers)

    def blob(self, name: str, data: bytes) -> None:
        """The file itself, or the rest of it."""
        if self.server.statuses.get(name):
            return self.reply(b"", self.server.statuses[name].pop(0))
        data = self.server.lies.get(name, data)
        wish = self.headers.get("Range")
        if not wish or self.server.refuses_ranges:
            return self.reply(data, 200, cut=self.cut(name))
        start = int(wish.removeprefix("bytes=").rstrip("-"))
        if start >= len(data):
            return self.reply(b"", 416)
        headers = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
        self.reply(data[start:], 206, headers, self.cut(name))

    def cut(self, name: str) -> int | None:
        """How many bytes are sent before the connection is cut; None: all, and it is not."""
        left = self.server.cuts.get(name)
        return left.pop(0) if left else None

    def reply(
        self,
        data: bytes,
        status: int = 200,
        headers: dict[str, str] | None = None,
        cut: int | None = None,
    ) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data if cut is None else data[:cut])
        self.close_connection = self.close_connection or cut is not None
