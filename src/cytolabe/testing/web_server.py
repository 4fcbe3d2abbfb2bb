"""A web server on this machine that answers as CELLxGENE Discover does, and misbehaves on request.

`faults` holds a list of words per path; each request takes the next one, and an empty list means good behavior:
`truncated:<n>` closes after n bytes, `unavailable` and `busy:<seconds>` (503 and 429), `missing` (404), `gone` (410), `loop` (a
redirect in a circle), `away` (a redirect to plain http elsewhere), `page` (an error page with status 200),
`slow:<bytes>:<seconds>` (a pause after each piece), `changed` (other bytes), `weak` (a weak entity tag), `no_ranges`,
`wrong_range`.
"""

import hashlib
import json
import re
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["WebServer"]


class WebServer:
    """Files and JSON documents by path, the faults to show, and a log of (path, Range header)."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.documents: dict[str, object] = {}
        self.faults: dict[str, list[str]] = defaultdict(list)
        self.requests: list[tuple[str, str]] = []
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), type("_Bound", (_Handler,), {"site": self}))
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """Where it listens, without a slash at the end."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def ranges_of(self, path: str) -> list[str]:
        """Return the Range header of every request for a path, empty where there was none."""
        return [asked for where, asked in self.requests if where == path]

    def close(self) -> None:
        """Stop listening."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(5)


class _Handler(BaseHTTPRequestHandler):
    site: WebServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the library's
        """Say nothing: the log is `requests`."""

    def handle(self) -> None:
        """Take it as it is that a client hangs up in the middle."""
        try:
            super().handle()
        except ConnectionError:
            self.close_connection = True

    def do_GET(self) -> None:
        """Answer, with the next fault of the path."""
        site, path = self.site, self.path
        site.requests.append((path, self.headers.get("Range", "")))
        fault, _, detail = (site.faults[path].pop(0) if site.faults[path] else "").partition(":")
        if fault == "loop":
            site.faults[path].insert(0, "loop")
        answers: dict[str, tuple[int, bytes, dict[str, str]]] = {
            "unavailable": (503, b"later", {}),
            "busy": (429, b"later", {"Retry-After": detail}),
            "gone": (410, b"{}", {}),
            "missing": (404, b'{"detail": "not found"}', {}),
            "loop": (302, b"", {"Location": path}),
            "away": (302, b"", {"Location": "http://example.org/file"}),
            "page": (200, b"<!DOCTYPE html><p>Sign in", {"Content-Type": "text/html"}),
        }
        if fault in answers:
            self._answer(*answers[fault])
        elif path in site.documents:
            self._answer(200, json.dumps(site.documents[path]).encode(), {"Content-Type": "application/json"})
        elif path in site.files:
            content = site.files[path]
            self._answer_file(bytes(reversed(content)) if fault == "changed" else content, fault, detail)
        else:
            self._answer(*answers["missing"])

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.close_connection = True
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), "Connection": "close", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _answer_file(self, content: bytes, fault: str, detail: str) -> None:
        tag = f'"{hashlib.sha256(content).hexdigest()}"'
        tag = f"W/{tag}" if fault == "weak" else tag
        span = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        wanted = span is not None and fault != "no_ranges" and self.headers.get("If-Range", tag) == tag
        start = int(span[1]) if span is not None and wanted else 0
        if start >= len(content) > 0:
            self._answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
            return
        self.close_connection = True
        self.send_response(206 if start else 200)
        headers = {"Content-Type": "application/octet-stream", "ETag": tag, "Connection": "close"}
        if start:
            said = start + 1 if fault == "wrong_range" else start
            headers["Content-Range"] = f"bytes {said}-{len(content) - 1}/{len(content)}"
        for name, value in {"Content-Length": str(len(content) - start), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self._send(content[start:], fault, detail)

    def _send(self, content: bytes, fault: str, detail: str) -> None:
        if fault == "truncated":
            content = content[: int(detail)]
        size, pause = len(content), 0.0
        if fault == "slow":
            words = detail.split(":")
            size, pause = int(words[0]), float(words[1])
        for at in range(0, len(content), max(1, size)):
            self.wfile.write(content[at : at + size])
            self.wfile.flush()
            time.sleep(pause)
