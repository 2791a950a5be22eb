# SPDX-License-Identifier: GPL-3.0-or-later
"""A node in memory that has an SSH server and a packet filter, and a login by which a run came."""

from __future__ import annotations

import itertools
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._access import firewall, guard, ssh
from ansible_collections.nusy.dgx_spark.plugins.module_utils._access.subject import ARGUMENT_SPEC, ensure_access

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "_state"))

from fake_node import FakeNode

OPS = "192.0.2.7 50000 192.0.2.1 22"
AGAIN = "192.0.2.7 50001 192.0.2.1 22"
ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKZ0z1b5x5f7p1oZr0yYkRrZ4m8h7m4l3Xo4m1d2c3b4 ops"
COMPILED = {
    "port": "22", "permitrootlogin": "without-password", "passwordauthentication": "yes", "x11forwarding": "no",
    "kbdinteractiveauthentication": "no", "pubkeyauthentication": "yes", "hostbasedauthentication": "no",
    "permitemptypasswords": "no", "strictmodes": "yes", "maxauthtries": "6", "logingracetime": "120",
    "allowtcpforwarding": "yes", "allowagentforwarding": "yes", "banner": "none", "requiredrsasize": "1024",
    "ciphers": "aes128-cbc", "macs": "hmac-sha1", "kexalgorithms": "ecdh-sha2-nistp256",
    "hostkeyalgorithms": "ssh-rsa", "pubkeyacceptedalgorithms": "ssh-rsa", "authorizedkeysfile": ".ssh/authorized_keys",
}  # fmt: skip
SUPPORTED = {"kex": ssh.KEX_10, "cipher": ssh.CIPHERS, "mac": ssh.MACS, "HostKeyAlgorithms": ssh.KEYS}


# Its process.
SSHD = 77


@dataclass
class AccessNode(FakeNode):
    """``came``: SSH_CONNECTION of the login. ``table``: what the kernel has. ``refuses``: a tool that fails.

    read_at: when the server read its files, by this node's clock; 0: none runs on. argv: what it calls itself.
    """

    came: str = OPS
    table: str = ""
    refuses: str = ""
    read_at: int = 10**6
    argv: str = "sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups"
    ran: list[list[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.put("/etc/os-release", "ID=debian\nVERSION_ID=13\n")
        self.put("/run/sshd", kind="directory", mode=0o755)
        for path in ("/usr/sbin/sshd", firewall.NFT):
            self.put(path)
        self.put(ssh.MAIN, f"Include {ssh.FOLDER}/*.conf\nX11Forwarding yes\n")
        self.put(ssh.FOLDER, kind="directory", mode=0o755)
        self.users["ops"] = [1000, 1000, "", "/home/ops", "/bin/sh"]
        self.groups["ops"] = [1000, []]
        for path, kind, mode in (("/home/ops", "directory", 0o755), ("/home/ops/.ssh", "directory", 0o700)):
            self.put(path, kind=kind, mode=mode, uid=1000)
        self.put("/home/ops/.ssh/authorized_keys", ED25519 + "\n", mode=0o600, uid=1000)
        self.units[firewall.UNIT] = self.unit()
        self.packages["nftables"] = ("installed", "1.1.3")

    def read(self, path: str) -> str | None:
        if path == f"/proc/{SSHD}/cmdline":
            return self.argv
        if path.startswith("/proc/"):
            # sudo keeps nothing; the shell that sshd started has it.
            login = f"SSH_CONNECTION={self.came}\0USER=ops\0" if path == "/proc/2/environ" and self.came else ""
            return "Name:\tpython3\nPPid:\t2\n" if path.endswith("status") and path != "/proc/2/status" else login
        return super().read(path)

    def rename(self, path: str, new: str) -> None:
        if path != guard.ARMED:
            super().rename(path, new)
            return
        if path not in self.files:
            raise FileNotFoundError(path)
        self._drop(path)

    def _drop(self, folder: str) -> None:
        for path in [p for p in self.files if p == folder or p.startswith(f"{folder}/")]:
            del self.files[path]

    def tool_ssh(self, args: list[str]) -> tuple[int, str, str]:
        return 0, "\n".join(SUPPORTED[args[1]]), ""

    def tool_sshd(self, args: list[str]) -> tuple[int, str, str]:
        if self.refuses == "sshd -t" and args == ["-t"]:
            return 255, "", "bad configuration"
        return 0, "", ""

    def run(self, argv: Any, *, timeout: float = 10.0, env: Any = None, stdin: str = "") -> Any:
        self.ran.append(list(argv))
        self.stdin = stdin
        if "/usr/sbin/sshd" in argv and "-T" in argv:
            pairs = [value.split("=") for flag, value in itertools.pairwise(argv) if flag == "-o"]
            self.options = {keyword.lower(): value for keyword, value in pairs}
            self.user_asked = argv[-1].split(",")[0].removeprefix("user=")
            text = stdin or self.files[ssh.MAIN].text
            self.tool_sshd_T = "\n".join(
                f"{k} {v}" for k, v in {**COMPILED, **self._first(text), **self.options}.items()
            )
            return super().run(["/bin/printed"])
        return super().run(argv, timeout=timeout, env=env, stdin=stdin)

    def tool_printed(self, _args: list[str]) -> tuple[int, str, str]:
        return 0, self.tool_sshd_T, ""

    def _first(self, text: str) -> dict[str, str]:
        """sshd_config(5): the first value counts, and one of a Match block that applies before all others."""
        general: dict[str, str] = {}
        matched: dict[str, str] = {}
        into: dict[str, str] | None = general
        for line in text.splitlines():
            word, _blank, value = line.strip().partition(" ")
            if word == "Include":
                paths = sorted(
                    p
                    for p in self.files
                    if p == value
                    or ("*" in value and p.startswith(value.removesuffix("*.conf")) and p.endswith(".conf"))
                )
                for path in paths:
                    found = self._first(self.files[path].text)
                    general.update({k: v for k, v in found.items() if k not in general})
            elif word == "Match":
                into = matched if value == f"User {self.user_asked}" else None
            elif word and not word.startswith("#") and into is not None:
                into.setdefault(word.lower(), value)
        return {**general, **matched}

    def tool_nft(self, args: list[str]) -> tuple[int, str, str]:
        if args[0] == "list":
            return (0, self.table, "") if self.table else (1, "", "Error: No such file or directory")
        return (1, "", "syntax error") if self.refuses == "nft" else (0, "", "")

    def tool_unshare(self, _args: list[str]) -> tuple[int, str, str]:
        return (1, "", "syntax error") if self.refuses == "alone" else (0, shown(self.stdin), "")

    def tool_systemctl(self, args: list[str]) -> tuple[int, str, str]:
        if args[:2] == ["show", "ssh.socket"]:
            return 0, "ActiveState=inactive\n", ""
        if args[:2] == ["show", "ssh.service"]:
            return 0, f"MainPID={SSHD if self.read_at else 0}\nStateChangeTimestampMonotonic={self.read_at}000000\n", ""
        if args[0] == "is-enabled":
            return 0, self.units[firewall.UNIT]["UnitFileState"] + "\n", ""
        if args[-1] == firewall.UNIT:
            if args[0] == "restart" and self.refuses == "unit":
                return 1, "", "it failed"
            if args[0] == "restart":
                self.table = shown(self.files[firewall.RULES].text)
            if "enable" in args:
                self.units[firewall.UNIT]["UnitFileState"] = "enabled"
        return 0, "", ""

    def tool_systemd_run(self, args: list[str]) -> tuple[int, str, str]:
        self.effect(f"timer {args[1]}")
        return (1, "", "no timer") if self.refuses == "timer" else (0, "", "")

    def tool_sh(self, args: list[str]) -> tuple[int, str, str]:
        self.effect(f"sh {args[-1]}")
        return 0, "", ""

    def tool_rm(self, args: list[str]) -> tuple[int, str, str]:
        self.effect(f"rm {args[1]}")
        for path in args[1:]:
            self._drop(path)
        return 0, "", ""


def shown(rules: str) -> str:
    """As nft prints a table: without the lines that only load it."""
    lines = rules.splitlines()
    return "\n".join(lines[lines.index("table inet nusy {") :]) + "\n"


def declared(**given: Any) -> Any:
    def filled(options: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
        return {
            name: filled(option["options"], values.get(name, {}))
            if option.get("type") == "dict"
            else values.get(name, option.get("default"))
            for name, option in options.items()
        }

    return ensure_access({**filled(ARGUMENT_SPEC, given), "published": given.get("published", [])})
