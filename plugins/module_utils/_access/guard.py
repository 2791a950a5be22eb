# SPDX-License-Identifier: GPL-3.0-or-later
"""A change that may cut access undoes itself, unless somebody gets in anew.

Before the first such change of a run the former state is put into a folder, with scripts that bring it
back, and a timer of systemd is started: it needs neither the controller nor the connection. A run that
came in by another login than the one that made the change is the proof, and disarms. A node that loses
its power in between undoes the change at its next boot, before its SSH server starts.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.command import Completed
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError, Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import one_line
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader, Writer

FOLDER = "/var/lib/nusy/access"
ARMED = f"{FOLDER}/armed"
UNDOING = f"{FOLDER}/undoing"
SCRIPT = f"{FOLDER}/undo"
LOGIN = f"{ARMED}/login.json"
NAME = "nusy-access-rollback"
UNIT = f"/etc/systemd/system/{NAME}.service"
WANTED = f"/etc/systemd/system/multi-user.target.wants/{NAME}.service"
SYSTEMCTL = "/usr/bin/systemctl"
# The folder is renamed first: whoever takes it, the timer or the proof, has it alone.
# All of it can be done again: the power may go here, too.
UNDO = f"""\
mv {ARMED} {UNDOING} 2>/dev/null
for part in {UNDOING}/*.sh; do test -e "$part" && sh "$part"; done
rm -rf {UNIT} {WANTED} {UNDOING} {SCRIPT}
"""
SERVICE = f"""\
# Made by role access of nusy.dgx_spark, and gone when the login is proven.
[Unit]
Description=Undo a change of SSH or firewall after which nobody has logged in
After=local-fs.target nusy-firewall.service
Before=ssh.service ssh.socket

[Service]
Type=oneshot
ExecStart=/bin/sh {SCRIPT}

[Install]
WantedBy=multi-user.target
"""
MOST_PARENTS = 40


@dataclass(frozen=True)
class Login:
    """connection: address and port of both ends, which no two logins at a time share."""

    user: str
    connection: str

    @property
    def address(self) -> str:
        return self.connection.split()[0]

    @property
    def local(self) -> str:
        return self.connection.split()[2]

    @property
    def port(self) -> int:
        return int(self.connection.split()[3])


def login(reader: Reader, process: int = 0) -> Login | None:
    """By which SSH login this process was started; None when by none, or when it may not be seen.

    sudo takes SSH_CONNECTION away, so the processes above are asked, too.
    """
    process = process or os.getpid()
    for _step in range(MOST_PARENTS):
        try:
            environment = reader.read(f"/proc/{process}/environ") or ""
            status = reader.read(f"/proc/{process}/status") or ""
        except Unreadable:
            return None
        values = dict(pair.split("=", 1) for pair in environment.split("\0") if "=" in pair)
        connection = values.get("SSH_CONNECTION", "")
        if len(connection.split()) == 4:
            return Login(values.get("LOGNAME") or values.get("USER", ""), connection)
        parents = [line.split()[1] for line in status.splitlines() if line.startswith("PPid:")]
        process = int(parents[0]) if parents else 0
        if process < 1:
            return None
    return None


def armed_by(reader: Reader) -> str | None:
    """The connection of the login that made a change which nobody has proven yet; None when there is none.

    Empty, which is nobody's, while such a change is being undone.
    """
    if reader.stat(UNDOING) is not None:
        return ""
    stat = reader.stat(ARMED)
    if stat is None or stat.kind != "directory" or stat.uid != 0 or not _ready(reader):
        return None
    try:
        return str(json.loads(reader.read(LOGIN) or "")["connection"])
    except (ValueError, KeyError, TypeError):
        return ""


def _ready(reader: Reader) -> bool:
    """Without it nothing was changed yet: it is written before every change, and taken away with all the rest."""
    return reader.stat(LOGIN) is not None


def arm(here: Login, seconds: int, name: str, undo: Sequence[str], files: Sequence[str], reader: Reader,
        writer: Writer) -> None:  # fmt: skip
    """Before the change ``name``: how its files come back, and then the commands of ``undo``.

    What an earlier change has saved and nobody has proven stays as it is: that is the state to come back to.
    """
    _run(writer, [SYSTEMCTL, "stop", f"{NAME}.timer"], may_fail=True)
    if reader.stat(ARMED) is not None and not _ready(reader):
        # Of a run that was killed here, before its change: by now the node may have been changed by others.
        _run(writer, ["/usr/bin/rm", "-rf", ARMED])
    for folder, mode in (("/var/lib/nusy", 0o755), (FOLDER, 0o700), (ARMED, 0o700)):
        if reader.stat(folder) is None:
            writer.mkdir(folder, mode=mode, uid=0, gid=0)
    part = f"{ARMED}/{name}.sh"
    if reader.stat(part) is None:
        lines = []
        for number, path in enumerate(files):
            found = reader.file(path) if reader.stat(path) is not None else None
            if found is None:
                lines.append(f"rm -f {shlex.quote(path)}")
                continue
            stat, text = found
            copy = f"{name}-{number}"
            writer.write(f"{ARMED}/{copy}", text, mode=stat.mode, uid=stat.uid, gid=stat.gid)
            lines.append(f"cp -p {UNDOING}/{copy} {shlex.quote(path)}")
        writer.write(part, "".join(f"{line}\n" for line in (*lines, *undo)), mode=0o600, uid=0, gid=0)
    writer.write(LOGIN, json.dumps({"connection": here.connection}) + "\n", mode=0o600, uid=0, gid=0)
    writer.write(SCRIPT, UNDO, mode=0o600, uid=0, gid=0)
    writer.write(UNIT, SERVICE, mode=0o644, uid=0, gid=0)
    _run(writer, [SYSTEMCTL, "daemon-reload"])
    _run(writer, [SYSTEMCTL, "--quiet", "enable", f"{NAME}.service"])
    timer = [f"--on-active={seconds}s", "--timer-property=AccuracySec=100ms", f"--unit={NAME}.service"]
    _run(writer, ["/usr/bin/systemd-run", "--quiet", *timer])


def disarm(writer: Writer) -> None:
    """The change stays. Raises NodeError when it has been undone already."""
    try:
        writer.rename(ARMED, f"{FOLDER}/proven")
    except FileNotFoundError:
        raise undone() from None
    _run(writer, [SYSTEMCTL, "stop", f"{NAME}.timer"], may_fail=True)
    _clear(writer, f"{FOLDER}/proven")


def undone() -> NodeError:
    return NodeError(
        "access.undone",
        wanted="the proof of a new login in time",
        found="the change was undone when the login came",
        why="what was declared for SSH and firewall is not in place",
        fix="give it more time (access_proof_seconds), then run the play again",
    )


def back(writer: Writer) -> None:
    """At once: a change that could not be made whole."""
    _run(writer, [SYSTEMCTL, "stop", f"{NAME}.timer"], may_fail=True)
    _run(writer, ["/bin/sh", SCRIPT], may_fail=True)
    _clear(writer, UNDOING)


def _clear(writer: Writer, folder: str) -> None:
    _run(writer, ["/usr/bin/rm", "-rf", UNIT, WANTED, folder, SCRIPT])
    _run(writer, [SYSTEMCTL, "daemon-reload"])


def _run(writer: Writer, argv: Sequence[str], *, may_fail: bool = False) -> Completed:
    done = writer.run(argv, timeout=90.0)
    if not done.ok and not may_fail:
        raise NodeError(
            "access.guard",
            wanted="a way back, before anything that may cut access is changed",
            found=f"{' '.join(argv)} {done.ending}: {one_line(done.said())}",
            why="nobody could undo the change from outside",
            fix="mend systemd on this node, then run the play again; this step has changed nothing",
        )
    return done
