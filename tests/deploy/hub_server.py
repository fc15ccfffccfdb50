"""A server on this machine that answers as the Hugging Face hub does, as far as downloads and commits need."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import urlparse

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Repositories by OWNER/NAME, each with its files by name."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.paths: list[str] = []  # that were asked for
        self.address = ""

    @contextmanager
    def served(self) -> Iterator[Hub]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_HEAD(self) -> None:
        self._file(with_content=False)

    def do_GET(self) -> None:
        self._file(with_content=True)

    def do_POST(self) -> None:
        parts = urlparse(self.path).path.strip("/").split("/")
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if parts == ["api", "validate-yaml"]:
            self._answer(200, {"errors": [], "warnings": []})
        elif self.headers.get("Authorization") != "Bearer hf_test":
            self._answer(401, {"error": "a token is needed"})
        elif parts == ["api", "repos", "create"]:
            told = json.loads(body)
            name = "/".join(filter(None, [told.get("organization"), told["name"]]))
            self.hub.repositories.setdefault(name, {})
            self._answer(200, {"url": f"{self.hub.address}/{name}", "name": name})
        elif parts[:2] == ["api", "models"] and parts[4] == "preupload":
            files = [
                {"path": each["path"], "uploadMode": "regular", "shouldIgnore": False}
                for each in json.loads(body)["files"]
            ]
            self._answer(200, {"files": files})
        elif parts[:2] == ["api", "models"] and parts[4] == "commit":
            for line in body.splitlines():
                each = json.loads(line)
                if each["key"] == "file":
                    value = each["value"]
                    self.hub.repositories["/".join(parts[2:4])][value["path"]] = base64.b64decode(value["content"])
            self._answer(
                200, {"commitUrl": f"{self.hub.address}/{'/'.join(parts[2:4])}/commit/{COMMIT}", "commitOid": COMMIT}
            )
        else:
            self._answer(404, {"error": self.path})

    def _file(self, with_content: bool) -> None:
        self.hub.paths.append(self.path)
        parts = urlparse(self.path).path.strip("/").split("/")
        files = self.hub.repositories.get("/".join(parts[:2]))
        if files is None or len(parts) < 5 or parts[2] != "resolve":
            self._answer(404, {"error": "Repository not found"}, "RepoNotFound")
        elif parts[3] not in ("main", COMMIT):
            self._answer(404, {"error": "Invalid rev id"}, "RevisionNotFound")
        elif (content := files.get("/".join(parts[4:]))) is None:
            self._answer(404, {"error": "Entry not found"}, "EntryNotFound")
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            self.wfile.write(content if with_content else b"")

    def _answer(self, status: int, content: dict[str, Any], code: str = "") -> None:
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        if code:
            self.send_header("X-Error-Code", code)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""
