# SPDX-License-Identifier: GPL-3.0-or-later
"""The units of engines: one template for all of a program, and one drop-in with all that is special to one.

So ``systemctl cat vllm@main`` is the whole truth: what is started, with what, and what it may.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from ansible_collections.nusy.dgx_spark.plugins.module_utils._engines.model import LIBEXEC, OOM_SCORE, Engine, Program
from ansible_collections.nusy.dgx_spark.plugins.module_utils._engines.ready import DRAIN, READY
from ansible_collections.nusy.dgx_spark.plugins.module_utils._guard.model import SLICE
from ansible_collections.nusy.dgx_spark.plugins.module_utils._launch.site import API_KEY
from ansible_collections.nusy.dgx_spark.plugins.module_utils._text.systemd import command_line

DROPIN = "engine"
# What engine-ready does after its own last question, and a stop after the drain.
GRACE_SECONDS = 60

# systemd.exec(5). What a program cannot do without is told in its own Program.sandbox.
CLOSED = """\
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
ProtectProc=invisible
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
RemoveIPC=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
SystemCallErrorNumber=EPERM
UMask=0077
"""
# An engine that only computes on processors.
NO_DEVICES = "PrivateDevices=yes\nPrivateUsers=yes\nMemoryDenyWriteExecute=yes\n"


def template(program: Program) -> str:
    """RestartSteps: from 5 s to 5 min, then systemd gives up after 6 starts in an hour, until somebody starts it.

    64 and 78 are the launcher's: trying again mends neither a wrong option nor a missing model.
    """
    return f"""\
# Made by role {program.role}; what is changed by hand is drift.
[Unit]
Description={program.title}, engine %i
Wants=network-online.target
After=network-online.target
RequiresMountsFor=/srv/models
StartLimitIntervalSec=1h
StartLimitBurst=6

[Service]
Type=exec
User={program.user}
Group={program.user}
Slice={SLICE}
OOMScoreAdjust={OOM_SCORE}
# All of its processes go together: what is left of half an engine holds its memory and answers nobody.
OOMPolicy=kill
KillMode=control-group
Restart=always
RestartSec=5s
RestartSteps=5
RestartMaxDelaySec=5min
RestartPreventExitStatus=64 78
LimitNOFILE=65536
{CLOSED}{program.sandbox}
[Install]
WantedBy=multi-user.target
"""


def dropin(engine: Engine, program: Program) -> str:
    where = ["--host", engine.host, "--port", str(engine.port)]
    asked = list(where)
    if engine.tls:
        asked += ["--server-certificate", engine.tls.certificate]
        if engine.tls.client_certificate:
            asked += ["--certificate", engine.tls.client_certificate, "--private-key", engine.tls.client_key]
    ready = ["--model", engine.served, "--seconds", str(engine.start_seconds)]
    credentials = {**({API_KEY: engine.key_file(program)} if engine.key else {}), **engine.credentials}
    others = sorted(other if "." in other else f"{program.prefix}@{other}.service" for other in engine.conflicts)
    unit = engine.unit(program)
    lines = [f"# Made by role {program.role}; what is changed by hand is drift."]
    if others:
        # Any order makes the stop of one come before the start of the other; the same on both sides, it is no circle.
        after = [other for other in others if other < unit]
        before = [other for other in others if other > unit]
        lines += ["[Unit]", f"Conflicts={' '.join(others)}"]
        lines += [f"After={' '.join(after)}"] if after else []
        lines += [f"Before={' '.join(before)}"] if before else []
        lines += [""]
    lines += ["[Service]", f"ExecStart={command_line([f'{LIBEXEC}/{program.launcher}', *engine.words])}"]
    lines += [f"ExecStartPost={command_line([f'{LIBEXEC}/{READY}', *asked, *ready])}"]
    if engine.drain_seconds:
        # systemd hands credentials to what starts a unit, and not to what stops it. So the files themselves are read,
        # by root (!) that has no capability and is in the same sandbox.
        asked = [engine.credentials.get(word.rpartition("/")[2], word) for word in asked]
        drained = ["--key-file", engine.key_file(program)] if engine.key else []
        drained += ["--seconds", str(engine.drain_seconds)]
        lines += [f"ExecStop=!{command_line([f'{LIBEXEC}/{DRAIN}', *asked, *drained])}"]
    lines += [f"TimeoutStartSec={engine.start_seconds + GRACE_SECONDS}"]
    lines += [f"TimeoutStopSec={engine.drain_seconds + GRACE_SECONDS}"]
    lines += [f"LoadCredential={name}:{path}" for name, path in sorted(credentials.items())]
    return "\n".join([*lines, ""])


def trial(engine: Engine, program: Program) -> tuple[str, ...]:
    """What the new command needs, looked at with the rights that it will have, while the old one still runs."""
    launcher = f"{LIBEXEC}/{program.launcher}"
    return ("/usr/sbin/runuser", "-u", program.user, "--", launcher, "--check", "--replacing", *engine.words)
