# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a snapshot what is declared: get what is missing, compare every byte, publish in one rename.

All of it with the rights of the owner. Files are worked on beside the snapshot under the name of their hash, so
that what was complete when a run was killed is complete for the next one, whatever it is called there.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import stat
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.command import run_command
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import one_line
from ansible_collections.nusy.dgx_spark.plugins.module_utils._models import client, problems, store, work
from ansible_collections.nusy.dgx_spark.plugins.module_utils._models.model import LABEL, MIB, File, Model, Wish
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv import tree

RSYNC = "/usr/bin/rsync"
# What fetches ends with the run that has begun it, however that ends.
DIES_WITH_US = ("/usr/bin/setpriv", "--pdeathsig=KILL")
# With these rsync has gone through all files: what is short of one then is what the peer has.
WENT_THROUGH = (0, 23, 24)
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
# A source that is slower than this is broken; and what it takes to begin.
SLOWEST = MIB
START_SECONDS = 600.0
# Hashing is bound by the disk or a core; as many files side by side as there are sources of stalls.
HASHERS = 4
# The text of that program. Read now: who runs it may not be allowed to read the archive in which it comes to a node.
_SPEC: Any = client.__spec__
CLIENT = str(_SPEC.loader.get_source(client.__name__))


def seconds_for(size: int) -> float:
    return START_SECONDS + size / SLOWEST


@dataclass
class Fetch:
    """One run for one snapshot. ``passed``: sources that did not have everything, and why."""

    wish: Wish
    model: Model
    home: str
    passed: dict[str, str] = field(default_factory=dict)
    came: dict[str, int] = field(default_factory=dict)
    lock: int = -1

    @property
    def folder(self) -> str:
        return self.wish.folder(self.model)

    @property
    def work(self) -> str:
        return self.wish.work(self.model)

    def run(self) -> None:
        """Raises NodeError, OSError, Unreadable."""
        with work.alone(self.work) as self.lock:
            found = store.inspect(self.folder, self.model, os.geteuid(), everything=self.wish.everything)
            if found.state not in ("absent", "there"):
                raise NotADirectoryError(
                    errno.ENOTDIR, f"{found.state} is there since this run has looked", self.folder
                )
            missing = [file for file in self.model.files if file.path in found.wrong]
            if missing:
                self._take_back()
                self._obtain(missing, found)
            self._publish(missing, found, new=found.state == "absent")

    # --- getting ---

    def _obtain(self, missing: list[File], found: store.Snapshot) -> None:
        wanted = {file.sha256: file for file in missing}
        begun = [file for file in wanted.values() if self._complete(file)]
        self._checked(begun, "an earlier run", keep=True)
        self._locally(self._left(wanted), found)
        for peer in self.wish.peers:
            left = self._left(wanted)
            if left:
                self._from_peer(peer, left)
        left = self._left(wanted)
        if not left:
            return
        if self.wish.offline:
            raise problems.offline(self.model, [file.path for file in left], self.passed)
        self._from_hub(left)

    def _left(self, wanted: Mapping[str, File]) -> list[File]:
        return [file for file in wanted.values() if not self._complete(file)]

    def _complete(self, file: File) -> bool:
        return _size(self._place(file)) == file.size

    def _place(self, file: File) -> str:
        return f"{self.work}/{file.sha256}"

    def _checked(self, files: Iterable[File], source: str, *, keep: bool = False) -> list[File]:
        """Those whose bytes are the declared ones; the others are removed."""
        files = [file for file in files if self._complete(file)]
        with ThreadPoolExecutor(HASHERS) as pool:
            hashes = list(pool.map(lambda file: tree.sha256(self._place(file)), files))
        good = [file for file, digest in zip(files, hashes, strict=True) if digest == file.sha256]
        for file in files:
            if file not in good:
                os.unlink(self._place(file))
        if good and not keep:
            self.came[source] = self.came.get(source, 0) + len(good)
        return good

    def _locally(self, wanted: list[File], found: store.Snapshot) -> None:
        """The same bytes in another snapshot of this node, or in this one with another owner."""
        there: dict[str, str] = {}
        for folder, label in store.labels(self.wish.root):
            for path, known in label["files"].items():
                if folder != self.folder or found.wrong.get(path, "").startswith("belongs to"):
                    there.setdefault(str(known.get("sha256", "")), f"{folder}/{path}")
        for file in wanted:
            source = there.get(file.sha256, "")
            try:
                if source:
                    _copy(source, self._place(file), file.size)
            except OSError as error:
                if error.filename == self._place(file):
                    raise
                self.passed[os.path.dirname(source)] = str(error.strerror)
        self._checked(wanted, "this node")

    def _from_peer(self, peer: str, wanted: list[File]) -> None:
        """A peer's published snapshot. What it lacks, or has otherwise, comes from the next source.

        Appended to what an earlier run had of a file: whether the whole is right, its hash tells afterwards.
        """
        place = f"{self.work}/{work.PEER}"
        argv = [
            *DIES_WITH_US, RSYNC, "--files-from=-", "--append", "--chmod=F600,D700", "--timeout=120",
            f"--max-size={max(1, *(file.size for file in wanted))}", "--rsh=ssh -o BatchMode=yes -o ConnectTimeout=10",
            f"{peer}/{self.model.id}/", f"{place}/",
        ]  # fmt: skip
        os.makedirs(place, mode=0o700, exist_ok=True)
        for file in wanted:
            # To a file that is longer than its own rsync appends nothing.
            if _size(f"{place}/{file.path}") > file.size:
                os.unlink(f"{place}/{file.path}")
        # A name that begins with # or ; would be a remark to rsync.
        names = "".join(f"./{file.path}\n" for file in wanted)
        limit = seconds_for(sum(file.size for file in wanted))
        done = run_command(
            argv, timeout=limit, env={"HOME": self.home}, stdin=names, changes=True, inherited=(self.lock,)
        )
        came = []
        for file in wanted:
            if _size(f"{place}/{file.path}") == file.size:
                os.replace(f"{place}/{file.path}", self._place(file))
                came.append(file)
            elif done.rc in WENT_THROUGH:
                # Another peer would go on with what is none of its bytes.
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    os.unlink(f"{place}/{file.path}")
        good = self._checked(came, peer)
        if "No space left on device" in done.err or "Disk quota exceeded" in done.err:
            raise problems.disk_full(f"{self.model.id} copied from {peer}", self.folder)
        if len(good) < len(wanted):
            why = f"rsync {done.ending}: {done.said(1)}" if not done.ok else "other bytes than declared"
            self.passed[peer] = one_line(why, 200)

    def _from_hub(self, wanted: list[File]) -> None:
        model, wish = self.model, self.wish
        job = {
            "repository": model.repository,
            "revision": model.revision,
            "endpoint": wish.endpoint,
            "token": wish.token if model.gated else "",
            "proxy": wish.proxy,
            "no_proxy": wish.no_proxy,
            "folder": self.work,
            "delays": wish.delays,
            "files": [{"path": f.path, "size": f.size, "sha256": f.sha256} for f in wanted],
        }
        # Nothing of the account's own settings, caches and tokens; and none of the library's asides.
        env = {
            "HOME": self.work,
            "HF_HOME": f"{self.work}/{work.HOME}",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        }
        argv = [*DIES_WITH_US, wish.python, "-I", "-B", "-c", CLIENT]
        limit = seconds_for(sum(file.size for file in wanted))
        done = run_command(argv, timeout=limit, env=env, stdin=json.dumps(job), changes=True, inherited=(self.lock,))
        failed = [json.loads(line) for line in done.out.splitlines() if line.startswith('{"path"')]
        good = self._checked(wanted, wish.endpoint)
        if not done.ok:
            raise problems.client(model, wish.python, done)
        if failed:
            raise problems.hub(model, wish, failed, os.statvfs(self.work))
        other = [file.path for file in wanted if file not in good]
        if other:
            raise problems.other_bytes(model, wish.endpoint, other)

    # --- publishing ---

    @property
    def _tree(self) -> str:
        return f"{self.work}/{work.TREE}"

    def _take_back(self) -> None:
        """What a killed run had assembled already."""
        for file in self.model.files:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                os.replace(f"{self._tree}/{file.path}", self._place(file))

    def _publish(self, missing: list[File], found: store.Snapshot, *, new: bool) -> None:
        folder = self._tree if new else self.folder
        if new:
            os.makedirs(folder, mode=0o755, exist_ok=True)
        else:
            _modes(folder, 0o755, ())
        places = {file.sha256: 0 for file in missing}
        for file in missing:
            places[file.sha256] += 1
        for file in missing:
            os.makedirs(os.path.dirname(f"{folder}/{file.path}"), mode=0o755, exist_ok=True)
            places[file.sha256] -= 1
            if places[file.sha256]:  # the same bytes under another name
                shutil.copyfile(self._place(file), f"{self._place(file)}.copy")
                os.replace(f"{self._place(file)}.copy", f"{folder}/{file.path}")
            else:
                os.replace(self._place(file), f"{folder}/{file.path}")
        for file in self.model.files:
            os.chmod(f"{folder}/{file.path}", store.FILE_MODE)
        # What the label vouches for is on the disk before the label is.
        os.sync()
        self.label(folder, found)
        if new:
            os.rename(folder, self.folder)
        _modes(self.folder, store.FOLDER_MODE, self.model.files)
        work.remove(self.work)

    def label(self, folder: str, found: store.Snapshot) -> None:
        """Written last, whole or not at all. The folder must be open."""
        files = {
            file.path: {"sha256": file.sha256, "stamp": store.stamp(os.lstat(f"{folder}/{file.path}"))}
            for file in self.model.files
        }
        came = self.came or (found.label or {}).get("came", {})
        passed = self.passed or ((found.label or {}).get("passed", {}) if not self.came else {})
        text = json.dumps({**self.model.label(), "came": came, "passed": passed, "files": files}, indent=1) + "\n"
        beside = f"{folder}/{store.LABEL_TO_BE}"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o444)
        with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
            handle.write(text)
            handle.flush()
            os.fchmod(descriptor, store.FILE_MODE)
            os.fsync(descriptor)
        os.replace(beside, f"{folder}/{LABEL}")


def refresh(wish: Wish, model: Model) -> None:
    """Remember that bytes were compared whose stamps had moved: the next look does not read them again."""
    one = Fetch(wish, model, "/")
    found = store.inspect(one.folder, model, os.geteuid())
    if found.whole and found.verified:
        os.chmod(one.folder, 0o755)
        try:
            one.label(one.folder, found)
        finally:
            os.chmod(one.folder, store.FOLDER_MODE)


def remove_extra(folder: str, path: str) -> None:
    """One file, link or empty folder that nobody declares, in a snapshot of ours."""
    place = f"{folder}/{path}"
    above = os.path.dirname(place)
    os.chmod(above, 0o755)
    try:
        if os.path.isdir(place) and not os.path.islink(place):
            os.chmod(place, 0o755)
            os.rmdir(place)
        else:
            os.unlink(place)
    finally:
        os.chmod(above, store.FOLDER_MODE)


def _size(path: str) -> int:
    """Of a file; -1 where none is."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        found = os.lstat(path)
        return found.st_size if stat.S_ISREG(found.st_mode) else -1
    return -1


def _copy(source: str, target: str, size: int) -> None:
    """If it is a file of that size. An error of ``target`` has its name."""
    descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb", buffering=0) as reading:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size != size:
            return
        try:
            with open(target, "wb", buffering=0) as writing:
                shutil.copyfileobj(reading, writing, MIB)
        except OSError as error:
            if error.errno in NO_ROOM or error.filename:
                error.filename = target
            raise


def _modes(folder: str, mode: int, files: Iterable[File]) -> None:
    """Of the folder and all below it; never through a link."""
    for file in files:
        os.chmod(f"{folder}/{file.path}", store.FILE_MODE)
    for place, _folders, _files in os.walk(folder):
        os.chmod(place, mode)


def failed(step: str, error: Any) -> NodeError:
    if getattr(error, "errno", None) in NO_ROOM:
        return problems.disk_full(step, str(error.filename or ""))
    text = getattr(error, "strerror", None) or str(error)
    return NodeError(
        "models.step_failed",
        wanted=step,
        found=f"{text} ({getattr(error, 'filename', '') or ''})",
        why="what came after it was not tried; what was published is untouched, and what came is kept",
        fix="mend the cause and run the play again: it goes on where this run stopped",
    )
