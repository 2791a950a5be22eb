# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a node: a real run of ensure_state whose process dies at the effect it is told.

usage: kill_harness.py PARAMETERS MOMENT NUMBER

PARAMETERS is a JSON file with the module's parameters. MOMENT: ``before`` or ``after`` effect
NUMBER, ``inside`` it (a file is written and not yet renamed, a package is being configured), or
``never``: then the effects are printed, one a line. It dies as by a power cut: SIGKILL, to
itself and to every process it has started.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, "/srv/tree")

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.declared import Declared, keep
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import converge
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import HostReader, HostWriter
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.turn import taken
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import parse
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.subject import EnsureState

CONFIGURING = Path("/run/kill-configuring")  # the postinst of the slow package makes it
EFFECTS = ("run", "write", "mkdir", "attributes", "symlink", "remove", "rename", "scratch", "set_kernel_value")


def die(*_ignored: object) -> None:
    for pid in descendants(os.getpid()):
        os.kill(pid, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def descendants(pid: int) -> list[int]:
    parents = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(entry.parent.name)] = int(entry.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = [pid]
    for parent in found:
        found += [child for child, its in parents.items() if its == parent]
    return found[1:]


def die_while_configuring() -> None:
    while not CONFIGURING.exists():
        time.sleep(0.02)
    die()


class Dying(HostWriter):
    """The real writer, until the effect that is its last."""

    def __init__(self, moment: str, last: int, scratch: str) -> None:
        super().__init__(scratch=scratch)
        self.moment, self.last, self.effects = moment, last, []


def counted(name: str):
    real = getattr(HostWriter, name)

    def effect(self: Dying, *arguments, **options):
        first = arguments[0]
        self.effects.append(f"{name} {' '.join(first) if isinstance(first, list | tuple) else first}")
        here = len(self.effects) - 1 == self.last
        if here and self.moment == "before":
            die()
        if here and self.moment == "inside":
            os.replace = die
            threading.Thread(target=die_while_configuring, daemon=True).start()
        done = real(self, *arguments, **options)
        if here:
            die()
        return done

    return effect


for _name in EFFECTS:
    setattr(Dying, _name, counted(_name))


def main() -> None:
    parameters, moment, number = sys.argv[1:]
    given = filled(parse.ARGUMENT_SPEC, json.loads(Path(parameters).read_text()))
    subject = EnsureState(parse.document(given))
    with taken(subject.title) as scratch:
        reader, writer = HostReader(), Dying(moment, int(number), scratch)
        plan = subject.plan(reader)
        keep(Declared(subject.document.role, "ensure_state", {**given, "secrets": {}}), reader, writer)
        converge(subject, plan, reader, writer)
    print("\n".join(writer.effects))


def filled(spec: dict, given: dict) -> dict:
    """What AnsibleModule does with the defaults of nested options."""
    result = {}
    for name, option in spec.items():
        value = given.get(name, option.get("default"))
        if "options" in option and value:
            value = [filled(option["options"], entry) for entry in value]
        result[name] = value
    return result


if __name__ == "__main__":
    main()
