# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at an environment: its place, generations and content, the interpreter, what uses it.

Nothing is written, no package tool is run and no network is needed.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import contextlib
import json
import os
import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core import rights
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError, Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import one_line
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import Unknown
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv import busy, manifest, tree, use
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv.installer import Tool
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv.model import (
    GENERATION,
    WORK,
    Declaration,
    Difference,
    Generation,
    Interpreter,
    is_a,
)

# What the interpreter is asked takes a moment. Longer than the command may take: that one is to be stopped itself.
ASK_SECONDS = 30.0
MARGIN_SECONDS = 15.0

_ASK = """
import json, platform, sys
try:
    import ensurepip
    pip = ensurepip.version()
except Exception:
    pip = ""
print(json.dumps([sys.implementation.name, "%d.%d" % sys.version_info[:2], platform.machine(), pip]))
"""


@dataclass(frozen=True)
class Place:
    """missing: directories to be made, outermost first. foreign: why ``<root>/<name>`` is not ours.

    open_mode: its mode, when others may write there. untrusted: who could lead the path to it
    elsewhere, when that is neither root nor the owner. unwritable: why the owner could not build
    there. unreadable: why nothing of it can be told.
    """

    missing: tuple[str, ...] = ()
    untrusted: str = ""
    unwritable: str = ""
    unreadable: str = ""
    not_a_directory: str = ""
    foreign: str = ""
    open_mode: str = ""
    free_mib: int | None = None


@dataclass(frozen=True)
class Link:
    """kind: absent, link, or what else is in its place. generation: where it leads, if to one of ours."""

    kind: str = "absent"
    target: str = ""
    generation: str = ""


@dataclass(frozen=True)
class Content:
    """What is judged, whatever it is. ``foreign_files``: of distributions nobody declared."""

    packages: Mapping[str, str] = field(default_factory=dict)
    foreign_files: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Seen:
    """uid: of the declared owner, None when there is no such user (yet). left_mib: what runs that were
    cut off have left, and nobody uses.

    shown: the generation whose content is judged; empty when it is none of ours.
    """

    interpreter: Interpreter | None
    interpreter_problem: str
    machine: str
    uid: int | None
    place: Place
    current: Link
    previous: Link
    generations: Mapping[str, Generation]
    works: tuple[str, ...]
    shown: str
    content: Content | Unknown
    differences: Mapping[str, Difference | Unknown]
    used: use.Used
    busy: Mapping[str, str] | Unknown
    tool: Tool | None
    wheelhouse: bool
    left_mib: int = 0
    cuda: Mapping[str, object] = field(default_factory=dict)


def observe(wanted: Declaration, reader: Reader) -> Seen:
    account = reader.user(wanted.owner)
    uid = account.pw_uid if account else None
    interpreter, problem = _interpreter(wanted, uid, reader)
    machine = interpreter.machine if interpreter else os.uname().machine
    generations: dict[str, Generation] = {}
    works: tuple[str, ...] = ()
    try:
        place = _place(wanted, uid, reader)
        if not place.foreign:
            generations, works = _generations(wanted, reader)
    except Unreadable as error:
        place = Place(unreadable=str(error))
    current, previous = _link(wanted.link, wanted.home, reader), _link(wanted.previous, wanted.home, reader)
    digest = wanted.digest(machine)
    judged = {current.generation, previous.generation, *(n for n, g in generations.items() if g.digest == digest)}
    differences: dict[str, Difference | Unknown] = {}
    for name in sorted(judged):
        generation = generations.get(name)
        if generation and (generation.manifest or generation.unreadable):
            differences[name] = _difference(f"{wanted.home}/{name}", generation)
    shown, root = _shown(wanted, current, generations, differences, digest)
    used = use.Used()
    if "vllm_venv/use" not in wanted.skipped:
        used = use.look(wanted, root, reader) if root else use.Used(use.expected(wanted))
    busy_with = _busy(wanted, [*generations, *works], shown if differences.get(shown) == Difference() else "")
    left = [*works, *(name for name, found in generations.items() if found.incomplete)]
    return Seen(
        interpreter,
        problem,
        machine,
        uid,
        place,
        current,
        previous,
        generations,
        works,
        shown,
        _content(root, generations.get(shown)),
        differences,
        used,
        busy_with,
        _tool(wanted, uid, interpreter, reader),
        not wanted.find_links or os.path.isdir(wanted.find_links),
        0
        if isinstance(busy_with, Unknown)
        else _mib(f"{wanted.home}/{name}" for name in left if name not in busy_with),
        use.cuda(root, reader) if wanted.cuda and root else {},
    )


def _interpreter(wanted: Declaration, uid: int | None, reader: Reader) -> tuple[Interpreter | None, str]:
    """What it is, and why it will not do (empty when it will)."""
    path = wanted.interpreter

    def ask() -> dict[str, object]:
        done = reader.run([path, "-I", "-S", "-B", "-c", _ASK], timeout=ASK_SECONDS)
        if done.rc is None:
            return {"problem": f"{path}: {done.problem}"}
        try:
            implementation, python, machine, pip = json.loads(done.out)
            return {"implementation": implementation, "python": python, "machine": machine, "pip": pip}
        except ValueError:
            return {"problem": f"{path} {done.ending} and does not answer as a Python: {one_line(done.said(1), 120)}"}

    try:
        looked = rights.look([path], ask, ASK_SECONDS + MARGIN_SECONDS)
    except NodeError as error:
        return None, error.problem.found
    if stranger := _stranger(looked.user, uid):
        # It was asked with that user's rights. A build would run it with those of the owner.
        return None, f"{stranger} decides what {path} is"
    answer = {name: str(value) for name, value in looked.value.items()}
    if "problem" in answer:
        return None, answer["problem"]
    found = Interpreter(**answer)
    described = f"{found.implementation} {found.python} on {found.machine}"
    if found.implementation != "cpython" or found.python != wanted.python:
        return found, described
    return found, described if wanted.machine and wanted.machine != found.machine else ""


def _stranger(user: int, owner: int | None) -> str:
    """Who that is, when it is neither root nor the owner. Who is not root looks with rights of their own."""
    return "" if os.geteuid() or user in (0, owner) else f"uid {user}"


def _place(wanted: Declaration, uid: int | None, reader: Reader) -> Place:
    missing: list[str] = []
    path = wanted.home
    while path != "/" and reader.stat(path) is None:
        missing.insert(0, path)
        path = os.path.dirname(path)
    untrusted = _untrusted(path if missing else os.path.dirname(path), uid, reader)
    if not os.path.isdir(path):
        return Place(tuple(missing), untrusted, not_a_directory=path)
    free, unwritable = None, ""
    with contextlib.suppress(OSError):
        room = os.statvfs(path)
        free = room.f_bavail * room.f_frsize >> 20
        unwritable = f"{path} is on a read-only file system" if room.f_flag & os.ST_RDONLY else ""
    if not unwritable and not untrusted and not _may_enter(path, uid):
        unwritable = f"{wanted.owner} may not enter {path}"
    foreign = open_mode = ""
    found = None if missing else reader.stat(wanted.home)
    if found and found.kind != "directory":
        foreign = is_a(found.kind)
    elif found and reader.stat(f"{wanted.home}/pyvenv.cfg"):
        foreign = "is a virtual environment itself"
    elif found and uid is not None and found.uid != uid:
        foreign = f"belongs to {reader.user_name(found.uid)}"
    elif found and found.mode & 0o022:
        open_mode = found.octal
    return Place(tuple(missing), untrusted, unwritable, foreign=foreign, open_mode=open_mode, free_mib=free)


def _may_enter(path: str, uid: int | None) -> bool:
    if os.geteuid() or not uid:
        return True
    with contextlib.suppress(NodeError):
        return bool(rights.look([path], lambda: os.access(path, os.X_OK), ASK_SECONDS, user=uid).value)
    return True  # nobody could ask; the run will see


def _untrusted(path: str, uid: int | None, reader: Reader) -> str:
    """Who decides what a path leads to, when that is neither root nor the owner alone."""
    try:
        return _stranger(rights.decides([path], reader), uid)
    except rights.Shared as shared:
        return shared.who


def _generations(wanted: Declaration, reader: Reader) -> tuple[dict[str, Generation], tuple[str, ...]]:
    names = reader.listdir(wanted.home) or ()
    found: dict[str, Generation] = {}
    for name in names:
        stat = reader.stat(f"{wanted.home}/{name}") if GENERATION.match(name) else None
        if stat and stat.kind == "directory":
            try:
                found[name] = Generation(name, manifest.read(f"{wanted.home}/{name}"))
            except Unreadable as error:
                found[name] = Generation(name, unreadable=str(error))
    return found, tuple(name for name in names if WORK.match(name))


def _link(path: str, home: str, reader: Reader) -> Link:
    try:
        found = reader.stat(path)
    except Unreadable as error:
        return Link(f"unknown ({error})")
    if found is None:
        return Link()
    if found.kind != "link":
        return Link(found.kind)
    target = reader.readlink(path) or ""
    # Relative, so that a generation is named the same wherever the folder is mounted.
    ours = GENERATION.match(target) and os.path.isdir(f"{home}/{target}")
    return Link("link", target, target if ours else "")


def _difference(folder: str, generation: Generation) -> Difference | Unknown:
    if generation.manifest is None:
        return Unknown(generation.unreadable or f"{folder} was never completed")
    try:
        return tree.compare(folder, generation.manifest, tree.scan(folder, frozenset({manifest.NAME})))
    except Unreadable as error:
        return Unknown(str(error))


def _shown(
    wanted: Declaration,
    current: Link,
    generations: Mapping[str, Generation],
    differences: Mapping[str, Difference | Unknown],
    digest: str,
) -> tuple[str, str]:
    """(generation, folder) that engines would import from: where ``current`` leads, link or not.

    When it leads nowhere and the declared generation is there, intact, only the link is to be
    mended, and it is that generation which is judged.
    """
    if current.kind in ("link", "directory") and os.path.isdir(wanted.link):
        return current.generation, os.path.realpath(wanted.link)
    for name, generation in sorted(generations.items()):
        if generation.digest == digest and differences.get(name) == Difference():
            return name, f"{wanted.home}/{name}"
    return "", ""


def _content(root: str, generation: Generation | None) -> Content | Unknown:
    try:
        site = tree.site_packages(root) if root else ""
        if not site:
            return Content()
        packages: dict[str, str] = {}
        foreign: set[str] = set()
        for item in tree.distributions(f"{root}/{site}"):
            versions = {*packages.get(item.name, "").split(", "), item.version} - {""}
            packages[item.name] = ", ".join(sorted(versions))
            if generation and generation.manifest and item.name not in generation.manifest.packages:
                folder = posixpath.relpath(item.folder, root)
                foreign |= {path for path, _hash in tree.claims(root, site, item)}
                foreign |= {f"{folder}/{path}" for path in tree.scan(item.folder)}
        return Content(packages, frozenset(foreign))
    except Unreadable as error:
        return Unknown(str(error))


def _busy(wanted: Declaration, names: list[str], intact: str) -> Mapping[str, str] | Unknown:
    """Looked for only when there is something beside the intact generation in use."""
    if not set(names) - {intact}:
        return {}
    try:
        found = busy.users([f"{wanted.home}/{name}" for name in names], wanted.link)
    except Unreadable as error:
        return Unknown(str(error))
    return {os.path.basename(path): user for path, user in found.items()}


def _mib(folders: Iterable[str]) -> int:
    with contextlib.suppress(Unreadable):
        return sum(entry.size for folder in folders for entry in tree.scan(folder).values()) >> 20
    return 0


def _tool(wanted: Declaration, uid: int | None, interpreter: Interpreter | None, reader: Reader) -> Tool | None:
    """uv where it is installed: it is faster, and needs no pip. Nothing is run to find out."""
    for path in wanted.uv:
        if os.path.isfile(path) and os.access(path, os.X_OK) and not _untrusted(path, uid, reader):
            return Tool("uv", path)
    return Tool("pip", wanted.interpreter) if interpreter and interpreter.pip else None
