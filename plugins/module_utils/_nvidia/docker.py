# SPDX-License-Identifier: GPL-3.0-or-later
"""What Docker is told about the GPU: its file, the daemon that runs, and the containers that would lose it.

The daemon is asked only where it runs already: its socket would start it.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError, Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Step, one_line
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader, Writer
from ansible_collections.nusy.dgx_spark.plugins.module_utils._nvidia.model import (
    DAEMON_JSON,
    DOCKER_SERVICE,
    REFRESHES_SINCE,
    RUNTIME_CONFIG,
    TOOLKIT_PACKAGES,
    Docker,
    within,
)

DOCKER = "/usr/bin/docker"
SYSTEMCTL = "/usr/bin/systemctl"
# The last is that of Arch.
PACKAGES = ("docker-ce", "docker.io", "docker")
# What `nvidia-ctk runtime configure --runtime=docker --cdi.enabled` writes.
RUNTIME = {"path": "nvidia-container-runtime", "args": []}
INFO = '{"runtimes":{{json .Runtimes}},"cgroup":{{json .CgroupDriver}}}'
ABOUT = '{"name":{{json .Name}},"runtime":{{json .HostConfig.Runtime}},"requests":{{json .HostConfig.DeviceRequests}}}'
_MODE = re.compile(r"^\s*mode\s*=\s*\"(\w+)\"", re.MULTILINE)


def observe(reader: Reader, installed: Mapping[str, str]) -> Docker:
    if not any(name in installed for name in PACKAGES):
        return Docker()
    try:
        text = reader.read(DAEMON_JSON)
    except Unreadable as error:
        return Docker(True, problem=str(error))
    active = reader.run([SYSTEMCTL, "is-active", "--quiet", DOCKER_SERVICE]).ok
    if not active:
        return Docker(True, text)
    try:
        info = _asked(reader, "info", "--format", INFO)
        ids = reader.run([DOCKER, "ps", "--quiet", "--no-trunc"], timeout=20)
        names = ids.out.split() if ids.ok else []
        about = reader.run([DOCKER, "inspect", "--format", ABOUT, *names], timeout=20) if names else None
        containers = [json.loads(line) for line in (about.out if about else "").splitlines()]
        live = frozenset(info["runtimes"] or {})
        mode = _MODE.findall(reader.read(RUNTIME_CONFIG) or "")
    except (ValueError, KeyError, TypeError, Unreadable) as error:
        return Docker(True, text, True, problem=f"the daemon could not be asked: {one_line(str(error))}")
    version = installed.get(TOOLKIT_PACKAGES[0], "")
    old = mode[-1:] == ["legacy"] or not within(version, REFRESHES_SINCE)
    # With its own cgroup driver Docker sets the devices, and a daemon-reload of systemd takes none of them away.
    hidden = info.get("cgroup") == "systemd"
    legacy = tuple(str(one["name"]).lstrip("/") for one in containers if hidden and _is_legacy(one, old=old))
    return Docker(True, text, True, live, len(names), legacy)


def _asked(reader: Reader, *arguments: str) -> Mapping[str, Any]:
    done = reader.run([DOCKER, *arguments], timeout=20)
    if not done.ok:
        raise ValueError(f"docker {arguments[0]} {done.ending}: {done.said()}")
    found = json.loads(done.out)
    if not isinstance(found, dict):
        raise ValueError(f"docker {arguments[0]} printed no mapping")
    return found


def _is_legacy(container: Mapping[str, Any], *, old: bool) -> bool:
    """Its GPU came by a hook, behind the back of systemd: --gpus, or the nvidia runtime where that uses hooks."""
    requests = container.get("requests") or ()
    by_flag = any(isinstance(one, dict) and one.get("Driver") in ("", "nvidia") for one in requests)
    return by_flag or (container.get("runtime") == "nvidia" and old)


def merged(text: str | None) -> str:
    """daemon.json with the runtime and CDI, and every other key as it was. Raises ValueError."""
    document = json.loads(text) if text and text.strip() else {}
    if not isinstance(document, dict):
        raise ValueError("it holds no mapping")
    runtimes, features = document.get("runtimes", {}), document.get("features", {})
    if not isinstance(runtimes, dict) or not isinstance(features, dict):
        raise ValueError("runtimes or features is no mapping")
    # A path that somebody chose for the runtime stays.
    nvidia = runtimes.get("nvidia", RUNTIME)
    result = {**document, "runtimes": {**runtimes, "nvidia": nvidia}, "features": {**features, "cdi": True}}
    return text or "" if result == document else json.dumps(result, indent=4) + "\n"


def merge(step: Step, reader: Reader, writer: Writer) -> None:
    """Read anew: what somebody wrote since the look stays."""
    try:
        text = merged(reader.read(step.target))
    except ValueError as error:
        raise NodeError(
            "nvidia.daemon_json",
            wanted=f"{step.target} with the nvidia runtime",
            found=f"it is no JSON: {error}",
            why="Docker does not start with it, and nothing of it may be lost",
            fix=f"mend {step.target} by hand (python3 -m json.tool {step.target})",
        ) from error
    stat = reader.stat(step.target)
    mode, uid, gid = (stat.mode, stat.uid, stat.gid) if stat else (0o644, 0, 0)
    writer.write(step.target, text, mode=mode, uid=uid, gid=gid)


def restart(step: Step, _reader: Reader, writer: Writer) -> None:
    done = writer.run([SYSTEMCTL, "restart", "--", step.target], timeout=300)
    if not done.ok:
        raise NodeError(
            "nvidia.restart",
            wanted=f"{step.target} restarted",
            found=f"systemctl {done.ending}: {one_line(done.said())}",
            why="it goes on with the configuration it had, or not at all",
            fix=f"look at: systemctl status {step.target}; journalctl -u {step.target}",
        )
