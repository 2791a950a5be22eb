# SPDX-License-Identifier: GPL-3.0-or-later
"""Why ``bin/spark-drift`` makes no report: in four parts, with a key and the exit code.

A report about no machine would look clean. So whatever names a machine, a file or a folder
that is not there ends as wrong usage, and whatever broke on the way ends as a crash.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift import exitcode, text

NAMES_SHOWN = 8
LOOK_SECONDS = 120.0
_ERROR = re.compile(r"\[ERROR\]|ERROR!|\S+: error: ")


class Refusal(Exception):
    """``code`` is ``USAGE`` when other arguments help, else ``CRASH``."""

    def __init__(self, key: str, *, wanted: str, found: str, why: str, fix: str, code: int = exitcode.USAGE) -> None:
        self.code = code
        parts = (("wanted", wanted), ("found", found), ("why", why), ("to do", fix))
        told = "".join(f"\n  {name + ':':<7} {text.clean(said)}" for name, said in parts)
        super().__init__(f"spark-drift: cannot go on [drift.{key}]{told}")


def inventories_exist(sources: Sequence[str]) -> None:
    """Ansible takes a missing inventory for an empty one, and goes on."""
    for source in sources:
        # With a comma it is a list of hosts. Without, Ansible makes a path of it, always.
        if "," not in source and not Path(source).expanduser().exists():
            raise Refusal(
                "inventory_missing",
                wanted=f"an inventory, as -i {source} says",
                found=f"nothing at {Path(source).expanduser().absolute()}",
                why="it says which machines to look at, and a report about none of them would look clean",
                fix="name a file or folder that exists; `ls inventories` lists those of a clone",
            )


def without_hosts(program: str, sources: Sequence[str], limit: str | None, env: Mapping[str, str]) -> Refusal | None:
    """Why a run met no host, as Ansible itself sees the inventory; None when it is not that."""
    asked = [argument for source in sources for argument in ("--inventory", source)]
    named = ", ".join(sources) or "the default inventory"
    hosts, trouble = _hosts(program, asked, env)
    if hosts is None:
        return Refusal(
            "inventory_unusable",
            wanted=f"an inventory that Ansible can read: {named}",
            found=trouble,
            why="hosts that it cannot read would be missing in the report, and nobody would notice",
            fix=f"mend the file; `ansible-inventory {' '.join(asked)} --graph` says more".replace("  ", " "),
        )
    if not hosts:
        return Refusal(
            "inventory_empty",
            wanted="at least one host to look at",
            found=f"no host in {named}",
            why="a report about no machine would look clean",
            fix="add hosts to it, or name another inventory with -i",
        )
    known = _some(hosts)
    if limit and not _hosts(program, [*asked, "--limit", limit], env)[0]:
        return Refusal(
            "limit_matches_nothing",
            wanted=f"hosts or groups that --limit {limit} names",
            found=f"none of them in {named}, which has {known}",
            why="a report about no machine would look clean",
            fix="correct the name, or leave --limit out",
        )
    return None


def no_play_for(playbook: Path, sources: Sequence[str]) -> Refusal:
    return Refusal(
        "no_host_in_plays",
        wanted=f"a play in {playbook} that is for a host of {', '.join(sources) or 'the default inventory'}",
        found="none: no group or host that its plays name is in the inventory, or in --limit",
        why="a report about no machine would look clean",
        fix="put the hosts into the groups that the plays name (site.yml: spark), or choose another playbook",
    )


def _hosts(program: str, arguments: Sequence[str], env: Mapping[str, str]) -> tuple[list[str] | None, str]:
    """The hosts that Ansible finds, or None and what it said."""
    beside = Path(program).with_name("ansible")
    argv = [str(beside) if os.access(beside, os.X_OK) else "ansible", "all", "--list-hosts", *arguments]
    quiet = {**env, "SPARK_DRIFT_ENABLED": "false", "ANSIBLE_CALLBACKS_ENABLED": ""}
    try:
        done = subprocess.run(
            argv,
            env=quiet,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LOOK_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, f"ansible could not list it: {error}"
    if done.returncode:
        return None, last_words(done.stderr)
    return [line.strip() for line in done.stdout.splitlines() if line.startswith("    ")], ""


def last_words(said: str) -> str:
    """What Ansible complained about, without the rest: its errors, else its last lines."""
    lines = [line for line in said.splitlines() if line.strip()]
    errors = [number for number, line in enumerate(lines) if _ERROR.match(line)]
    return text.line(" ".join(lines[errors[0] :] if errors else lines[-3:])) or "it said nothing"


def _some(hosts: Sequence[str]) -> str:
    more = f" and {len(hosts) - NAMES_SHOWN} more" if len(hosts) > NAMES_SHOWN else ""
    return ", ".join(text.line(name, 60) for name in hosts[:NAMES_SHOWN]) + more
