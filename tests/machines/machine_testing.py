# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests do with emulated machines: all that they do with nodes, and what needs a kernel."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1] / "nodes")]

import machines as machine_control
import testinfra
import testing
from apt_repo import APT, SEEN_BY_NODES, AptRepo


@dataclass(frozen=True)
class KernelMachine(testing.Machine):
    """Commands run as root and by a way of their own, so they work while network or SSH is broken."""

    left_out: ClassVar[tuple[str, ...]] = ()

    @property
    def variables(self) -> dict[str, object]:
        return machine_control.variables(self.name)

    @property
    def ssh(self) -> list[str]:
        """The OpenSSH command line as the administrator ops."""
        return machine_control.ssh(self.name)

    @property
    def boot_id(self) -> str:
        return self.read("/proc/sys/kernel/random/boot_id").strip()

    def run(self, *command: str, check: bool = True, timeout: float = 300) -> str:
        return machine_control.get(self.name).agent.run(command, check=check, timeout=timeout)

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*self.ssh, "sudo", *command], stdin=subprocess.DEVNULL)

    def reset(self) -> KernelMachine:
        machine_control.reset(self.name)
        return self

    def restart(self) -> KernelMachine:
        """A real reboot: boot loader, kernel, systemd."""
        machine_control.restart(self.name)
        return self

    def wait_for_reboot(self, before: str) -> None:
        """Until it has booted after the boot with the id ``before``; for reboots that it makes by itself."""
        machine_control.wait_for_reboot(self.name, before)

    def use(self, repository: AptRepo) -> None:
        """As on a node, which sees the host's folder; to a machine it is carried."""
        packed = subprocess.run(["tar", "-C", str(APT), "-c", repository.name], check=True, capture_output=True)
        unpack = [*self.ssh, "sudo", "tar", "-C", SEEN_BY_NODES, "-x", "--no-same-owner"]
        subprocess.run(unpack, input=packed.stdout, check=True, capture_output=True, timeout=120)
        super().use(repository)

    @property
    def outside(self) -> testinfra.host.Host:
        config = machine_control.get(self.name).directory / "ssh_config"
        return testinfra.get_host(f"ssh://{self.name}?ssh_config={config}&sudo=true")


def start(name: str) -> KernelMachine:
    """A machine that ends at the latest with this process."""
    (machine,) = machine_control.up([name], owner=os.getpid())
    return KernelMachine(machine.name, "127.0.0.1")
