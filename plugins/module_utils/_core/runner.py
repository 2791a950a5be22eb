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
import selectors
import signal
import stat as stat_module
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

# A tool that prints more than this is not the tool we think it is.
MAX_OUTPUT = 1 << 20
# No file that we judge (unit, drop-in, sysctl file, /proc entry) is larger.
MAX_FILE = 8 << 20
# System tools only, never the caller's PATH: a user's wrapper must not answer for the node.
SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


class Unreadable(Exception):
    """The node would not let us look (permission, I/O error); the text says why."""


@dataclass(frozen=True)
class Completed:
    """What a command did. ``rc`` is None when it never ran or was stopped by the time limit."""

    argv: tuple[str, ...]
    rc: int | None
    out: str
    err: str
    problem: str = ""

    @property
    def ok(self) -> bool:
        return self.rc == 0

    @property
    def ending(self) -> str:
        """How it ended, for an error message."""
        return f"was not completed ({self.problem})" if self.rc is None else f"ended with {self.rc}"

    def said(self, lines: int = 3) -> str:
        """The last lines it printed, for an error message."""
        text = [line for line in (self.err + "\n" + self.out).splitlines() if line.strip()]
        return " / ".join(text[-lines:]) or self.problem or "nothing printed"


@dataclass(frozen=True)
class Stat:
    kind: str  # file | directory | link | other
    mode: int
    uid: int
    gid: int
    size: int = 0

    @property
    def octal(self) -> str:
        return f"{self.mode:04o}"


class Reader(Protocol):
    """Read-only sight of a node. Missing things are None; forbidden ones raise Unreadable."""

    def run(
        self, argv: Sequence[str], *, timeout: float = 10.0, env: Mapping[str, str] | None = None, stdin: str = ""
    ) -> Completed: ...

    def read(self, path: str) -> str | None: ...

    def stat(self, path: str) -> Stat | None: ...

    def listdir(self, path: str) -> tuple[str, ...] | None: ...

    def readlink(self, path: str) -> str | None: ...

    def user(self, name: str) -> pwd.struct_passwd | None: ...

    def group(self, name: str) -> grp.struct_group | None: ...

    def user_name(self, uid: int) -> str: ...

    def group_name(self, gid: int) -> str: ...

    def is_root(self) -> bool: ...


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
        """A private copy for a validator to read; the caller removes it."""

    def set_kernel_value(self, path: str, value: str) -> None: ...


def run_command(
    argv: Sequence[str],
    *,
    timeout: float,
    env: Mapping[str, str] | None = None,
    stdin: str = "",
    cap: int = MAX_OUTPUT,
    leave_children: bool = False,
) -> Completed:
    """Run ``argv`` bounded in time and output, with a clean environment, and never raise.

    The command gets its own session, and the whole session is killed at the time limit or
    when it prints more than ``cap`` bytes: a wrapper script that hangs leaves no children.
    With ``leave_children`` what a command that ended in time started goes on running, as
    the scripts of packages expect.
    """
    argv = tuple(argv)
    full_env = {"PATH": SYSTEM_PATH, "LC_ALL": "C", "LANGUAGE": "C", "HOME": "/", **(env or {})}
    feed = _in_memory(stdin) if stdin else subprocess.DEVNULL
    try:
        process = subprocess.Popen(
            argv,
            stdin=feed,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=full_env,
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        return Completed(argv, None, "", "", error.strerror or str(error))
    except ValueError as error:  # a NUL byte in an argument
        return Completed(argv, None, "", "", str(error))
    finally:
        if feed != subprocess.DEVNULL:
            os.close(feed)
    chunks: dict[str, bytearray] = {"out": bytearray(), "err": bytearray()}
    problem = ""
    deadline = time.monotonic() + timeout
    with selectors.DefaultSelector() as selector:
        for name, pipe in (("out", process.stdout), ("err", process.stderr)):
            if pipe is not None:
                selector.register(pipe, selectors.EVENT_READ, name)
        while selector.get_map() and not problem:
            left = deadline - time.monotonic()
            if left <= 0:
                problem = f"still running after {timeout:g} s, stopped"
                break
            for key, _events in selector.select(min(left, 0.2)):
                data = os.read(key.fd, 65536)
                if not data:
                    selector.unregister(key.fileobj)
                    continue
                chunks[key.data] += data
                if len(chunks[key.data]) > cap:
                    problem = f"printed more than {cap} bytes, stopped"
            # A grandchild may hold the pipes open after the command itself has ended.
            if process.poll() is not None and not selector.select(0):
                break
    if not problem:
        try:
            process.wait(max(deadline - time.monotonic(), 0.05))
        except subprocess.TimeoutExpired:
            problem = f"still running after {timeout:g} s, stopped"
    if problem or not leave_children:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    # One that hangs inside the kernel (a dead disk, a dead NFS server) does not even die.
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(5)
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    out, err = (bytes(chunks[name][:cap]).decode("utf-8", "replace") for name in ("out", "err"))
    return Completed(argv, None if problem else process.returncode, out, err, problem)


def _in_memory(text: str) -> int:
    """A descriptor to read ``text`` from. No file: looking writes nothing, not even in /tmp."""
    descriptor = os.memfd_create("stdin")
    os.write(descriptor, text.encode("utf-8", "surrogateescape"))
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


class HostReader:
    """Looks at this machine."""

    def run(
        self, argv: Sequence[str], *, timeout: float = 10.0, env: Mapping[str, str] | None = None, stdin: str = ""
    ) -> Completed:
        return run_command(argv, timeout=timeout, env=env, stdin=stdin)

    def read(self, path: str) -> str | None:
        """Text of a regular file or /proc entry; None if it does not exist.

        Opened without blocking and checked after opening: a FIFO or device in the place of
        a file must not hang or trigger anything.
        """
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return None
            raise Unreadable(f"{path}: {error.strerror}") from error
        try:
            if not stat_module.S_ISREG(os.fstat(descriptor).st_mode):
                raise Unreadable(f"{path}: not a regular file")
            # In pieces: /proc/sys makes the kernel allocate a buffer of the size asked for.
            data = bytearray()
            while len(data) <= MAX_FILE and (piece := os.read(descriptor, 65536)):
                data += piece
        except OSError as error:
            raise Unreadable(f"{path}: {error.strerror}") from error
        finally:
            os.close(descriptor)
        if len(data) > MAX_FILE:
            raise Unreadable(f"{path}: larger than {MAX_FILE} bytes")
        return data.decode("utf-8", "surrogateescape")

    def stat(self, path: str) -> Stat | None:
        """The thing itself, links not followed."""
        try:
            found = os.lstat(path)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return None
            raise Unreadable(f"{path}: {error.strerror}") from error
        kinds = {stat_module.S_IFREG: "file", stat_module.S_IFDIR: "directory", stat_module.S_IFLNK: "link"}
        kind = kinds.get(stat_module.S_IFMT(found.st_mode), "other")
        return Stat(kind, stat_module.S_IMODE(found.st_mode), found.st_uid, found.st_gid, found.st_size)

    def listdir(self, path: str) -> tuple[str, ...] | None:
        try:
            return tuple(sorted(os.listdir(path)))
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return None
            raise Unreadable(f"{path}: {error.strerror}") from error

    def readlink(self, path: str) -> str | None:
        try:
            return os.readlink(path)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EINVAL):
                return None
            raise Unreadable(f"{path}: {error.strerror}") from error

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


class HostWriter:
    """Touches this machine. Built by ``entry.py`` in a real run, and nowhere else.

    redact: applied to what commands print before anybody cuts it to fit: the first half of a
    secret is no longer found by its whole.
    """

    def __init__(self, redact: Callable[[str], str] = str) -> None:
        self._redact = redact

    def run(self, argv: Sequence[str], *, timeout: float = 60.0, env: Mapping[str, str] | None = None) -> Completed:
        full = {"HOME": "/root", **(env or {})}
        done = run_command(argv, timeout=timeout, env=full, cap=16 << 20, leave_children=True)
        return replace(done, out=self._redact(done.out), err=self._redact(done.err))

    def write(self, path: str, content: str, *, mode: int, uid: int, gid: int) -> None:
        """Replace ``path`` whole or not at all.

        The temporary file has its final owner and mode before the first byte of content:
        ``AnsibleModule.atomic_move`` would first give it the mode of the file it replaces,
        which shows a secret to everybody for a moment when a 0644 file becomes 0600.
        """
        folder, name = os.path.split(path)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
        try:
            with os.fdopen(descriptor, "wb") as handle:
                os.fchown(handle.fileno(), uid, gid)
                os.fchmod(handle.fileno(), mode)
                handle.write(content.encode("utf-8", "surrogateescape"))
                handle.flush()
                os.fsync(handle.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        _sync_directory(folder)

    def mkdir(self, path: str, *, mode: int, uid: int, gid: int) -> None:
        """Whole in one call for root; closed to others until a different owner is set.

        A run killed in between leaves an empty directory of root, which the next run sees. One
        of root itself could be an undeclared parent that nobody looks at again: no in-between.
        """
        umask = os.umask(0)
        try:
            os.mkdir(path, mode if (uid, gid) == (0, 0) else 0o700)
        finally:
            os.umask(umask)
        self.attributes(path, mode=mode, uid=uid, gid=gid)

    def attributes(self, path: str, *, mode: int | None, uid: int | None, gid: int | None) -> None:
        """By descriptor and never through a link: the owner of the folder may be hostile to root.

        Owner first: chown clears set-uid bits that the mode may want to set.
        """
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if uid is not None or gid is not None:
                os.fchown(descriptor, -1 if uid is None else uid, -1 if gid is None else gid)
            if mode is not None:
                os.fchmod(descriptor, mode)
        finally:
            os.close(descriptor)

    def symlink(self, path: str, target: str) -> None:
        """Point ``path`` at ``target``; an existing link is replaced in one rename."""
        folder, name = os.path.split(path)
        temporary = os.path.join(folder, f".{name}.{os.getpid()}.link")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        os.symlink(target, temporary)
        os.replace(temporary, path)

    def remove(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)

    def rename(self, path: str, new: str) -> None:
        os.rename(path, new)

    def scratch(self, name: str, content: str, *, uid: int, gid: int) -> str:
        descriptor, path = tempfile.mkstemp(prefix="nusy-", suffix=f"-{name}")
        with os.fdopen(descriptor, "wb") as handle:
            os.fchown(handle.fileno(), uid, gid)
            handle.write(content.encode("utf-8", "surrogateescape"))
        return path

    def set_kernel_value(self, path: str, value: str) -> None:
        """Entries of /proc/sys and /sys take one write and cannot be replaced."""
        with open(path, "w", encoding="ascii") as handle:
            handle.write(value + "\n")


def _sync_directory(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
