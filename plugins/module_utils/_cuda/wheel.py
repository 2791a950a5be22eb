# SPDX-License-Identifier: GPL-3.0-or-later
"""A toolkit made of NVIDIA's wheels: a root of its own kind, with bin, include, lib64 and nvvm.

``<prefix>`` is a link to ``<prefix>-<digest>``, a directory that is made beside it, whole or not
at all, and never changed: what differs from its manifest is replaced by another one. pip
installs into an environment that is thrown away; the toolkit in it is kept.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import re
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError, Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Step, one_line
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader, Writer
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.way import NOBODY, walk
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda.model import Wheels
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import Unknown
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv import installer, manifest, tree
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv.model import Difference, Manifest

# Wheels of 105 MB, 270 MB unpacked, and both are there for a moment.
NEEDED_MIB = 600


@dataclass(frozen=True)
class Seen:
    """What is at the prefix. kind: absent, link, or what else is in its place.

    taken: names beside it that are not free. ready: one of them that holds just what is wanted.
    strange: files and folders of the toolkit that somebody else than root can change.
    unsafe: who else decides about the place. obstacle: why none can be made now.
    """

    kind: str
    target: str = ""
    manifest: Manifest | None = None
    difference: Difference = field(default_factory=Difference)
    taken: frozenset[str] = frozenset()
    ready: str = ""
    strange: tuple[str, ...] = ()
    unsafe: str = ""
    obstacle: str = ""

    def whole(self, digest: str) -> bool:
        return bool(self.manifest and self.manifest.digest == digest and not self.difference and not self.strange)


def digest_of(wheels: Wheels, machine: str) -> str:
    """Of all that decides what is installed. Where it comes from does not: the hashes do."""
    pins = sorted((pin.name, pin.version, pin.hashes) for pin in wheels.pins)
    return hashlib.sha256(json.dumps(["cuda/1", machine, pins]).encode()).hexdigest()[:16]


def observe(prefix: str, wheels: Wheels, digest: str, reader: Reader) -> Seen | Unknown:
    folder, name = posixpath.split(prefix)
    try:
        there = reader.stat(prefix)
        found = Seen("absent" if there is None else there.kind, unsafe=_unsafe(folder, reader))
        if found.kind == "link":
            found = replace(_held(prefix), target=reader.readlink(prefix) or "", unsafe=found.unsafe)
        if found.whole(digest):
            return found
        taken = frozenset(n for n in reader.listdir(folder) or () if n.startswith(f"{name}-"))
        ready = next((n for n in sorted(taken) if _held(f"{folder}/{n}").whole(digest)), "")
        return replace(found, taken=taken, ready=ready, obstacle=_obstacle(folder, wheels, reader))
    except Unreadable as error:
        return Unknown(str(error))


def _held(folder: str) -> Seen:
    found = manifest.read(folder)
    if found is None:
        return Seen("link")
    entries = tree.scan(folder, frozenset({manifest.NAME}))
    return Seen("link", "", found, tree.compare(folder, found, entries), strange=tuple(_strange(folder)))


def _strange(link: str) -> Iterator[str]:
    root = os.path.realpath(link)
    try:
        for place, _folders, names in os.walk(root):
            for path in (place, *(f"{place}/{name}" for name in names)):
                if _is_strange(os.lstat(path)):
                    yield os.path.relpath(path, root)
    except OSError as error:
        raise Unreadable(f"{root}: {error.strerror}") from error


def _is_strange(found: os.stat_result) -> bool:
    return found.st_uid not in _ours() or bool(found.st_mode & 0o022 and not stat.S_ISLNK(found.st_mode))


def _ours() -> tuple[int, ...]:
    return (0, os.geteuid())


def _unsafe(path: str, reader: Reader) -> str:
    """Why root neither makes anything there nor runs what is there; empty when it may."""
    way = walk(path, reader, _ours())
    who = "others" if way.decides == NOBODY else reader.user_name(way.decides)
    return f"not only root but {who} decides what is in {path}: by {way.by}" if way.decides else ""


def _obstacle(folder: str, wheels: Wheels, reader: Reader) -> str:
    """Why a run could not make a toolkit in ``folder``."""
    unsafe = _unsafe(wheels.interpreter, reader)
    if unsafe:
        return unsafe
    there = folder
    while not os.path.lexists(there):
        there = posixpath.dirname(there)
    try:
        disk = os.statvfs(there)
    except OSError as error:
        raise Unreadable(f"{there}: {error.strerror}") from error
    free = disk.f_bavail * disk.f_frsize >> 20
    return f"{there} has {free} MiB free, and it takes {NEEDED_MIB}" if free < NEEDED_MIB else ""


def free_name(prefix: str, digest: str, seen: Seen) -> str:
    """Of the directory that will be made; one of this name that is no good stays as it is."""
    base = f"{posixpath.basename(prefix)}-{digest}"
    numbers = (base, *(f"{base}-{number}" for number in range(2, 1000)))
    return next(name for name in numbers if name not in seen.taken)


def ours(prefix: str, seen: Seen) -> bool:
    """Whether the link at the prefix is one that this module has set."""
    return re.fullmatch(re.escape(posixpath.basename(prefix)) + r"-[0-9a-f]{16}(-\d+)?", seen.target) is not None


def install(step: Step, reader: Reader, writer: Writer, *, wheels: Wheels, digest: str) -> None:
    """Make the directory ``step.target``, complete, with its manifest written last."""
    folder, name = posixpath.split(step.target)
    _parents(folder, reader, writer)
    _sweep(folder)
    work = f"{folder}/.{name}.work"
    writer.mkdir(work, mode=0o700, uid=0, gid=0)
    try:
        toolkit = _fill(wheels, work, writer)
        _complete(toolkit)
        files = tree.hashed(toolkit, tree.scan(toolkit))
        os.sync()  # what the manifest vouches for is on the disk before it is
        packages = {pin.name: pin.version for pin in wheels.pins}
        text = manifest.write(Manifest(digest, packages, files))
        writer.write(f"{toolkit}/{manifest.NAME}", text, mode=0o644, uid=0, gid=0)
        writer.rename(toolkit, step.target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _sweep(folder: str) -> None:
    """What runs have left that were killed: there is only one at a time."""
    for name in os.listdir(folder):
        if re.fullmatch(r"\..+-[0-9a-f]{16}(-\d+)?\.work", name):
            shutil.rmtree(f"{folder}/{name}")


def _fill(wheels: Wheels, work: str, writer: Writer) -> str:
    """The wheels in an environment of their own; returns the folder of the toolkit in it."""
    environment = f"{work}/environment"
    for path, options in ((environment, ["--without-pip"]), (f"{work}/pip", [])):
        argv = [wheels.interpreter, "-I", "-m", "venv", *options, path]
        done = writer.run(argv, timeout=300)
        if not done.ok:
            raise NodeError(
                "cuda.no_environment",
                wanted=f"an environment of {wheels.interpreter}, for pip to install into",
                found=f"{' '.join(argv)} {done.ending}: {one_line(done.said())}",
                why="pip is what fetches and verifies the wheels",
                fix="install python3-venv (role prereqs does), or name another interpreter",
            )
    job = installer.Job(
        installer.Tool("pip", wheels.interpreter),
        environment,
        work,
        f"{work}/lock.txt",
        wheels.index_url,
        wheels.find_links,
    )
    text = "".join(f"{pin.text()}\n" for pin in wheels.pins)
    writer.write(job.requirements, text, mode=0o600, uid=0, gid=0)
    env = installer.environment(job, os.environ)
    done = writer.run(installer.command(job), timeout=installer.INSTALL_SECONDS, env=env)
    if not done.ok:
        raise NodeError(
            "cuda.not_installed",
            wanted=f"the {len(wheels.pins)} wheels of the lock from {installer.source(job)}",
            found=f"pip {done.ending}: {one_line(done.said(6), 500)}",
            why="the toolkit is not installed; what was in use is untouched",
            fix="mend the cause it names; a node without a network takes the wheels out of find_links",
        )
    site = f"{environment}/{tree.site_packages(environment)}"
    roots = sorted(name for name in os.listdir(f"{site}/nvidia") if os.path.isdir(f"{site}/nvidia/{name}/bin"))
    if len(roots) != 1:
        raise NodeError(
            "cuda.no_toolkit",
            wanted="wheels that make up one toolkit, nvidia/cu13",
            found=f"{', '.join(roots) or 'no folder with a bin'} in what they installed",
            why="before CUDA 13 the wheels hold no nvcc, and later ones may be laid out anew",
            fix="lock wheels of CUDA 13, or take the toolkit from apt",
        )
    toolkit = f"{site}/nvidia/{roots[0]}"
    os.mkdir(f"{toolkit}/dist-info")
    for distribution in tree.distributions(site):
        if distribution.name.startswith("nvidia-"):
            os.rename(distribution.folder, f"{toolkit}/dist-info/{os.path.basename(distribution.folder)}")
    return toolkit


def _complete(toolkit: str) -> None:
    """What a toolkit of packages has and wheels leave out, and modes that do not depend on the umask."""
    if not os.path.lexists(f"{toolkit}/lib64"):
        os.symlink("lib", f"{toolkit}/lib64")  # where nvcc.profile looks
    for name in os.listdir(f"{toolkit}/lib"):
        plain = re.sub(r"\.so\.\d+$", ".so", name)
        if not os.path.lexists(f"{toolkit}/lib/{plain}"):
            os.symlink(name, f"{toolkit}/lib/{plain}")  # what the linker looks for
    for folder, folders, names in os.walk(toolkit):
        for name in (*folders, *names):
            path = f"{folder}/{name}"
            if not os.path.islink(path):
                os.chmod(path, 0o755 if name in folders or os.stat(path).st_mode & 0o100 else 0o644)
    os.chmod(toolkit, 0o755)


def _parents(folder: str, reader: Reader, writer: Writer) -> None:
    if reader.stat(folder) is None:
        _parents(posixpath.dirname(folder), reader, writer)
        writer.mkdir(folder, mode=0o755, uid=0, gid=0)
