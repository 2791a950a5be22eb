# SPDX-License-Identifier: GPL-3.0-or-later
"""What the roles prereqs and ptxas ensure, as a pyinfra deploy, in pyinfra's own idiom.

The values are read from the roles' defaults, so that both are asked for the same.
"""

from __future__ import annotations

import io
import shlex
from pathlib import Path

import yaml
from pyinfra import host
from pyinfra.api import FactBase
from pyinfra.facts.deb import DebPackages
from pyinfra.operations import apt, files, server, systemd

BENCH = Path(__file__).resolve().parents[1]
ROLES = BENCH.parents[1] / "roles"
USER = "nusy"
CANDIDATE = "/usr/local/cuda-13.0/bin/ptxas"


def defaults(role: str) -> dict:
    return yaml.safe_load((ROLES / role / "defaults" / "main.yml").read_text())


class PtxasEnvironment(FactBase[str]):
    """The environment file that the Triton on the node needs."""

    def command(self, venv: str, arch: str, candidate: str) -> str:
        script = (BENCH / "look_at_ptxas.sh").read_text()
        return shlex.join(["sh", "-c", script, "look_at_ptxas", venv, arch, candidate])

    def process(self, output: list[str]) -> str:
        return "".join(f"{line}\n" for line in output)


node, ptxas = defaults("prereqs"), defaults("ptxas")

for kind in ("tools", "build", "fabric"):
    apt.packages(name=f"Packages: {kind}", packages=node[f"prereqs_packages_{kind}"], _sudo=True)

# A time service that is there is adopted, otherwise the first one is installed.
services = list(zip(*(node[f"prereqs_time_{part}"].split(" | ") for part in ("packages", "units")), strict=True))
installed = host.get_fact(DebPackages, _sudo=True)
package, unit = next((pair for pair in services if pair[0] in installed), services[0])
apt.packages(name="Time service package", packages=[package], _sudo=True)
systemd.service(name="Time service", service=unit, running=True, enabled=True, _sudo=True)

server.group(name="Service group", group=USER, system=True, _sudo=True)
server.user(
    name="Service user",
    user=USER,
    group=USER,
    groups=node["prereqs_user_groups"],
    home=node["prereqs_root_code"],
    shell="/usr/sbin/nologin",
    comment="nusy services",
    system=True,
    ensure_home=False,
    _sudo=True,
)
for name, owner in (("config", "root"), ("state", "root"), ("code", USER), ("models", USER)):
    files.directory(
        name=f"Root: {name}", path=node[f"prereqs_root_{name}"], user=owner, group=owner, mode="755", _sudo=True
    )

environment = host.get_fact(
    PtxasEnvironment, venv=host.data.ptxas_venv, arch=ptxas["ptxas_arch"], candidate=CANDIDATE, _sudo=True
)
files.put(
    name="Environment of ptxas",
    src=io.BytesIO(environment.encode()),
    dest=ptxas["ptxas_environment_file"],
    user="root",
    group="root",
    mode="644",
    _sudo=True,
)
