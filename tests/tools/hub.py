# SPDX-License-Identifier: GPL-3.0-or-later
"""A hub of models on loopback, as much of one as clients of huggingface_hub ask for. For tests and the demo.

usage: hub.py FOLDER [--port N] [--gated OWNER/NAME] [--token TOKEN] [--manifest]

FOLDER/<owner>/<name>/… are repositories of one commit each, whose id follows from their files. Prints the URL for
HF_ENDPOINT and serves until it is killed; --manifest prints instead what ``models_manifest`` would have for each.

Files of more than 64 KiB count as large: their entity tag is their SHA-256 and they come by a redirect, as from
the real hub. Ranges are honoured. In tests ``faults`` makes it fail in the ways in which hubs do.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

LARGE = 64 << 10
PIECE = 64 << 10


def sha256(path: Path) -> str:
    with path.open("rb") as handle:
        digest = hashlib.sha256()
        while piece := handle.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


@dataclass
class Repository:
    name: str
    files: dict[str, Path]
    hashes: dict[str, str]
    commit: str

    @classmethod
    def of(cls, root: Path, folder: Path) -> Repository:
        files = {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()}
        hashes = {name: sha256(path) for name, path in files.items()}
        commit = hashlib.sha1(json.dumps(hashes).encode(), usedforsecurity=False).hexdigest()
        return cls(folder.relative_to(root).as_posix(), files, hashes, commit)

    def manifest(self, name: str) -> dict[str, Any]:
        """The entry of ``models_manifest`` for it."""
        files = [
            {"path": path, "size": self.files[path].stat().st_size, "sha256": digest}
            for path, digest in self.hashes.items()
        ]
        return {"name": name, "repository": self.name, "revision": self.commit, "files": files, "licence": "apache-2.0"}


@dataclass
class Fault:
    """The next ``times`` answers for a file of this name are so.

    status: instead of the file. cut: the connection ends after so many bytes. content: other bytes of the same size.
    pause: seconds after each piece.
    """

    status: int = 0
    cut: int = 0
    content: bool = False
    pause: float = 0.0
    times: int = 1


@dataclass
class Hub:
    """token: what gated repositories ask for. asked: (method, path, range, bytes sent), in order."""

    root: Path
    port: int = 0
    gated: frozenset[str] = frozenset()
    token: str = ""
    faults: dict[str, Fault] = field(default_factory=dict)
    asked: list[tuple[str, str, str, int]] = field(default_factory=list)
    authorised: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        folders = sorted(p for p in self.root.glob("*/*") if p.is_dir())
        self.repositories = {r.name: r for r in (Repository.of(self.root, folder) for folder in folders)}
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), type("Handler", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Hub:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def serve(self) -> None:
        self._server.serve_forever()

    def sent(self, path: str) -> int:
        """Bytes of a file that went over the line, in all answers."""
        return sum(size for _method, asked, _range, size in self.asked if asked == path)

    def blob(self, digest: str) -> tuple[Repository, str] | None:
        found = ((r, path) for r in self.repositories.values() for path, known in r.hashes.items() if known == digest)
        return next(found, None)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(self.path.partition("?")[0]).lstrip("/")
        self.hub.authorised.append(self.headers.get("Authorization", ""))
        if path.startswith("blobs/"):
            found = self.hub.blob(path.removeprefix("blobs/"))
            return self._file(*found, large=False) if found else self._fail(404, "EntryNotFound")
        api = re.fullmatch(r"api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+)/?)?", path)
        file = re.fullmatch(r"([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if not (api or file):
            return self._fail(404, "")
        name, revision = (api.group(1), api.group(3)) if api else (file.group(1), file.group(2))  # type: ignore[union-attr]
        repository = self.hub.repositories.get(name)
        if repository is None:
            # The real hub does not tell strangers which names are taken.
            return self._fail(404 if self._known() else 401, "RepoNotFound")
        if name in self.hub.gated and not self._known():
            return self._fail(403 if self.headers.get("Authorization") else 401, "GatedRepo")
        if revision not in (None, "main", repository.commit):
            return self._fail(404, "RevisionNotFound")
        if api:
            return self._json(self._listed(repository) if api.group(2) == "tree" else self._described(repository))
        wanted = file.group(3)  # type: ignore[union-attr]
        if wanted not in repository.files:
            return self._fail(404, "EntryNotFound")
        self._file(repository, wanted, large=repository.files[wanted].stat().st_size > LARGE)

    def _known(self) -> bool:
        return bool(self.hub.token) and self.headers.get("Authorization") == f"Bearer {self.hub.token}"

    def _described(self, repository: Repository) -> object:
        return {
            "id": repository.name, "sha": repository.commit, "private": False, "gated": False, "tags": [],
            "siblings": [{"rfilename": path} for path in repository.files],
        }  # fmt: skip

    def _listed(self, repository: Repository) -> object:
        rows = []
        for path, digest in repository.hashes.items():
            size = repository.files[path].stat().st_size
            lfs = {"lfs": {"oid": digest, "size": size, "pointerSize": 130}} if size > LARGE else {}
            rows.append({"type": "file", "path": path, "size": size, "oid": digest[:40], **lfs})
        return rows

    def _json(self, value: object) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self._end(len(data))
        if self.command == "GET":
            self.wfile.write(data)

    def _fail(self, status: int, code: str) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
            self.send_header("X-Error-Message", f"{code} here")
        self._end(0)

    def _end(self, length: int) -> None:
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def _file(self, repository: Repository, path: str, *, large: bool) -> None:
        size, digest = repository.files[path].stat().st_size, repository.hashes[path]
        tag = digest if size > LARGE else digest[:40]
        if large:
            self.send_response(302)
            self.send_header("Location", f"{self.hub.url}/blobs/{digest}")
            self.send_header("X-Linked-Etag", f'"{tag}"')
            self.send_header("X-Linked-Size", str(size))
            self.send_header("X-Repo-Commit", repository.commit)
            return self._end(0)
        fault = self._fault(path)
        if fault.status:
            self.hub.asked.append((self.command, path, self.headers.get("Range", ""), 0))
            return self._fail(fault.status, "")
        begin = self._begin(size)
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{size - 1}/{size}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{tag}"')
        self.send_header("X-Repo-Commit", repository.commit)
        self._end(size - begin)
        sent = self._send(repository.files[path], begin, fault) if self.command == "GET" else 0
        self.hub.asked.append((self.command, path, self.headers.get("Range", ""), sent))
        if sent < size - begin and self.command == "GET":
            self.close_connection = True

    def _fault(self, path: str) -> Fault:
        fault = self.hub.faults.get(path)
        if self.command != "GET" or fault is None or fault.times <= 0:
            return Fault()
        fault.times -= 1
        return fault

    def _begin(self, size: int) -> int:
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        return min(int(found.group(1)), size) if found else 0

    def _send(self, path: Path, begin: int, fault: Fault) -> int:
        sent, left = 0, fault.cut or path.stat().st_size
        with path.open("rb") as handle:
            handle.seek(begin)
            while left > 0 and (piece := handle.read(min(PIECE, left))):
                try:
                    self.wfile.write(bytes(b ^ 1 for b in piece) if fault.content else piece)
                except OSError:  # the client is gone
                    break
                sent, left = sent + len(piece), left - len(piece)
                time.sleep(fault.pause)
        return sent

    def log_message(self, *_arguments: object) -> None:
        """Tests look at ``asked``."""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--gated", action="append", default=[])
    parser.add_argument("--token", default="")
    parser.add_argument("--manifest", action="store_true")
    given = parser.parse_args(arguments)
    hub = Hub(given.folder, given.port, frozenset(given.gated), given.token)
    if given.manifest:
        print(json.dumps([r.manifest(name.partition("/")[2]) for name, r in hub.repositories.items()], indent=1))
        return 0
    print(hub.url, flush=True)
    hub.serve()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
