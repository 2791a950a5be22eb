# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts and removes the nodes of a molecule scenario; called by .config/molecule/*.yml.

usage: molecule.py create|destroy < platforms.json

A platform has a name and groups, as anywhere, and may say:
    machine: container | vm    with a kernel of its own (tests/machines); nothing below goes with it
    flavour: base | full | dgx
    mounts: ["/on/host:/on/node"]
    triton: "3.5.1"     the real binaries of that release, where role ptxas looks by default
    wheels: true        tiny wheels in /srv/wheels, with locks beside them, also in build/cache/wheelhouse
    cuda: "13.0.88"     the real ptxas of that release, in /usr/local/cuda-<major.minor>/bin
    toolkit: "13.0"     a whole toolkit of that release, in /usr/local/cuda-13.0
    cuda_wheels: true   NVIDIA's wheels of a toolkit, in /srv/cuda
    llama: true         an environment with a real llama.cpp in /srv/venv, and a tiny model, /srv/tiny/model.gguf
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
# In front of the installed molecule only for what is imported here.
sys.path[:0] = [
    str(HERE),
    str(HERE.parent / "machines"),
    str(HERE.parent / "tools"),
    *(str(HERE.parent / "integration" / name) for name in ("ptxas", "cuda", "nodes")),
]

import engines
import identity
import image
import machines
import nodes
import parts
import tiny_gguf
import wheelhouse
import wheels

SITE_PACKAGES = "/opt/nusy/venvs/vllm/current/lib/python3.13/site-packages"


def vm(platform: dict[str, Any]) -> bool:
    return platform.get("machine") == "vm"


def create(platforms: list[dict[str, Any]]) -> list[dict[str, object]]:
    """Start the nodes; returns what molecule wants to know about each."""
    for platform in platforms:
        if vm(platform):
            machines.up([platform["name"]])
            continue
        mounts = list(platform.get("mounts", []))
        if version := platform.get("triton"):
            mounts.append(f"{wheels.binaries('triton', version)}:{SITE_PACKAGES}")
        if platform.get("wheels"):
            mounts.append(f"{wheelhouse.demo(HERE.parents[1] / 'build' / 'cache' / 'wheelhouse')}:/srv/wheels")
        if version := platform.get("cuda"):
            folder = f"/usr/local/cuda-{'.'.join(version.split('.')[:2])}/bin"
            mounts.append(f"{wheels.ptxas('nvidia-cuda-nvcc', version).parent}:{folder}")
        if release := platform.get("toolkit"):
            mounts.append(f"{parts.toolkit()}:/usr/local/cuda-{release}")
        if platform.get("cuda_wheels"):
            mounts.append(f"{parts.wheels()}:/srv/cuda")
        if platform.get("llama"):
            tiny = HERE.parents[1] / "build" / "molecule" / "tiny"
            tiny.mkdir(parents=True, exist_ok=True)
            tiny_gguf.write(tiny / "model.gguf")
            packages = f"{engines.site_packages()}:/srv/venv/lib/python3.13/site-packages"
            mounts += [packages, f"{tiny}:/srv/tiny"]
        nodes.up([platform["name"]], flavour=platform.get("flavour", "base"), mounts=mounts)
    return [
        {
            "instance": platform["name"],
            "address": platform["name"],  # the SSH configuration knows the rest
            "user": image.USER,
            # Named by molecule on the command line of ssh, where the SSH configuration no longer counts.
            "port": machines.get(platform["name"]).port if vm(platform) else 22,
            "identity_file": str(machines.get(platform["name"]).key if vm(platform) else identity.KEY),
        }
        for platform in platforms
    ]


def main() -> int:
    if sys.argv[1:] not in (["create"], ["destroy"]):
        print(__doc__, file=sys.stderr)
        return 64
    platforms = json.load(sys.stdin)
    if sys.argv[1] == "create":
        print(json.dumps(create(platforms)))
    else:
        machines.down([platform["name"] for platform in platforms if vm(platform)])
        nodes.down([platform["name"] for platform in platforms if not vm(platform)])
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (nodes.NodesError, wheels.Unavailable) as error:
        sys.exit(f"molecule.py: {error}")
