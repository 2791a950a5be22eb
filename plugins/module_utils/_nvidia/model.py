# SPDX-License-Identifier: GPL-3.0-or-later
"""What is declared of a node's NVIDIA stack, and what is found of it.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ansible_collections.nusy.dgx_spark.plugins.module_utils._apt.entries import APT, Entry
from ansible_collections.nusy.dgx_spark.plugins.module_utils._nvidia.pacman import Repositories
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import Unknown, confirms
from ansible_collections.nusy.dgx_spark.plugins.module_utils._text.versions import version_in_range
from ansible_collections.nusy.dgx_spark.plugins.module_utils._versions.model import Row

ROLE = "nvidia_toolkit"
CONTROLS = (
    "nvidia_toolkit/gpu",
    "nvidia_toolkit/key",
    "nvidia_toolkit/sources",
    "nvidia_toolkit/driver",
    "nvidia_toolkit/kernels",
    "nvidia_toolkit/driver_match",
    "nvidia_toolkit/versions",
    "nvidia_toolkit/persistence",
    "nvidia_toolkit/smi",
    "nvidia_toolkit/container_toolkit",
    "nvidia_toolkit/cdi",
    "nvidia_toolkit/cdi_podman",
    "nvidia_toolkit/docker_runtime",
    "nvidia_toolkit/docker_legacy",
    "nvidia_toolkit/docker_group",
    "nvidia_toolkit/holds",
    "nvidia_toolkit/file_extra",
)
(GPU, KEY, SOURCES, DRIVER, KERNELS, MATCH, VERSIONS, PERSISTENCE, SMI, TOOLKIT, CDI, PODMAN, DOCKER, LEGACY, GROUP,
 HOLDS, EXTRA) = CONTROLS  # fmt: skip

DGX, UBUNTU, ARCH = "dgx", "ubuntu", "arch"
OURS = f"{APT}/sources.list.d/nusy-nvidia-container-toolkit.sources"
KEYRING = f"{APT}/keyrings/nusy-nvidia-container-toolkit.asc"
DGX_SOURCE = f"{APT}/sources.list.d/dgx.sources"
# NVIDIA's install guide of the container toolkit: address and key.
REPOSITORY_URL = "https://nvidia.github.io/libnvidia-container/stable/deb/$(ARCH)"
REPOSITORY_KEY_URL = "https://nvidia.github.io/libnvidia-container/gpgkey"
REPOSITORY_FINGERPRINT = "C95B321B61E88C1809C4F759DDCAE044F796ECB0"

# At one version since 1.18 (install guide of the container toolkit).
TOOLKIT_PACKAGES = (
    "nvidia-container-toolkit",
    "nvidia-container-toolkit-base",
    "libnvidia-container-tools",
    "libnvidia-container1",
)
# The toolkit that keeps the CDI specification by itself (its release notes).
REFRESHES_SINCE = ">=1.18.0"
# Writes CDI 0.7.0, which Podman reads from 5.1 on (issues 1860, 1865 and 1940 of the toolkit).
NEEDS_PODMAN_5_1 = ">=1.19.1"
PODMAN_READS_IT = ">=5.1"
FLAGS_VARIABLE = "NVIDIA_CTK_CDI_GENERATE_FEATURE_FLAGS"
OUTPUT_VARIABLE = "NVIDIA_CTK_CDI_OUTPUT_FILE_PATH"
PODMAN_FLAG = "no-additional-gids-for-device-nodes"
CDI_ENVIRONMENT = "/etc/nvidia-container-toolkit/nvidia-cdi-refresh.env"
CDI_GENERATED = "/run/cdi/nvidia.yaml"
CDI_BY_HAND = "/etc/cdi/nvidia.yaml"
# The guide of the toolkit has it removed where Podman takes the GPU by CDI.
OCI_HOOK = "/usr/share/containers/oci/hooks.d/oci-nvidia-hook.json"
CDI_SERVICE, CDI_PATH = "nvidia-cdi-refresh.service", "nvidia-cdi-refresh.path"
PERSISTENCED = "nvidia-persistenced.service"
DOCKER_SERVICE = "docker.service"
DAEMON_JSON = "/etc/docker/daemon.json"
RUNTIME_CONFIG = "/etc/nvidia-container-runtime/config.toml"

# Kernels of Ubuntu with prebuilt signed modules of NVIDIA, by the end of their metapackages' names.
KERNEL_METAS = ("nvidia-hwe-24.04", "generic-hwe-24.04", "generic")
# Packages of one branch; nvidia-settings, nvidia-modprobe and libxnvctrl0 have versions of their own.
_OF_BRANCH = re.compile(r"(?:lib)?nvidia-[a-z0-9-]*?-(?P<branch>\d{3})(?:-open|-server|-server-open)?\Z")
_NVIDIA = re.compile(r"(?:lib)?nvidia-|linux-modules-nvidia-|linux-objects-nvidia-")


@dataclass(frozen=True)
class Wanted:
    """``expected``: the GPU is to be there, whatever the bus shows now. driver_packages empty: those of the system."""

    expected: bool
    branch: str
    driver_packages: tuple[str, ...]
    version: str
    repository_url: str
    fingerprint: str
    key: str
    key_url: str
    holds: tuple[str, ...]
    docker_users: tuple[str, ...]
    rows: tuple[Row, ...]
    confirmed: frozenset[str]

    def named(self, package: str) -> bool:
        return confirms(self.confirmed, "package", package)

    def knows(self, row: Row) -> bool:
        """A version that is known to be bad, and wanted all the same."""
        return confirms(self.confirmed, "version", row.id)


@dataclass(frozen=True)
class Docker:
    """live: the runtimes of the running daemon; None if none runs. containers: how many run.

    legacy: those whose GPU systemd does not know of. problem: why the daemon was not asked.
    """

    installed: bool = False
    daemon_json: str | None = None
    active: bool = False
    live: frozenset[str] | None = None
    containers: int = 0
    legacy: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class Kernel:
    """modules: whether its nvidia.ko is there. image, initrd: not empty."""

    release: str
    modules: bool
    image: bool
    initrd: bool

    @property
    def gaps(self) -> tuple[str, ...]:
        there = {"nvidia.ko": self.modules, "vmlinuz": self.image, "initrd": self.initrd}
        return tuple(name for name, found in there.items() if not found)


@dataclass(frozen=True)
class Seen:
    """facts: what ``spark_facts`` finds. units, failed: those that systemd knows, and those whose last run failed.

    generated: the CDI specification of the refresh units is there.
    """

    system: str
    facts: Mapping[str, object]
    installed: Mapping[str, str]
    running: Kernel | Unknown
    next: Kernel | Unknown
    audit: str = ""
    entries: tuple[Entry, ...] | Unknown = ()
    old_lists: tuple[str, ...] = ()
    fingerprints: tuple[str, ...] = ()
    key_problem: str = "absent"
    units: frozenset[str] = frozenset()
    failed: frozenset[str] = frozenset()
    environment: Mapping[str, str] | Unknown = field(default_factory=dict)
    generated: bool = False
    by_hand: bool = False
    oci_hook: bool = False
    docker: Docker = field(default_factory=Docker)
    accounts: frozenset[str] = frozenset()
    # Of Arch alone: the packages of its kernels, and what pacman says of its repositories.
    bases: tuple[str, ...] = ()
    repositories: Repositories = field(default_factory=Repositories)

    @property
    def driver(self) -> str:
        """The version of the installed user space, whatever is loaded; empty if there is none."""
        names = (
            name for name in sorted(self.installed) if name.startswith("libnvidia-compute") or name == "nvidia-utils"
        )
        versions = (self.installed[name] for name in names)
        return next(map(upstream, versions), "")

    @property
    def loaded(self) -> bool:
        """The driver is in the kernel: without it no daemon of it starts, and nothing of it can be generated."""
        gpu = self.facts.get("gpu")
        return isinstance(gpu, Mapping) and bool(gpu.get("module_version"))

    @property
    def gpus(self) -> int | None:
        """On the bus; None: who looks may not see."""
        gpu = self.facts.get("gpu")
        found = gpu.get("pci_addresses") if isinstance(gpu, Mapping) else None
        return len(found) if isinstance(found, list) else None

    def has_any(self, wanted: Wanted) -> bool:
        return wanted.expected or bool(self.gpus) or any(_NVIDIA.match(name) for name in self.installed)


def upstream(version: str) -> str:
    """A package's version without epoch and Debian revision: 580.142-0ubuntu0.24.04.1 is 580.142."""
    return version.partition(":")[2].partition("-")[0] if ":" in version else version.partition("-")[0]


def branch_of(package: str) -> str:
    found = _OF_BRANCH.match(package)
    return found["branch"] if found else ""


def within(version: str, wanted: str) -> bool:
    """False for what is no version: it is not known to be one of these."""
    try:
        return version_in_range(upstream(version), wanted)
    except ValueError:
        return False
