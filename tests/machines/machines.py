# SPDX-License-Identifier: GPL-3.0-or-later
"""Test machines with a kernel of their own: emulated, reached by OpenSSH as any managed machine.

    machines.py doctor                 what this host lacks
    machines.py image                  build what they start from, once
    machines.py up m                   switch a machine on; inventory in build/machines/inventory.yml
    machines.py exec m -- swapon       as root, without SSH
    machines.py ssh m -- uptime        as user ops, who may sudo
    machines.py reset m                as it was when it was switched on, in a second
    machines.py restart m              a real reboot: boot loader, kernel, systemd
    machines.py down [m …]             switch off; without a name, all but those of running tests

README.md beside this file says what they can and cannot show, and what a call costs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1] / "nodes")]

import emulator
import host
import image
import machine_image
from host import CHECKOUT, REPO, NodesError, lock, run

STATE = REPO / "build" / "machines"
INVENTORY = STATE / "inventory.yml"
# Knows all of them, for programs that take one file.
SSH_CONFIG = STATE / "ssh_config"
# Beside that of the nodes, which is removed with the last of them.
RUN = Path("/run") / f"nusy-{CHECKOUT}-machines"
TOOLS = {
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "apt-ftparchive": "apt-utils",
    "gpg": "gnupg",
    "setpriv": "util-linux",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
}


@dataclass(frozen=True)
class Emulated:
    """A machine that is switched on."""

    name: str
    port: int
    owner: int  # process id with which it ends; 0 = nobody's, until it is taken down
    image: str  # key of what it started from

    @property
    def directory(self) -> Path:
        return STATE / self.name

    @property
    def base(self) -> Path:
        return machine_image.CACHE / self.image

    @property
    def key(self) -> Path:
        return self.base / "id_ed25519"

    @property
    def sockets(self) -> Path:
        return RUN / self.name

    @property
    def files(self) -> emulator.Files:
        here = self.directory
        return emulator.Files(
            self.base / "tools",
            self.base / "boot.raw",
            here / "disk.qcow2",
            here / "console.log",
            here / "pid",
            self.sockets,
        )

    @property
    def agent(self) -> emulator.Agent:
        return emulator.Agent(self.files)


def doctor() -> list[str]:
    """What is missing here, one sentence each; empty when machines can run."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = [f"{tool} (package {name})" for tool, name in TOOLS.items() if shutil.which(tool, path=path) is None]
    if platform.machine() != "x86_64":
        missing.append(f"an x86-64 processor: the emulator is not fetched for {platform.machine()}")
    if not host.DEBIAN_KEYRING.exists():
        missing.append(f"{host.DEBIAN_KEYRING} (package debian-archive-keyring)")
    if os.geteuid() != 0:
        missing.append("root: making a disk takes root")
    return missing


def known() -> dict[str, Emulated]:
    """Every machine that was switched on and not taken down, by name."""
    found = {}
    for path in sorted(STATE.glob("*/machine.json")):
        with contextlib.suppress(FileNotFoundError):
            machine = Emulated(**json.loads(path.read_text()))
            found[machine.name] = machine
    return found


def get(name: str) -> Emulated:
    try:
        return known()[name]
    except KeyError:
        raise NodesError(f"no machine {name!r}; there are: {', '.join(known()) or 'none'}") from None


def up(names: Sequence[str], *, owner: int = 0) -> list[Emulated]:
    """Switch machines on. Running ones stay as they are."""
    if missing := doctor():
        raise NodesError("this host cannot run test machines, missing: " + "; ".join(missing))
    machine_image.build()
    with lock("machines"):
        present = known()
        for machine in present.values():
            if machine.owner and not Path(f"/proc/{machine.owner}").exists():
                _remove(machine)  # its test run was killed, and it with it
        for name in dict.fromkeys(names):
            if name in present and emulator.running(present[name].files):
                continue
            machine = Emulated(name, machine_image.free_port(), owner, machine_image.key())
            shutil.rmtree(machine.directory, ignore_errors=True)
            machine.directory.mkdir(parents=True)
            _write_ssh(machine)
            (machine.directory / "machine.json").write_text(json.dumps(asdict(machine)))
            try:
                _switch_on(machine)
            except BaseException:
                _remove(machine)
                raise
        _publish()
        present = known()
    return [present[name] for name in names]


def reset(name: str) -> None:
    """A fresh machine of the same name, address and keys."""
    machine = get(name)
    _switch_off(machine)
    _switch_on(machine)


def restart(name: str) -> None:
    """Boot it again and wait until it has."""
    machine = get(name)
    before = machine.agent.run(["cat", "/proc/sys/kernel/random/boot_id"]).strip()
    close_ssh(machine)
    machine.agent.run(["systemctl", "reboot", "--no-block"])
    wait_for_reboot(name, before)


def wait_for_reboot(name: str, before: str) -> None:
    """Until it runs in another boot than the one with the id ``before``."""
    machine, deadline = get(name), time.monotonic() + machine_image.BOOT_SECONDS
    machine_image.wait_for_boot(machine.agent, deadline, machine.files.console, other_than=before)


def down(names: Iterable[str] | None = None) -> None:
    with lock("machines"):
        present = known()
        for name in list(present) if names is None else names:
            if name in present:
                _remove(present[name])
        _publish()


def _switch_on(machine: Emulated) -> None:
    files = machine.files
    create = ["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(machine.base / "base.qcow2"), str(files.disk)]
    run([*emulator.tool(files.tools, "qemu-img"), *create])
    os.utime(machine.base)  # still in use
    state = machine.base / "state"
    emulator.start(files, port=machine.port, state=state, dies_with_us=machine.owner == os.getpid())
    # It slept since its first boot; and it has the name under which it is known here.
    script = """
        date -s "@$1"; hostname "$2"; echo "$2" > /etc/hostname; sed -i "s/^127.0.1.1 .*/127.0.1.1 $2/" /etc/hosts
    """
    machine.agent.run(["sh", "-ec", script, "sh", f"{time.time():.2f}", machine.name])


def _switch_off(machine: Emulated) -> None:
    close_ssh(machine)
    emulator.stop(machine.files)
    machine.files.disk.unlink(missing_ok=True)


def _remove(machine: Emulated) -> None:
    _switch_off(machine)
    shutil.rmtree(machine.directory, ignore_errors=True)
    shutil.rmtree(machine.sockets, ignore_errors=True)
    with contextlib.suppress(OSError):
        RUN.rmdir()


# --- ways in -----------------------------------------------------------------------------


def _ssh_config(machine: Emulated) -> Path:
    return machine.directory / "ssh_config"


def _control_path(machine: Emulated) -> str:
    return f"{machine.sockets}/ssh-%r"


def _write_ssh(machine: Emulated) -> None:
    public = (machine.base / "host_key.pub").read_text().split()
    known_hosts = machine.directory / "known_hosts"
    known_hosts.write_text(f"{machine.name} {public[0]} {public[1]}\n")
    options = {
        "HostName": "127.0.0.1",
        "Port": str(machine.port),
        "HostKeyAlias": machine.name,
        "User": image.USER,
        "IdentityFile": f'"{machine.key}"',
        "IdentitiesOnly": "yes",
        "PreferredAuthentications": "publickey",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": f'"{known_hosts}"',
        "GlobalKnownHostsFile": "none",
        "UpdateHostKeys": "no",
        # An emulated sshd takes three seconds for a handshake.
        "ConnectTimeout": "30",
        "ControlMaster": "auto",
        "ControlPersist": "60",
        "ControlPath": _control_path(machine),
    }
    lines = "".join(f"    {name} {value}\n" for name, value in options.items())
    _ssh_config(machine).write_text(f"Host {machine.name}\n{lines}")


def ssh(name: str) -> list[str]:
    """The OpenSSH command line to a machine: pinned host key, no question asked."""
    return ["ssh", "-F", str(_ssh_config(get(name))), "-o", "BatchMode=yes", name]


def close_ssh(machine: Emulated) -> None:
    """End shared connections: they would answer for the machine that is about to go away."""
    for control in machine.sockets.glob("ssh-*"):
        run(["ssh", "-F", "none", "-o", f"ControlPath={control}", "-O", "exit", machine.name], check=False)
        control.unlink(missing_ok=True)


def variables(name: str) -> dict[str, object]:
    """How Ansible gets there."""
    machine = get(name)
    sharing = ("ControlMaster=auto", "ControlPersist=60s", f"ControlPath={_control_path(machine)}")
    arguments = ["-F", str(_ssh_config(machine)), *(word for option in sharing for word in ("-o", option))]
    return {
        "ansible_user": image.USER,
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_ssh_args": shlex.join(arguments),
    }


def _publish() -> None:
    hosts = {name: variables(name) for name in known()}
    if hosts:
        tree = {"all": {"children": {"spark": {"hosts": hosts}}}}
        INVENTORY.write_text(json.dumps(tree, indent=2) + "\n")
        SSH_CONFIG.write_text(f'Include "{STATE}/*/ssh_config"\n')
    else:
        INVENTORY.unlink(missing_ok=True)
        SSH_CONFIG.unlink(missing_ok=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for word in ("doctor", "image", "list"):
        commands.add_parser(word)
    for word in ("up", "reset", "restart"):
        commands.add_parser(word).add_argument("names", nargs="+")
    commands.add_parser("down").add_argument("names", nargs="*")
    for word in ("exec", "ssh"):
        inner = commands.add_parser(word)
        inner.add_argument("name")
        inner.add_argument("words", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)
    try:
        return _dispatch(options)
    except NodesError as error:
        print(f"machines.py: {error}", file=sys.stderr)
        return 1


def _dispatch(options: argparse.Namespace) -> int:
    started = time.monotonic()
    match options.command:
        case "doctor":
            missing = doctor()
            print("\n".join(f"missing: {line}" for line in missing) or "this host can run test machines")
            return 1 if missing else 0
        case "image":
            for part, seconds in machine_image.build().items():
                print(f"{part}: {seconds:.1f} s")
            print(machine_image.folder())
        case "up":
            up(options.names)
            print(f"inventory: {INVENTORY} ({time.monotonic() - started:.1f} s)")
        case "reset" | "restart":
            for name in options.names:
                (reset if options.command == "reset" else restart)(name)
            print(f"{options.command} in {time.monotonic() - started:.1f} s")
        case "down":
            down(options.names or [name for name, machine in known().items() if not _in_use(machine)])
        case "list":
            for machine in known().values():
                print(f"{machine.name} 127.0.0.1:{machine.port}{'' if emulator.running(machine.files) else ' (off)'}")
        case "exec" | "ssh":
            words = options.words[1:] if options.words[:1] == ["--"] else options.words
            if options.command == "ssh":
                return subprocess.run([*ssh(options.name), *words]).returncode
            print(get(options.name).agent.run(words), end="")
    return 0


def _in_use(machine: Emulated) -> bool:
    return bool(machine.owner) and Path(f"/proc/{machine.owner}").exists()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        os.umask(0o022)
        sys.exit(main())
    sys.exit(130)
