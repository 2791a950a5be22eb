# SPDX-License-Identifier: GPL-3.0-or-later
"""How a module looks at the node, and how it touches it.

Observing code gets a ``Reader`` and nothing else. A ``Writer`` exists only in a real run
(``entry.py`` builds it), so a mistake in observing or planning cannot change a node in
check mode.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import stat as stat_module
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, TypeAlias, cast

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.command import Completed, run_command
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.place import again, held, thing
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.shares import Shares

# No file that we judge (unit, drop-in, sysctl file, /proc entry) is larger.
MAX_FILE = 8 << 20


@dataclass(frozen=True)
class Stat:
    kind: str  # file | directory | link | other
    mode: int
    uid: int
    gid: int
    size: int = 0
    changed: float = 0.0  # when content, owner, mode or name last changed; nobody can set it
    written: float = 0.0  # when content last changed, or what mv, cp -p, dpkg and touch make of that

    @property
    def octal(self) -> str:
        return f"{self.mode:04o}"


# The fields of a Stat, in their order.
Described: TypeAlias = "tuple[str, int, int, int, int, float, float]"


class Reader(Protocol):
    """Read-only sight of a node. Missing things are None; forbidden ones raise Unreadable."""

    def run(
        self, argv: Sequence[str], *, timeout: float = 10.0, env: Mapping[str, str] | None = None, stdin: str = ""
    ) -> Completed: ...

    def read(self, path: str) -> str | None: ...

    def file(self, path: str) -> tuple[Stat, str] | None:
        """Attributes and text of one and the same regular file. Its folder may be hostile: no link is followed."""

    def stat(self, path: str) -> Stat | None: ...

    def listdir(self, path: str) -> tuple[str, ...] | None: ...

    def readlink(self, path: str) -> str | None: ...

    def user(self, name: str) -> pwd.struct_passwd | None: ...

    def group(self, name: str) -> grp.struct_group | None: ...

    def user_name(self, uid: int) -> str: ...

    def group_name(self, gid: int) -> str: ...

    def is_root(self) -> bool: ...


def text_of(reader: Reader, path: str) -> str:
    """For what may as well be gone: nothing is also what the node does not show."""
    try:
        return reader.read(path) or ""
    except Unreadable:
        return ""


def names_of(reader: Reader, folder: str) -> tuple[str, ...]:
    """The same of a folder."""
    try:
        return reader.listdir(folder) or ()
    except Unreadable:
        return ()


class Writer(Protocol):
    """The few ways in which this collection touches a node. Each is atomic or repeatable."""

    def run(self, argv: Sequence[str], *, timeout: float = 60.0, env: Mapping[str, str] | None = None) -> Completed: ...

    def write(self, path: str, content: str, *, mode: int, uid: int, gid: int) -> None: ...

    def mkdir(self, path: str, *, mode: int, uid: int, gid: int) -> None: ...

    def attributes(self, path: str, *, mode: int | None, uid: int | None, gid: int | None) -> None: ...

    def symlink(self, path: str, target: str) -> None: ...

    def remove(self, path: str) -> None: ...

    def rename(self, path: str, new: str) -> None: ...

    def scratch(self, name: str, content: str, *, uid: int, gid: int) -> str:
        """A copy for a validator to read, under the name it will have; the caller removes it."""

    def set_kernel_value(self, path: str, value: str) -> None: ...


class HostReader:
    """Looks at this machine; at what needs a server to answer, for a limited time."""

    def __init__(self) -> None:
        self._shares = Shares()

    def run(
        self, argv: Sequence[str], *, timeout: float = 10.0, env: Mapping[str, str] | None = None, stdin: str = ""
    ) -> Completed:
        return run_command(argv, timeout=timeout, env=env, stdin=stdin)

    def read(self, path: str) -> str | None:
        """Text of a regular file or /proc entry; None if it does not exist."""
        found = self._shares.look(path, partial(_opened, flags=os.O_PATH | os.O_CLOEXEC), follow=True)
        return None if found is None else str(found[1])

    def file(self, path: str) -> tuple[Stat, str] | None:
        flags = os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW
        found = self._shares.look(path, partial(_opened, flags=flags), follow=False)
        return None if found is None else (Stat(*found[0]), found[1])

    def stat(self, path: str) -> Stat | None:
        """The thing itself, links not followed."""
        found = self._shares.look(path, _stat, follow=False)
        return None if found is None else Stat(*found)

    def listdir(self, path: str) -> tuple[str, ...] | None:
        found = self._shares.look(path, _names, follow=True)
        return None if found is None else tuple(found)

    def readlink(self, path: str) -> str | None:
        return cast("str | None", self._shares.look(path, _target, follow=False))

    def user(self, name: str) -> pwd.struct_passwd | None:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            return None

    def group(self, name: str) -> grp.struct_group | None:
        try:
            return grp.getgrnam(name)
        except KeyError:
            return None

    def user_name(self, uid: int) -> str:
        try:
            return pwd.getpwuid(uid).pw_name
        except KeyError:
            return str(uid)

    def group_name(self, gid: int) -> str:
        try:
            return grp.getgrgid(gid).gr_name
        except KeyError:
            return str(gid)

    def is_root(self) -> bool:
        return os.geteuid() == 0


# Looks at one path. They return what JSON can hold, since some are made in another process.


@contextlib.contextmanager
def _looking(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror}") from error


def _stat(path: str) -> Described | None:
    with _looking(path), contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return _described(os.lstat(path))
    return None


def _names(path: str) -> list[str] | None:
    with _looking(path), contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return sorted(os.listdir(path))
    return None


def _target(path: str) -> str | None:
    try:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return os.readlink(path)
    except OSError as error:
        if error.errno != errno.EINVAL:  # no link
            raise Unreadable(f"{path}: {error.strerror}") from error
    return None


def _opened(path: str, flags: int) -> tuple[Described, str] | None:
    """Looked at before it is opened for reading, and by the same descriptor.

    A FIFO, device or link in the place of a file must not hang, trigger or show anything.
    """
    with _looking(path), contextlib.suppress(FileNotFoundError, NotADirectoryError):
        descriptor = os.open(path, flags)
        try:
            found = os.fstat(descriptor)
            if not stat_module.S_ISREG(found.st_mode):
                raise Unreadable(f"{path}: not a regular file")
            return _described(found), _text(descriptor, path)
        finally:
            os.close(descriptor)
    return None


def _described(found: os.stat_result) -> Described:
    kinds = {stat_module.S_IFREG: "file", stat_module.S_IFDIR: "directory", stat_module.S_IFLNK: "link"}
    kind = kinds.get(stat_module.S_IFMT(found.st_mode), "other")
    mode, times = stat_module.S_IMODE(found.st_mode), (found.st_ctime, found.st_mtime)
    return kind, mode, found.st_uid, found.st_gid, found.st_size, *times


def _text(descriptor: int, path: str) -> str:
    reading = os.open(again(descriptor), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        # In pieces: /proc/sys makes the kernel allocate a buffer of the size asked for.
        data = bytearray()
        while len(data) <= MAX_FILE and (piece := os.read(reading, 65536)):
            data += piece
    finally:
        os.close(reading)
    if len(data) > MAX_FILE:
        raise Unreadable(f"{path}: larger than {MAX_FILE} bytes")
    return data.decode("utf-8", "surrogateescape")


class HostWriter:
    """Touches this machine. Built by ``entry.py`` in a real run, and nowhere else.

    redact: applied to what commands print before anybody cuts it to fit: the first half of a
    secret is no longer found by its whole.
    scratch: folder that is private to this run (see ``turn.py``).
    """

    def __init__(self, redact: Callable[[str], str] = str, scratch: str = "") -> None:
        self._redact = redact
        self._scratch = scratch

    def run(self, argv: Sequence[str], *, timeout: float = 60.0, env: Mapping[str, str] | None = None) -> Completed:
        full = {"HOME": "/root", **(env or {})}
        done = run_command(argv, timeout=timeout, env=full, changes=True)
        return replace(done, out=self._redact(done.out), err=self._redact(done.err))

    def write(self, path: str, content: str, *, mode: int, uid: int, gid: int) -> None:
        """Replace ``path`` whole or not at all.

        The new file has its final owner and mode before the first byte of content:
        ``AnsibleModule.atomic_move`` would first give it the mode of the file it replaces,
        which shows a secret to everybody for a moment when a 0644 file becomes 0600.
        """
        with held(path) as place, _replacing(*place) as temporary, _new_file(place[0], temporary) as descriptor:
            os.fchown(descriptor, uid, gid)
            os.fchmod(descriptor, mode)
            _fill(descriptor, content)
            os.fsync(descriptor)

    def mkdir(self, path: str, *, mode: int, uid: int, gid: int) -> None:
        """Whole in one call for root; closed to others until a different owner is set.

        A run killed in between leaves an empty directory of root, which the next run sees. One
        of root itself could be an undeclared parent that nobody looks at again: no in-between.
        """
        with held(path) as (folder, name):
            umask = os.umask(0)
            try:
                os.mkdir(name, mode if (uid, gid) == (0, 0) else 0o700, dir_fd=folder)
            finally:
                os.umask(umask)
            _own(folder, name, path, mode, uid, gid)

    def attributes(self, path: str, *, mode: int | None, uid: int | None, gid: int | None) -> None:
        with held(path) as (folder, name):
            _own(folder, name, path, mode, uid, gid)

    def symlink(self, path: str, target: str) -> None:
        """Point ``path`` at ``target``; an existing link is replaced in one rename."""
        with held(path) as place, _replacing(*place) as temporary:
            os.symlink(target, temporary, dir_fd=place[0])

    def remove(self, path: str) -> None:
        with held(path) as (folder, name):
            _discard(folder, _beside(name))
            _discard(folder, name)

    def rename(self, path: str, new: str) -> None:
        with held(path) as (folder, name), held(new) as (other, new_name):
            os.rename(name, new_name, src_dir_fd=folder, dst_dir_fd=other)

    def scratch(self, name: str, content: str, *, uid: int, gid: int) -> str:
        path = os.path.join(self._scratch, name)
        with held(path) as (folder, _name):
            _discard(folder, name)
            with _new_file(folder, name) as descriptor:
                os.fchown(descriptor, uid, gid)
                _fill(descriptor, content)
        return path

    def set_kernel_value(self, path: str, value: str) -> None:
        """Entries of /proc/sys and /sys take one write and cannot be replaced."""
        with open(path, "w", encoding="ascii") as handle:
            handle.write(value + "\n")


def _own(folder: int, name: str, path: str, mode: int | None, uid: int | None, gid: int | None) -> None:
    """Of the thing itself and never through a link: the owner of the folder may be hostile to root.

    Owner first: chown clears set-uid bits that the mode may want to set.
    """
    with thing(folder, name) as descriptor:
        kind = os.fstat(descriptor).st_mode
        if not (stat_module.S_ISREG(kind) or stat_module.S_ISDIR(kind)):
            raise OSError(errno.ELOOP, "neither a file nor a directory any more", path)
        if uid is not None or gid is not None:
            os.chown(again(descriptor), -1 if uid is None else uid, -1 if gid is None else gid)
        if mode is not None:
            os.chmod(again(descriptor), mode)


def _beside(name: str) -> str:
    """The one name under which ``name`` is made anew: the next write sweeps what a killed one has left.

    Cut, since the longest name has no room for more. Two long names may meet in it: there is only
    one writer at a time on a node (``turn.py``).
    """
    return f".{os.fsdecode(os.fsencode(name)[:100])}.nusy"


@contextlib.contextmanager
def _replacing(folder: int, name: str) -> Iterator[str]:
    """A free name to make something under that then takes the place of ``name``, in one rename."""
    temporary = _beside(name)
    _discard(folder, temporary)
    try:
        yield temporary
        os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        _discard(folder, temporary)
        raise
    flushed = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.fsync(flushed)
    finally:
        os.close(flushed)


@contextlib.contextmanager
def _new_file(folder: int, name: str) -> Iterator[int]:
    """Nothing that somebody has put there meanwhile, be it a link: the folder may be of somebody hostile."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, 0o600, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _fill(descriptor: int, content: str) -> None:
    data = memoryview(content.encode("utf-8", "surrogateescape"))
    while data:
        data = data[os.write(descriptor, data) :]


def _discard(folder: int, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)
