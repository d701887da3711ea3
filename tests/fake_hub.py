"""A hub on this machine, and how the hub's client is pointed at it."""

from __future__ import annotations

import http.server

import pytest
from huggingface_hub import constants

from tiny import REPOSITORY


def point_at(monkeypatch: pytest.MonkeyPatch, endpoint: str, seconds: float = 60) -> None:
    """Let the client ask this server, which has so many seconds to answer, as this machine may be busy."""
    monkeypatch.setattr("nctransfer.backbones.hub.HUB_SECONDS", seconds)
    for name in ("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"):
        monkeypatch.setattr(constants, name, seconds)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


class FakeHub(http.server.ThreadingHTTPServer):
    """A hub on this machine that serves some files of one repository."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), FakeHubHandler)
        self.files: dict[str, bytes] = {}
        self.status = 404  # of every other file
        self.cut = False  # close the connection in the middle of a file
        self.asked: list[str] = []


class FakeHubHandler(http.server.BaseHTTPRequestHandler):
    server: FakeHub

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        content = self.server.files.get(self.path.removeprefix(f"/{REPOSITORY}/resolve/main/"))
        if self.path == "/":
            content = b"hub"
        self.send_response(200 if content is not None else self.server.status)
        if content is None and self.server.status == 404:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("ETag", '"0123456789"')
        self.send_header("X-Repo-Commit", "abc123")
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        if body and content:
            self.wfile.write(content[: len(content) // 2] if self.server.cut else content)

    def log_message(self, *_: object) -> None:
        pass
