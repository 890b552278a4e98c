"""A hub on this machine with one data set in a folder, which speaks the real one's language as far as needed.

`HF_ENDPOINT` of a process leads there. What it is asked for is kept, and it can be told to misbehave.
"""

import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.unit.training.made_corpus import write_files

NAME, GATED, AWAY = "made/corpus", "made/gated", "made/away"
"""The data set; the same, of which one may see the page alone; one at which the hub breaks off."""
COMMIT = "a" * 40


class Hub:
    """The data set's files, and what the server was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[tuple[str, str, str]] = []
        """Method, path and range of every request."""
        self.hold: tuple[str, int] | None = None
        """A file, and the how many-th reading of it is left waiting."""
        self.reached, self.release = threading.Event(), threading.Event()

    def files(self) -> dict[str, Path]:
        return {p.relative_to(self.folder).as_posix(): p for p in self.folder.rglob("*") if p.is_file()}

    def ranges(self, name: str) -> list[tuple[int, int]]:
        """The ranges of bytes that were read of a file."""
        found = [bytes_ for _, path, bytes_ in self.asked if path.endswith(f"/{name}") and bytes_]
        return [(int(a), int(b)) for a, b in (r.removeprefix("bytes=").split("-") for r in found)]


def lay_out(folder: Path, files: int = 3) -> Path:
    """A data set with two configurations: `prose`, of Parquet files, and `lines`, of none."""
    write_files(folder / "prose", files=files)
    (folder / "lines").mkdir()
    (folder / "lines" / "train.jsonl").write_text('{"text": "a"}\n')
    configs = [
        {"config_name": name, "data_files": [{"split": "train", "path": f"{name}/train*"}]}
        for name in ("prose", "lines")
    ]
    (folder / "README.md").write_text(f"---\n{json.dumps({'configs': configs})}\n---\n")
    return folder


def listed(name: str, path: Path) -> dict[str, Any]:
    """As the hub's tree lists a file that is stored apart from git."""
    content = path.read_bytes()
    large = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
    facts = {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
    return facts | ({"lfs": large} if name.endswith(".parquet") else {})


@contextmanager
def serving(folder: Path) -> Iterator[tuple[Hub, dict[str, str]]]:
    """The hub, and the environment of a process that is to find it; its caches lie beside the folder."""
    hub = Hub(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            bytes_ = self.headers.get("Range", "") if self.command == "GET" else ""
            hub.asked.append((self.command, path, bytes_))
            if AWAY in path:
                self.close_connection = True
                return
            api = re.fullmatch(r"/api/datasets/([\w.-]+/[\w.-]+)/(revision|tree)/(\w+)(?:/(.*))?", path)
            file = re.fullmatch(r"/datasets/([\w.-]+/[\w.-]+)/resolve/(\w+)/(.*)", path)
            asked = api or file
            if asked is None or asked[1] not in (NAME, GATED):
                self.error(404, "RepoNotFound")
            elif (api[3] if api else asked[2]) != COMMIT:
                self.error(404, "RevisionNotFound")
            elif asked[1] == GATED and file:
                self.error(403, "GatedRepo")
            elif file:
                self.file(file[3], bytes_)
            elif api is not None and api[2] == "revision":
                self.answer(200, json.dumps({"id": NAME, "sha": COMMIT, "siblings": []}).encode())
            elif api is not None:
                self.answer(200, json.dumps(self.tree(api[4] or "")).encode())

        def tree(self, under: str) -> list[dict[str, Any]]:
            inside = {n: p for n, p in hub.files().items() if not under or n.startswith(f"{under}/")}
            rest = {n.removeprefix(f"{under}/") if under else n: n for n in inside}
            flat = "recursive=true" in self.path.lower()
            folders = {r.split("/")[0] for r in rest if "/" in r}
            told = [listed(n, inside[n]) for r, n in rest.items() if flat or "/" not in r]
            where = f"{under}/" if under else ""
            return told + [{"type": "directory", "path": where + f, "oid": "0" * 40} for f in folders]

        def file(self, name: str, bytes_: str) -> None:
            path = hub.files().get(name)
            if path is None:
                return self.error(404, "EntryNotFound")
            content = path.read_bytes()
            tag = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
            if not bytes_:
                return self.answer(200, content, tag)
            if hub.hold == (name, len(hub.ranges(name))):
                hub.reached.set()
                hub.release.wait()
            first, last = map(int, bytes_.removeprefix("bytes=").split("-"))
            return self.answer(206, content[first : last + 1], tag)

        def error(self, code: int, why: str) -> None:
            self.answer(code, json.dumps({"error": why}).encode(), {"X-Error-Code": why})

        def answer(self, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(code)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        own = {k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"}
        address = f"http://127.0.0.1:{server.server_address[1]}"
        yield hub, own | {"HF_ENDPOINT": address, "HF_HOME": f"{folder}-cache", "OMP_NUM_THREADS": "1"}
    finally:
        hub.release.set()
        server.shutdown()
        server.server_close()
        thread.join()
