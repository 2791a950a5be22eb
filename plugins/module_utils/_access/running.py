# SPDX-License-Identifier: GPL-3.0-or-later
"""The SSH server that runs: what its command line says, and which of its files it has not read.

``sshd -T`` reads the files as they are now. That is what the running one goes by only if it was started or
reloaded after they were written, and with no options that count more.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import getopt
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.units import SYSTEMCTL, parse_show
from ansible_collections.nusy.dgx_spark.plugins.module_utils._text.systemd import parse_environment

SERVICE, SOCKET = "ssh.service", "ssh.socket"
# Debian and Ubuntu start sshd with what SSHD_OPTS says there.
DEFAULTS = "/etc/default/ssh"
COMMAND_LINE = f"the command line of {SERVICE} (SSHD_OPTS in {DEFAULTS})"
# sshd(8), of OpenSSH 9.6 to 10. Those of COUNTING say what a file may say, too.
OPTIONS = "46DGMTVdeiqrtxc:C:E:f:g:h:k:b:o:p:u:R"
COUNTING = ("-o", "-p", "-4", "-6")
# How OpenSSH calls the process that listens; all of its command line is in there.
TITLE = re.compile(r"^sshd: (\S*sshd.*?) \[listener\]")


@dataclass(frozen=True)
class Running:
    """options: for ``sshd -T``. since: when it last read its files; 0: there is none that runs on.

    sockets: ends of ``ssh.socket``, if that listens. problem: why nobody can tell what it goes by.
    """

    options: tuple[str, ...] = ()
    since: float = 0.0
    sockets: tuple[str, ...] = ()
    problem: str = ""

    @property
    def said(self) -> str:
        """Its options as lines of a file, to look for what sets a keyword."""
        pairs = zip(self.options, self.options[1:], strict=False)
        return "\n".join(value if flag == "-o" else f"Port {value}" for flag, value in pairs if flag in ("-o", "-p"))


def observe(reader: Reader) -> Running:
    asked = ("Id", "ActiveState", "MainPID", "StateChangeTimestampMonotonic")
    blocks = parse_show(reader.run([SYSTEMCTL, "show", SERVICE, f"--property={','.join(asked)}"]).out)
    service = next(iter(blocks), {})
    number = int(service.get("MainPID") or 0)
    words = _words(reader.read(f"/proc/{number}/cmdline") or "") if number else []
    later = parse_environment(reader.read(DEFAULTS) or "").get("SSHD_OPTS", "").split()
    try:
        # What the next start would bring counts as well: it is only dormant.
        found = [pair for some in (words, later) for pair in getopt.getopt(some, OPTIONS)[0]]
    except getopt.GetoptError as error:
        return Running(problem=f"{COMMAND_LINE}: {error}")
    named = [value for flag, value in found if flag == "-f"]
    if named:
        return Running(problem=f"{COMMAND_LINE}: it reads {named[0]} in place of the files that this role judges")
    counting = dict.fromkeys(pair for pair in found if pair[0] in COUNTING)
    return Running(
        options=tuple(word for flag, value in counting for word in (flag, value) if word),
        since=boot_time() + int(service.get("StateChangeTimestampMonotonic") or 0) / 1e6 if number else 0.0,
        sockets=_sockets(reader),
    )


def boot_time() -> float:
    """What systemd counts from, by the clock as it is now. It stands still while the node sleeps: so what was read
    before that seems to be read later, and no file that was read seems unread for ever."""
    return time.time() - time.monotonic()


def _words(title: str) -> Sequence[str]:
    match = TITLE.match(title.replace("\0", " "))
    return (match[1].split() if match else title.split("\0"))[1:]


def _sockets(reader: Reader) -> tuple[str, ...]:
    done = reader.run([SYSTEMCTL, "show", SOCKET, "--property=ActiveState,Listen"])
    if not done.ok or "ActiveState=active" not in done.out:
        return ()
    ends = [line.partition("=")[2].split()[0] for line in done.out.splitlines() if line.startswith("Listen=")]
    return tuple(end for end in ends if end.rpartition(":")[2].isdigit())


def ports(running: Running, effective: Mapping[str, str]) -> tuple[int, ...]:
    """Where SSH is listened on: by systemd for it, or by sshd itself."""
    # sshd says where it listens even if nobody told it; ``port`` does not count where an address has one.
    configured = effective.get("listenaddress", "").split()
    configured = configured or [f":{port}" for port in effective.get("port", "22").split()]
    return tuple(sorted({int(end.rpartition(":")[2]) for end in running.sockets or configured}))


def unread(running: Running, paths: Iterable[str], reader: Reader) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What has changed since the server read it; and of what nobody can tell, since a clock that was ahead dated it."""
    stats = {path: reader.stat(path) for path in paths}
    later = {
        path: stat.changed for path, stat in stats.items() if running.since and stat and stat.changed > running.since
    }
    now = time.time()
    return tuple(p for p, at in later.items() if at <= now), tuple(p for p, at in later.items() if at > now)
