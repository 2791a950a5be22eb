# SPDX-License-Identifier: GPL-3.0-or-later
"""Carry out a plan. Everything happens beside what is in use, until one rename.

What writes runs with the rights of the environment's owner, in a process of its own when root
calls: root that writes below a folder of somebody else can be led anywhere.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core import rights
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.command import Completed
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import (
    NodeError,
    Problem,
    SparkError,
    Unreadable,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.place import held
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Step, one_line
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader, Writer
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.paths import move_aside
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv import busy, installer, manifest, tree, use
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv.lock import same_version
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv.model import Declaration, Manifest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv.problems import no_installer
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv.removal import remove_generation, work_of

# Longer than any command of a step may take: those are to be stopped themselves.
STEP_SECONDS = installer.INSTALL_SECONDS + 900.0
# Bytes with which no tool gets on: what did not fit was larger.
FULL = 4 << 20
# Steps that leave an unusable generation behind when they fail.
BUILDING = ("create_environment", "install_stage", "complete", "prove")


class Builder:
    """The steps of one run. ``tool`` None: this plan builds nothing."""

    def __init__(
        self, wanted: Declaration, machine: str, tool: installer.Tool | None, reader: Reader, writer: Writer
    ) -> None:
        self.wanted, self.machine, self.tool = wanted, machine, tool
        self.reader, self.writer = reader, writer
        account = reader.user(wanted.owner)
        if account is None:
            raise NodeError(
                "venv.owner",
                wanted=f"user {wanted.owner}, who owns {wanted.home}",
                found="there is no such user",
                why="the environment is built with the rights of its owner",
                fix="make the user first (role prereqs does), or name another owner",
            )
        self.uid, self.gid = account.pw_uid, account.pw_gid

    def run(self, steps: tuple[Step, ...]) -> None:
        if self.tool is None and any(step.action in BUILDING for step in steps):
            raise _raised(no_installer(self.wanted, "brings no pip"))
        made: list[str] = []
        for step in steps:
            try:
                with _masked(0o022):
                    self._do(step)
                if step.action == "make_directory":
                    made.append(step.target)
            except (SparkError, OSError, Unreadable) as error:
                self._undo(step, made)
                if isinstance(error, SparkError):
                    raise
                raise _failed(step, error) from error

    def _do(self, step: Step) -> None:
        if step.action == "make_directory":
            self._make_directory(step)
        elif step.action == "remove_generation":
            self._remove_generation(step)
        elif step.action == "move_aside":
            # In a folder that only root decides about it is root's to move.
            uid = rights.decides([os.path.dirname(step.target)], self.reader)
            self._as(uid, step, lambda: move_aside(step, self.reader, self.writer))
        else:
            self._as(self.uid, step, lambda: ACTIONS[step.action](self, step))

    def _as(self, uid: int, step: Step, function: Callable[[], None]) -> None:
        def done() -> None:
            try:
                function()
            except (OSError, Unreadable) as error:  # only expected errors cross between processes
                raise _failed(step, error) from error

        rights.act(uid, done, STEP_SECONDS, step.text())

    def _undo(self, step: Step, made: list[str]) -> None:
        """A failed build leaves nothing: neither its generation nor the folders made for it."""
        name = str(step.args[0]) if step.action == "install_stage" else step.target
        if step.action in BUILDING:
            with contextlib.suppress(OSError):
                remove_generation(self.wanted.home, name, self.uid)
        for path in reversed(made):
            with contextlib.suppress(OSError), held(path) as (folder, name):
                os.rmdir(name, dir_fd=folder)

    # --- places ---

    def _make_directory(self, step: Step) -> None:
        path = step.target
        uid, gid = (self.uid, self.gid) if path == self.wanted.home else (os.geteuid(), os.getegid())
        decides = rights.decides([os.path.dirname(path)], self.reader)
        if decides:
            uid, gid = self.uid, self.gid
        self._as(decides, step, lambda: self.writer.mkdir(path, mode=0o755, uid=uid, gid=gid))

    def _remove_generation(self, step: Step) -> None:
        """Looked for again now: a process may have begun to use it since the plan was made."""
        if not busy.users([f"{self.wanted.home}/{step.target}"], self.wanted.link):
            remove_generation(self.wanted.home, step.target, self.uid)

    # --- building ---

    def create_environment(self, step: Step) -> None:
        folder, work = f"{self.wanted.home}/{step.target}", f"{self.wanted.home}/{work_of(step.target)}"
        self.writer.mkdir(work, mode=0o700, uid=self.uid, gid=self.gid)
        self._venv(folder, "--without-pip", f"--prompt={self.wanted.name}")
        if self._installer.kind == "pip":
            self._venv(f"{work}/pip")

    def _venv(self, folder: str, *options: str) -> None:
        argv = [self.wanted.interpreter, "-I", "-m", "venv", *options, folder]
        done = self.writer.run(argv, timeout=300, env={"HOME": "/nonexistent"})
        if not done.ok:
            raise self._disk_full(f"a virtual environment in {folder}", done) or NodeError(
                "venv.no_environment",
                wanted=f"a virtual environment of {self.wanted.interpreter} in {folder}",
                found=f"{' '.join(argv)} {done.ending}: {one_line(done.said())}",
                why="wheels are installed into it",
                fix=f"see what it says; it needs the package python{self.wanted.python}-venv for pip",
            )

    def install_stage(self, step: Step) -> None:
        name = str(step.args[0])
        (stage,) = (stage for stage in self.wanted.stages if stage.name == step.target)
        work = f"{self.wanted.home}/{work_of(name)}"
        job = installer.Job(
            self._installer,
            f"{self.wanted.home}/{name}",
            work,
            f"{work}/{stage.name}.txt",
            stage.index_url,
            self.wanted.find_links,
        )
        self.writer.write(job.requirements, stage.requirements(), mode=0o600, uid=self.uid, gid=self.gid)
        env = installer.environment(job, os.environ)
        done = self.writer.run(installer.command(job), timeout=installer.INSTALL_SECONDS, env=env)
        if not done.ok:
            raise self._disk_full(f"stage {stage.name} installed", done) or _not_installed(stage.name, job, done)
        # Of this and all earlier stages: a later one may have replaced what an earlier one put there.
        position = self.wanted.stages.index(stage)
        for assertion in (a for s in self.wanted.stages[: position + 1] for a in s.assertions):
            finding = use.judged(assertion, job.environment)
            if not finding.ok:
                raise NodeError(
                    "venv.assertion",
                    wanted=f"{finding.key}: {finding.wanted}, after stage {stage.name}",
                    found=finding.found,
                    why="the next stage, or the engine, relies on it",
                    fix="lock the right build, or give the stage the index that has it (index_url)",
                )

    def _disk_full(self, wanted: str, done: Completed) -> NodeError | None:
        """Whether that is why a tool failed. Not every tool says so: venv does not hand on what its pip said."""
        room = os.statvfs(self.wanted.home)
        full = room.f_bavail * room.f_frsize < FULL or (room.f_files and not room.f_favail)
        if not full and not any(word in done.out + done.err for word in ("No space left on device", "os error 28")):
            return None
        return NodeError(
            "venv.disk_full",
            wanted=wanted,
            found=f"it {done.ending}, and {self.wanted.home} is full: {one_line(done.said(2))}",
            why="what was in use is untouched, and what was begun is removed",
            fix="free space for two generations (see size_mib), or choose a root on another file system",
        )

    @property
    def _installer(self) -> installer.Tool:
        if self.tool is None:
            raise _raised(no_installer(self.wanted, "brings no pip"))
        return self.tool

    def complete(self, step: Step) -> None:
        """Verify all that was installed, close the folders, and write the manifest last."""
        folder = f"{self.wanted.home}/{step.target}"
        remove_generation(self.wanted.home, work_of(step.target), self.uid)
        _verify_packages(folder, self.wanted)
        files = tree.hashed(folder, tree.scan(folder))
        misrecorded = _verify_records(folder, {path: entry.content for path, entry in files.items()})
        # Compiled files could not be written any more, and neither could anything else.
        for place, _folders, _files in os.walk(folder):
            if place != folder:
                os.chmod(place, 0o555)
        # What the manifest vouches for is on the disk before the manifest is.
        os.sync()
        text = manifest.write(Manifest(self.wanted.digest(self.machine), self.wanted.packages, files, misrecorded))
        self.writer.write(f"{folder}/{manifest.NAME}", text, mode=0o644, uid=self.uid, gid=self.gid)
        os.chmod(folder, 0o555)

    def prove(self, step: Step) -> None:
        found = use.look(self.wanted, f"{self.wanted.home}/{step.target}", self.reader).problems
        if found:
            raise NodeError(
                "venv.use",
                wanted="; ".join(f"{f.key}: {f.wanted}" for f in found),
                found="; ".join(f"{f.key}: {f.found}" for f in found),
                why="an environment that does not work must not replace one that does",
                fix="see what these need of the node (libraries, a driver), or correct what is declared about them",
            )

    def close_directory(self, step: Step) -> None:
        self.writer.attributes(step.target, mode=0o755, uid=None, gid=None)

    def link(self, step: Step) -> None:
        self.writer.symlink(step.target, str(step.args[0]))


ACTIONS: dict[str, Callable[[Builder, Step], None]] = {
    "close_directory": Builder.close_directory,
    "create_environment": Builder.create_environment,
    "install_stage": Builder.install_stage,
    "complete": Builder.complete,
    "prove": Builder.prove,
    "set_previous": Builder.link,
    "switch": Builder.link,
}


def _verify_packages(folder: str, wanted: Declaration) -> None:
    found = {d.name: d.version for d in tree.distributions(f"{folder}/{tree.site_packages(folder)}")}
    differing = [
        f"{name}: {found.get(name, 'absent')} instead of {wanted.packages.get(name, 'absent')}"
        for name in sorted({*found, *wanted.packages})
        if not same_version(found.get(name, "absent"), wanted.packages.get(name, "absent"))
    ]
    if differing:
        raise NodeError(
            "venv.not_as_locked",
            wanted="exactly the distributions of the lock",
            found="; ".join(differing[:10]),
            why="the package tool reported success with another result",
            fix="see whether a wheel calls itself differently than the index does, and lock another release",
        )


def _verify_records(folder: str, contents: dict[str, str]) -> tuple[str, ...]:
    """Every file that a RECORD names is there, and no other; returns those that are recorded wrongly.

    Where two distributions claim one path, either will do.
    """
    site = tree.site_packages(folder)
    claims: dict[str, set[str]] = {}
    for distribution in tree.distributions(f"{folder}/{site}"):
        for path, digest in tree.claims(folder, site, distribution):
            claims.setdefault(path, set()).add(digest)
    recorded = {path: digests for path, digests in claims.items() if not path.endswith(".pyc")}
    wrong = [path for path in recorded if path not in contents]
    wrong += [path for path in contents if path.startswith(f"{site}/") and path not in recorded]
    if wrong:
        raise NodeError(
            "venv.not_as_recorded",
            wanted="every file that the RECORD of a distribution names, and no other",
            found=", ".join(sorted(wrong)[:10]),
            why="these are missing, or nobody knows where they come from",
            fix="look for another program that writes there, and run the play again",
        )
    return tuple(sorted(p for p, digests in recorded.items() if "" not in digests and contents[p] not in digests))


def _not_installed(stage: str, job: installer.Job, done: Completed) -> NodeError:
    said = f"{done.out}\n{done.err}"
    key, why, fix = "venv.install_failed", "the stage is not installed", "see what it says, and run the play again"
    for words, kind, reason, remedy in REASONS:
        if any(word in said for word in words):
            key, why, fix = kind, reason, remedy
            break
    return NodeError(
        key,
        wanted=f"stage {stage} installed by {job.tool.kind} from {installer.source(job)}",
        found=f"it {done.ending}: {one_line(done.said(6), 500)}",
        why=f"{why}; what was in use is untouched",
        fix=fix,
    )


# The first that fits: a tool that cannot reach the index also says that it found no release.
REASONS: tuple[tuple[tuple[str, ...], str, str, str], ...] = (
    (
        ("DO NOT MATCH THE HASHES", "Hash mismatch"),
        "venv.hash",
        "what was offered is not what was locked: a tampered or replaced file",
        "find out which of the two is wrong before you lock again",
    ),
    (
        (
            "Failed to establish a new connection",
            "Connection refused",
            "error sending request",
            "client error (Connect)",
            "NewConnectionError",
            "ConnectTimeoutError",
            "dns error",
            "Could not connect",
            "Max retries exceeded",
        ),
        "venv.index",
        "the index cannot be reached",
        "mend the network or index_url, or put the wheels on the node and name the folder in find_links",
    ),
    (
        (
            "No matching distribution found",
            "Could not find a version that satisfies",
            "No solution found",
            "no wheels with a matching",
            "not found in the package registry",
            "was not found in",
            "no usable wheels",
            "No `cp",
        ),
        "venv.unsatisfiable",
        "there is no wheel of it for this machine and Python, or the source does not have that release",
        "lock for this platform: uv pip compile --python-platform … --python-version … --only-binary :all:",
    ),
)


def _raised(problem: Problem) -> NodeError:
    return NodeError(problem.key, wanted=problem.wanted, found=problem.found, why=problem.why, fix=problem.fix)


def _failed(step: Step, error: Exception) -> NodeError:
    number = getattr(error, "errno", None)
    text = getattr(error, "strerror", None) or str(error)
    place = getattr(error, "filename", None)
    where = f"{step.target}: {place}" if place and str(place) not in step.target else step.target
    return NodeError(
        "venv.disk_full" if number == 28 else "venv.step_failed",
        wanted=step.text(),
        found=f"{text} ({where})",
        why="the steps after this one were not tried; what was in use is untouched",
        fix="mend the cause and run the play again",
    )


@contextlib.contextmanager
def _masked(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)
