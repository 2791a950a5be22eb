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
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift import (
    builder,
    events,
    exitcode,
    places,
    produce,
    refusal,
)
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift import waivers as waiver_file
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.process import Run
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.refusal import Refusal

CALLBACK = "nusy.dgx_spark.drift"
LOG = "ansible-playbook.log"
# What Ansible would leave in the home or in /tmp.
SCRATCH = ".ansible"

_EPILOG = """\
exit codes: 0 clean | 2 drift | 3 unknown, unreachable or incomplete | 4 bad waiver file |
1 no report could be made | 64 wrong usage. The first of 1, 4, 3, 2, 0 that applies.

Everything after a lone -- goes to ansible-playbook as it is. The report is index.html and
report.json in the output directory, what ansible-playbook said is in ansible-playbook.log.
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        raise Refusal(
            "usage",
            wanted="options as spark-drift knows them",
            found=message,
            why="guessing what was meant could look at other machines than you think",
            fix="spark-drift --help lists them; what is for ansible-playbook goes after a lone --",
        )


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
    try:
        return _report(parser().parse_args(given[:cut]), given[cut + 1 :])
    except Refusal as refused:
        print(refused, file=sys.stderr)
        return refused.code
    except KeyboardInterrupt:  # after the run, while the report was made
        print("spark-drift: stopped; the report may not be there or not be whole", file=sys.stderr)
        return exitcode.CRASH


def _report(options: argparse.Namespace, more: list[str]) -> int:
    formats = produce.DEFAULT_FORMATS if options.formats is None else tuple(options.formats.split(","))
    if unknown := [name for name in formats if name not in produce.FORMATS]:
        parser().error(f"--formats: not one of {', '.join(produce.FORMATS)}: {', '.join(unknown)}")
    playbook = Path(options.playbook) if options.playbook else places.ROOT / "site.yml"
    if not playbook.is_file():
        raise Refusal(
            "playbook_missing",
            wanted=f"a playbook, as --playbook {playbook} says",
            found=f"no file at {playbook.absolute()}",
            why="it declares what the machines are held against",
            fix="name a file that exists, or leave --playbook out for site.yml of the collection",
        )
    refusal.inventories_exist(options.inventory)
    program = ansible_playbook()
    if program is None:
        raise Refusal(
            "ansible_missing",
            wanted="ansible-playbook, which does the looking",
            found=f"none beside {sys.executable} and none on the PATH",
            why="without it no machine can be asked",
            fix="make drift, which installs it into .venv; or install ansible-core 2.19 or newer",
            code=exitcode.CRASH,
        )
    directory = places.directory(options.output)
    waivers = places.waivers(options.waivers)
    # Said before a long run, not after it; the run goes on, what is usable counts.
    for problem in waiver_file.read(waivers)[1]:
        print(f"spark-drift: waiver file: {problem}", file=sys.stderr)
    env = environment(directory)
    argv = command(options, more, program, playbook)
    _claim(directory)
    try:
        run = Run(argv, env, directory / LOG, options.verbose)
        ended = run.wait()
    except OSError as error:
        raise _unusable(directory, error) from error

    def hostless() -> Refusal | None:
        return refusal.without_hosts(program, options.inventory, options.limit, env)

    try:
        outcome = produce.produce(
            directory,
            waivers=waivers,
            formats=formats,
            terminal=produce.terminal_of(sys.stdout),
            prefix=prefix(env, playbook),
        )
    except builder.NoRun as error:
        raise (None if run.stopped else hostless()) or Refusal(
            "no_run",
            wanted="a run of ansible-playbook to report on",
            found=f"it ended with {ended}: {refusal.last_words(run.said())}" if not run.stopped else "it was stopped",
            why=f"{error}, so nothing is known about any machine",
            fix=f"mend what it says; all of it is in {directory / LOG}",
            code=exitcode.CRASH,
        ) from error
    except OSError as error:
        raise _unusable(directory, error) from error
    if not outcome.report["hosts"] and not run.stopped:
        produce.clear(directory)
        raise hostless() or refusal.no_play_for(playbook, options.inventory)
    for problem in outcome.problems:
        print(f"spark-drift: {problem}", file=sys.stderr)
    print(outcome.console, end="")
    return exitcode.CLEAN if options.exit_zero else int(outcome.report["summary"]["exit_code"])


def _claim(directory: Path) -> None:
    """The report's folder for this process until it ends, without what the last run left."""
    try:
        events.Lock(directory)
        produce.clear(directory)
        for name in (events.FILE, LOG):
            (directory / name).unlink(missing_ok=True)
        (directory / SCRATCH / "tmp").mkdir(parents=True, exist_ok=True)
    except events.Foreign as error:
        raise Refusal(
            "output_foreign",
            wanted=f"a folder for the report: {directory}",
            found=str(error),
            why="index.html, report.json and others are replaced there, and what lies in it decides where they go",
            fix="name a new folder with -o, or one of your own that is empty or had a report before",
        ) from error
    except events.Busy as error:
        raise Refusal(
            "output_busy",
            wanted=f"{directory} for this run alone",
            found=str(error),
            why="two runs in one folder would make one report of two truths",
            fix="wait for the other run, or name another folder with -o",
            code=exitcode.CRASH,
        ) from error
    except OSError as error:
        raise _unusable(directory, error) from error


def _unusable(directory: Path, error: OSError) -> Refusal:
    return Refusal(
        "output_unusable",
        wanted=f"to write the report into {directory}",
        found=f"{error.strerror}: {error.filename or directory}",
        why="without events, log and report of the run nothing can be told",
        fix="name a folder that you can write to, with room, as -o DIR (make drift ARGS='-o DIR')",
        code=exitcode.CRASH,
    )


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
    scratch = directory / SCRATCH
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
        # Hosts of an inventory that cannot be read would be missing in the report.
        "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "true",
    }
    # A socket's path has 107 bytes, and these programs add names of their own to it. In a
    # clone that is too deep the system's places are used; everybody cleans up there, too.
    if len(str(scratch / "tmp")) <= 70:
        # Modules of a local connection unpack themselves here; ansible-core 2.21 has a socket.
        usual["TMPDIR"] = str(scratch / "tmp")
    if len(str(scratch)) > 60:
        usual["ANSIBLE_SSH_CONTROL_PATH_DIR"] = "~/.ansible/cp"
    return {**usual, **env}


def prefix(env: Mapping[str, str], playbook: Path) -> list[str]:
    """What a plain ansible-playbook, called from here, does not find by itself: the settings
    and the collection that this run was given by absolute path."""
    here, config = Path.cwd(), env.get("ANSIBLE_CONFIG", "")
    settings = []
    if config == str(places.ROOT / "ansible.cfg") and (here != places.ROOT or here.stat().st_mode & 0o002):
        settings.append(f"ANSIBLE_CONFIG={config}")
    others = _other_collections(os.environ, Path(config) if config else None)
    # Ansible looks into `collections` beside a playbook, too.
    if str(_collections()) not in map(os.path.expanduser, others) and playbook.resolve().parent != places.ROOT:
        settings.append(f"ANSIBLE_COLLECTIONS_PATH={env['ANSIBLE_COLLECTIONS_PATH']}")
    return ["env", *settings] if settings else []


def _config(env: Mapping[str, str]) -> Path | None:
    """The operator's ansible.cfg (named, or in the working directory), else ours."""
    if named := env.get("ANSIBLE_CONFIG"):
        return Path(named).absolute()
    here, ours = Path.cwd() / "ansible.cfg", places.ROOT / "ansible.cfg"
    if here != ours and here.is_file() and _counts(here):
        return here
    return ours if ours.is_file() else None


def _counts(config: Path) -> bool:
    """Whether Ansible would take these settings by itself: they name programs and plugins to run.

    Given by absolute path, as here, it takes any.
    """
    if config.parent.stat().st_mode & stat.S_IWOTH:
        print(
            f"spark-drift: {config} does not count, since everybody can write into that folder; "
            "ANSIBLE_CONFIG names the settings to take",
            file=sys.stderr,
        )
        return False
    # Who owns a link has chosen the settings, too.
    owners = {config.lstat().st_uid, config.stat().st_uid}
    if strangers := owners - {0, os.geteuid()}:
        raise Refusal(
            "config_foreign",
            wanted=f"settings of yours or of root in {config}",
            found=f"a file of user {min(strangers)}, while this is run by user {os.geteuid()}",
            why="ansible.cfg names programs and plugins, which would run with your rights",
            fix=f"look from another folder, or say that you trust it: env ANSIBLE_CONFIG={config} …",
        )
    return True


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
