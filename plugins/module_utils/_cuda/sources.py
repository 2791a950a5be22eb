# SPDX-License-Identifier: GPL-3.0-or-later
"""The apt repository that CUDA comes from: which there is, which there should be, and its key.

A second source with the same address and another Signed-By stops apt altogether, for every
package. So one that somebody has configured is adopted, and ours is added where there is none.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.nusy.dgx_spark.plugins.module_utils._apt import keys
from ansible_collections.nusy.dgx_spark.plugins.module_utils._apt.entries import APT, Entry, address, configured
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import Unknown

OURS = f"{APT}/sources.list.d/nusy-cuda.sources"
KEYRING = f"{APT}/keyrings/nusy-cuda.asc"
PINS = f"{APT}/preferences.d/nusy-cuda"
# What NVIDIA's own systems have; never to be removed in favour of another.
NVIDIA = f"{APT}/sources.list.d/cuda-compute-repo.sources"
NVIDIA_URL = "https://developer.download.nvidia.com/compute/cuda/repos"
# Its name for a machine is not always that of uname: arm64 there is another, nearly empty repository.
MACHINES = {"aarch64": "sbsa", "x86_64": "x86_64"}
# Systems whose repository NVIDIA signs with the key that is declared by default.
SYSTEMS = {
    ("ubuntu", "22.04"): ("ubuntu2204", ("aarch64", "x86_64")),
    ("ubuntu", "24.04"): ("ubuntu2404", ("aarch64", "x86_64")),
    ("debian", "12"): ("debian12", ("x86_64",)),
}
# That repository has drivers, too, in newer versions than the system's, and an upgrade would mix both.
DRIVERS = (
    *("cuda-drivers*", "nvidia-open*", "nvidia-driver-*", "nvidia-dkms-*", "nvidia-kernel-*", "nvidia-firmware-*"),
    *("nvidia-headless-*", "nvidia-compute-utils*", "nvidia-utils*", "nvidia-settings*", "nvidia-modprobe*"),
    *("nvidia-persistenced*", "nvidia-fabricmanager*", "nvidia-imex*", "xserver-xorg-video-nvidia*", "libxnvctrl*"),
    # Not libnvidia-*: the container toolkit is libnvidia-container.
    *("libnvidia-cfg*", "libnvidia-common*", "libnvidia-compute*", "libnvidia-decode*", "libnvidia-encode*"),
    *("libnvidia-extra*", "libnvidia-fbc*", "libnvidia-gl*", "libnvidia-gpucomp*", "libnvidia-nscq*"),
)


@dataclass(frozen=True)
class Seen:
    """entries: those of the wanted address. alone: files that hold nothing else. fingerprints: of our key file.

    pinned: our pins are there.
    """

    entries: tuple[Entry, ...]
    alone: frozenset[str]
    fingerprints: tuple[str, ...]
    key_problem: str = ""
    pinned: bool = False

    @property
    def foreign(self) -> tuple[Entry, ...]:
        return tuple(entry for entry in self.entries if entry.file != OURS)


def nvidia_url(reader: Reader, machine: str) -> str | Unknown:
    """NVIDIA's repository for this system."""
    try:
        text = reader.read("/etc/os-release") or ""
    except Unreadable as error:
        return Unknown(str(error))
    release = {key: value.strip("\"'") for key, _equals, value in (line.partition("=") for line in text.splitlines())}
    system = (release.get("ID", ""), release.get("VERSION_ID", ""))
    name, machines = SYSTEMS.get(system, ("", ()))
    if machine not in machines:
        what = " ".join(part for part in (*system, f"on {machine}") if part)
        return Unknown(f"unsupported platform: no repository of NVIDIA is known for {what}; declare repository_url")
    return f"{NVIDIA_URL}/{name}/{MACHINES[machine]}/"


def observe(reader: Reader, url: str) -> Seen | Unknown:
    wanted = address(url)
    try:
        every = configured(reader)
        found, problem = keys.observe(reader, KEYRING)
        pinned = reader.stat(PINS) is not None
    except Unreadable as error:
        return Unknown(str(error))
    mine = tuple(entry for entry in every if address(entry.uri) == wanted)
    others = {entry.file for entry in every if address(entry.uri) != wanted}
    alone = frozenset(entry.file for entry in mine) - others
    return Seen(mine, alone, found, problem, pinned)


def stanza(url: str) -> str:
    return (
        "# NVIDIA's CUDA packages. Written by role cuda_toolchain of nusy.dgx_spark.\n"
        f"Types: deb\nURIs: {url}\nSuites: /\nSigned-By: {KEYRING}\n"
    )


def pins() -> str:
    """By the label of the repository, which a mirror keeps; its host may have the system's packages, too."""
    return (
        "# The driver comes from the system. Written by role cuda_toolchain of nusy.dgx_spark.\n"
        f"Package: {' '.join(DRIVERS)}\nPin: release l=NVIDIA CUDA\nPin-Priority: -1\n"
    )
