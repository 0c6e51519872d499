"""A stand-in for the hub, and programs that speak to it in a process of their own."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CLOSED = "http://127.0.0.1:9"
GATED = b"gated"  # for a data set's files, where its owner asks for consent first


class Hub(http.server.BaseHTTPRequestHandler):
    """Speaks as much of the hub as is asked."""

    # The files of each model, by its name, and of each data set, by datasets/ and its name.
    repositories: ClassVar[Mapping[str, Mapping[str, bytes] | bytes]] = {}

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(self.path.split("?")[0])
        name = next((name for name in self.repositories if f"/{name}" in path), "")
        files = self.repositories.get(name)
        if path == "/":
            self.answer(b"")
        elif files is None:
            self.refuse(404, "RepoNotFound")
        elif isinstance(files, bytes):
            self.refuse(403, "GatedRepo")
        elif path.startswith("/api/"):
            self.answer(json.dumps(about(name, files, tree="/tree/" in path)).encode())
        else:
            file = path.removeprefix(f"/{name}/resolve/").partition("/")[2]
            if file in files:
                self.answer(files[file])
            else:
                self.refuse(404, "EntryNotFound")

    def refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


@contextmanager
def serving(
    datasets: Mapping[str, Mapping[str, bytes] | bytes],
    models: Mapping[str, Mapping[str, bytes]] | None = None,
) -> Iterator[str]:
    """The address of a server of data sets and models, each its files."""
    named = {f"datasets/{name}": files for name, files in datasets.items()}
    handler = type("WithData", (Hub,), {"repositories": {**named, **(models or {})}})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def about(name: str, files: Mapping[str, bytes], *, tree: bool) -> Any:
    """What the hub's API says of a model or a data set, or of its files."""
    if tree:
        return [
            {"type": "file", "path": path, "size": len(content), "oid": "0" * 40}
            for path, content in files.items()
        ]
    siblings = [{"rfilename": path} for path in files]
    known = {"id": name.removeprefix("datasets/"), "sha": COMMIT, "siblings": siblings}
    return {**known, "tags": [], "private": False}


def run_with_hub(
    program: str, endpoint: str, home: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own, since the hub's address is read at import."""
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            "TELLTALE_HOME": str(home / "telltale"),
            **environment,
        },
        check=False,
        timeout=200,
    )
