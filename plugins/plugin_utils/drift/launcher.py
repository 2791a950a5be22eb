# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``bin/spark-drift`` does: run ansible-playbook with the drift callback, from any
working directory and for any playbook, and carry the exit code.

The report is built here, in a process that an interrupted or killed ansible-playbook
cannot take with it. Needs the standard library and PyYAML.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import argparse
import configparser
import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NoReturn, cast

from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift import (
    builder,
    events,
    exitcode,
    places,
    produce,
    text,
)
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift import waivers as waiver_file

CALLBACK = "nusy.dgx_spark.drift"
LOG = "ansible-playbook.log"
# After a first signal ansible-playbook gets this long to end its tasks, then it is killed.
GRACE_SECONDS = 15.0

_EPILOG = """\
exit codes: 0 clean | 2 drift | 3 unknown, unreachable or incomplete | 4 bad waiver file |
1 no report could be made | 64 wrong usage. The first of 1, 4, 3, 2, 0 that applies.

Everything after a lone -- goes to ansible-playbook as it is. The report is index.html and
report.json in the output directory, what ansible-playbook said is in ansible-playbook.log.
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        print(f"{self.prog}: {message}", file=sys.stderr)
        raise SystemExit(exitcode.USAGE)


def parser() -> argparse.ArgumentParser:
    result = _Parser(
        prog="spark-drift",
        description="Says how each machine differs from what was declared, and changes nothing.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = result.add_argument
    add("--playbook", metavar="FILE", help="what is declared (default: site.yml of the collection)")
    add("-i", "--inventory", metavar="WHERE", action="append", default=[], help="may be given more than once")
    add("-l", "--limit", metavar="HOSTS", help="look at these hosts only")
    add("-t", "--tags", metavar="TAGS", action="append", default=[], help="look at these parts only")
    add("--skip-tags", metavar="TAGS", action="append", default=[], help="leave these parts out")
    add("-e", "--extra-vars", metavar="VARS", action="append", default=[], help="as for ansible-playbook")
    add("-b", "--become", action="store_true", help="look with sudo; asks for the password when sudo wants one")
    add("--waivers", metavar="FILE", help="findings that somebody answers for (default: waivers.yml, if there is one)")
    add("-o", "--output", metavar="DIR", help="where the report goes (default: build/drift)")
    add(
        "--formats",
        metavar="LIST",
        help=f"renderings beside report.json, of {', '.join(produce.FORMATS)} (default: all but envelope)",
    )
    add("--exit-zero", action="store_true", help="end with 0 whenever a true report was made")
    add("-v", "--verbose", action="store_true", help="show what ansible-playbook says")
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    cut = given.index("--") if "--" in given else len(given)
    options = parser().parse_args(given[:cut])
    more = given[cut + 1 :]
    formats = produce.DEFAULT_FORMATS if options.formats is None else tuple(options.formats.split(","))
    if unknown := [name for name in formats if name not in produce.FORMATS]:
        parser().error(f"--formats: not one of {', '.join(produce.FORMATS)}: {', '.join(unknown)}")
    playbook = Path(options.playbook) if options.playbook else places.ROOT / "site.yml"
    if not playbook.is_file():
        parser().error(f"no such playbook: {playbook}")
    program = ansible_playbook()
    if program is None:
        print("spark-drift: ansible-playbook was not found. To do: make drift, which installs it.", file=sys.stderr)
        return exitcode.CRASH
    directory = places.directory(options.output)
    waivers = places.waivers(options.waivers)
    # Said before a long run, not after it; the run goes on, what is usable counts.
    for problem in waiver_file.read(waivers)[1]:
        print(f"spark-drift: waiver file: {problem}", file=sys.stderr)
    try:
        # Held until this process ends: the report is built from what the run leaves.
        events.Lock(directory)
        produce.clear(directory)
        (directory / events.FILE).unlink(missing_ok=True)
        argv = command(options, more, program, playbook)
        run = Run(argv, environment(directory), directory / LOG, options.verbose)
        ended = run.wait()
    except events.Busy as error:
        print(f"spark-drift: {error}", file=sys.stderr)
        return exitcode.CRASH
    except OSError as error:
        print(f"spark-drift: {error.strerror}: {error.filename or program}", file=sys.stderr)
        return exitcode.CRASH
    try:
        outcome = produce.produce(directory, waivers=waivers, formats=formats, terminal=produce.terminal_of(sys.stdout))
    except (builder.NoRun, OSError) as error:
        print(f"spark-drift: no report: ansible-playbook ended with {ended}; {error}", file=sys.stderr)
        print(run.tail(), file=sys.stderr)
        return exitcode.CRASH
    for problem in outcome.problems:
        print(f"spark-drift: {problem}", file=sys.stderr)
    print(outcome.console, end="")
    return exitcode.CLEAN if options.exit_zero else int(outcome.report["summary"]["exit_code"])


def ansible_playbook() -> str | None:
    """The one that belongs to this interpreter, or the one on the PATH."""
    beside = Path(sys.executable).with_name("ansible-playbook")
    return str(beside) if os.access(beside, os.X_OK) else shutil.which("ansible-playbook")


def command(options: argparse.Namespace, more: list[str], program: str, playbook: Path) -> list[str]:
    result = [program, "--check", "--diff", str(playbook)]
    for flag, values in (
        ("--inventory", options.inventory),
        ("--limit", [options.limit] if options.limit else []),
        ("--tags", options.tags),
        ("--skip-tags", options.skip_tags),
        ("--extra-vars", options.extra_vars),
    ):
        for value in values:
            result += [flag, value]
    if options.become:
        result.append("--become")
        if _sudo_asks():
            result.append("--ask-become-pass")
    return result + more


def _sudo_asks() -> bool:
    sudo = shutil.which("sudo")
    if os.geteuid() == 0 or sudo is None or not sys.stdin.isatty():
        return False
    return subprocess.run([sudo, "-n", "true"], capture_output=True, timeout=30, check=False).returncode != 0


def environment(directory: Path, outer: Mapping[str, str] | None = None) -> dict[str, str]:
    """Everything by absolute path: a world-writable clone's ansible.cfg is ignored by
    Ansible, and so would be ours from another working directory.

    What an operator set for Ansible stays, but for what the report depends on. Files that
    Ansible would leave in the home or in /tmp go below the output directory.
    """
    env = dict(os.environ if outer is None else outer)
    scratch = directory / ".ansible"
    (scratch / "tmp").mkdir(parents=True, exist_ok=True)
    config = _config(env)
    if config is not None:
        env["ANSIBLE_CONFIG"] = str(config)
    enabled = [name for name in env.get("ANSIBLE_CALLBACKS_ENABLED", "").split(",") if name and name != CALLBACK]
    env |= {
        "ANSIBLE_COLLECTIONS_PATH": ":".join(dict.fromkeys([str(_collections()), *_other_collections(env, config)])),
        "ANSIBLE_CALLBACKS_ENABLED": ",".join([*enabled, CALLBACK]),
        "SPARK_DRIFT_ENABLED": "true",
        "SPARK_DRIFT_DIR": str(directory),
        "SPARK_DRIFT_REPORT": "false",
        "ANSIBLE_STDOUT_CALLBACK": "default",
        "ANSIBLE_NOCOLOR": "true",
        "ANSIBLE_RETRY_FILES_ENABLED": "false",
        "PYTHONUNBUFFERED": "1",
    }
    usual = {
        "ANSIBLE_HOME": str(scratch),
        "ANSIBLE_LOCAL_TEMP": str(scratch / "tmp"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    # A socket's path has 107 bytes, and these programs add names of their own to it. In a
    # clone that is too deep the system's places are used; everybody cleans up there, too.
    if len(str(scratch / "tmp")) <= 70:
        # Modules of a local connection unpack themselves here; ansible-core 2.21 has a socket.
        usual["TMPDIR"] = str(scratch / "tmp")
    if len(str(scratch)) > 60:
        usual["ANSIBLE_SSH_CONTROL_PATH_DIR"] = "~/.ansible/cp"
    return {**usual, **env}


def _config(env: Mapping[str, str]) -> Path | None:
    """The operator's ansible.cfg (named, or in the working directory), else ours."""
    if named := env.get("ANSIBLE_CONFIG"):
        return Path(named).absolute()
    for folder in (Path.cwd(), places.ROOT):
        if (folder / "ansible.cfg").is_file():
            return folder / "ansible.cfg"
    return None


def _collections() -> Path:
    inside = places.ROOT / "collections"
    return inside if (inside / "ansible_collections" / "nusy" / "dgx_spark").exists() else places.ROOT.parents[2]


def _other_collections(env: Mapping[str, str], config: Path | None) -> list[str]:
    """Where Ansible would have looked without us: the variable hides its other settings."""
    if paths := env.get("ANSIBLE_COLLECTIONS_PATH"):
        return [path for path in paths.split(":") if path]
    if config is not None:
        settings = configparser.ConfigParser(interpolation=None, strict=False)
        with contextlib.suppress(configparser.Error, OSError, UnicodeDecodeError):
            settings.read(config, encoding="utf-8")
        if paths := settings.get("defaults", "collections_path", fallback=""):
            return [str(config.parent / Path(path.strip()).expanduser()) for path in paths.split(":") if path.strip()]
    return ["~/.ansible/collections", "/usr/share/ansible/collections"]


_ASKS = ("-k", "-K", "-J", "--ask-pass", "--ask-become-pass", "--ask-vault-pass", "--ask-vault-password")


class Run:
    """ansible-playbook, its words in a log, its tasks as progress."""

    def __init__(self, argv: list[str], env: dict[str, str], log: Path, verbose: bool) -> None:
        self._log = log
        self._verbose = verbose
        self._asked: float | None = None
        # A password prompt needs the terminal. Otherwise a process group of its own: a
        # terminal sends Ctrl-C to a whole group, and two interrupts end Ansible unclean.
        self._apart = not (sys.stdin.isatty() and any(argument in _ASKS for argument in argv))
        _adopt_orphans()
        self._process = subprocess.Popen(
            argv,
            env=env,
            stdin=subprocess.DEVNULL if self._apart else None,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            process_group=0 if self._apart else None,
        )

    def wait(self) -> int:
        """Until it has ended. SIGINT and SIGTERM are handed on once; then it has a limited time."""
        signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        previous = {number: signal.signal(number, self._stop) for number in signals}
        reader = threading.Thread(target=self._read, daemon=True)
        reader.start()
        try:
            while True:
                try:
                    ended = self._process.wait(0.2)
                except subprocess.TimeoutExpired:
                    if self._asked is None or time.monotonic() - self._asked <= GRACE_SECONDS:
                        continue
                    ended = -signal.SIGKILL
                if self._asked is not None:
                    # Also what Ansible left: it ends its workers, not what those started.
                    _kill(_family(os.getpid())[1:])
                return ended
        finally:
            reader.join(2)
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _stop(self, number: int, _frame: object) -> None:
        if self._asked is not None:
            return
        self._asked = time.monotonic()
        # In the terminal's group ansible-playbook has had the terminal's interrupt already.
        if self._apart or number != signal.SIGINT:
            self._process.send_signal(signal.SIGINT)
        print(f"spark-drift: stopping, at most {GRACE_SECONDS:g} s; the report will be partial", file=sys.stderr)

    def _read(self) -> None:
        stream = cast(IO[str], self._process.stdout)
        with self._log.open("w", encoding="utf-8") as log:
            for line in stream:
                log.write(line)
                if self._verbose:
                    sys.stderr.write(text.clean(line.rstrip("\n"), 4000) + "\n")
                elif line.startswith(("TASK [", "RUNNING HANDLER [")):
                    name = line[line.index("[") + 1 :].rpartition("]")[0]
                    print(f"  {text.line(name, 100)}", file=sys.stderr, flush=True)

    def tail(self, lines: int = 25) -> str:
        try:
            said = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(text.clean(line, 500) for line in said[-lines:])


def _adopt_orphans() -> None:
    """Processes that lose their parent become ours (Linux), so that they can be found."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def _family(pid: int) -> list[int]:
    """A process and all below it. Ansible's workers have sessions of their own, so no
    signal to a group reaches them."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            # The name may hold anything, brackets too; the parent is the second word after it.
            parent = int(entry.read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.parent.name))
    family = [pid]
    for member in family:
        family += children.get(member, [])
    return family
