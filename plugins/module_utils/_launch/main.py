# SPDX-License-Identifier: GPL-3.0-or-later
"""A launcher: check, then become the engine.

``exec`` and no child: signals, exit code and limits of the unit are the engine's. Changes nothing.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from ansible_collections.nusy.dgx_spark.plugins.module_utils._launch import options, site
from ansible_collections.nusy.dgx_spark.plugins.module_utils._launch.engines import LAUNCHERS, Launcher
from ansible_collections.nusy.dgx_spark.plugins.module_utils._launch.site import Check, Site

# sysexits.h: what a unit names in RestartPreventExitStatus=, as trying again does not help.
CONFIGURATION = 78


def main(name: str, words: Sequence[str], caller: Mapping[str, str], suite: str = "") -> int:
    """The exit code; a start that succeeds does not return."""
    launcher = LAUNCHERS[name]
    given = _options(launcher, words)
    found = site.look(given.paths, given.environment or site.ENVIRONMENTS, caller, suite)
    key, credential = site.api_key(caller)
    found = replace(found, checks=(*found.checks, *([credential] if credential else [])))
    checks = checked(launcher, given, found)
    if given.check:
        return _report(checks)
    for check in checks:
        if check.problem:
            sys.stderr.write(
                f"{name}: not started: {check.name}: {check.problem}. Why it matters: {check.why}. "
                f"What to do: {check.fix}. Everything at once: {name} --check …\n"
            )
            return CONFIGURATION
    command = launcher.command(given, found)
    environment = found.environment(launcher.executed(found), launcher.own(given))
    environment.update({launcher.key: key} if launcher.key and key else {})
    if given.print:
        for variable, value in site.shown(environment).items():
            options.say(f"{variable}={shlex.quote(value)}")
        options.say(shlex.join(command))
        return 0
    # Python ignores it, and what is executed would go on doing so.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    try:
        os.execve(command[0], command, environment)
    except OSError as error:
        sys.stderr.write(
            f"{name}: not started: {command[0]}: {error.strerror}. Why it matters: it is there and cannot run. "
            "What to do: apply role vllm_venv, which proves its programs.\n"
        )
    return CONFIGURATION


def checked(launcher: Launcher, given: Namespace, found: Site) -> Iterator[Check]:
    """Every precondition, in order. What cannot be judged since an earlier one fails is left out."""
    yield from found.checks
    if any(check.problem for check in found.checks if check.name == "paths"):
        return
    programs = [site.binary(found, name) for name in (launcher.executed(found), *launcher.needs)]
    yield from programs
    if not any(check.problem for check in (*found.checks, *programs)):
        yield from launcher.checks(given, found)


def _report(checks: Iterator[Check]) -> int:
    failed = 0
    for check in checks:
        failed += bool(check.problem)
        if check.problem:
            options.say(f"FAIL {check.name}: {check.problem}. Why it matters: {check.why}. What to do: {check.fix}.")
        else:
            options.say(f"PASS {check.name}: {check.found}")
    return 1 if failed else 0


def _options(launcher: Launcher, words: Sequence[str]) -> Namespace:
    """What comes after ``--`` goes to the engine as it is."""
    parser = options.Parser(launcher.name, f"Start {launcher.summary}. Options of the engine follow after --.")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true", help="say what holds and what does not; start nothing")
    parser.add_argument(
        "--replacing", action="store_true", help="with --check: leave out what the engine that runs now still holds"
    )
    mode.add_argument("--print", action="store_true", help="print environment and command line; start nothing")
    parser.add_argument("--paths", default=site.PATHS, metavar="FILE", help=f"default {site.PATHS}")
    parser.add_argument(
        "--environment", action="append", metavar="FILE", help=f"may be repeated, default {' '.join(site.ENVIRONMENTS)}"
    )
    launcher.add(parser)
    cut = list(words).index("--") if "--" in words else len(words)
    given = parser.parse_args(list(words[:cut]))
    given.engine = list(words[cut + 1 :])
    again = options.refused(given.engine, launcher.reserved)
    if again:
        secret = "a secret there is in the list of processes: use the environment" if "-key" in again else ""
        parser.error(f"{again} after --: {secret or 'the launcher answers for it, use its own option'}")
    return given
