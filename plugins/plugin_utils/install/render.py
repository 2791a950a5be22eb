# SPDX-License-Identifier: GPL-3.0-or-later
"""From what is declared to the files of an installation medium. Pure: the same input gives the same bytes.

Sources: NVIDIA, "Custom Installation with Cloud-Init" of DGX Spark (seed, OEMDATA, its file names, the wizard that
is skipped for an account with a password); Canonical, "Autoinstall configuration reference manual" (user-data in
place of identity, disks by ID_SERIAL); cloud-init, data source NoCloud (meta-data, network-config).

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.install.declared import DGX_OS, File, Install, label

HERE = Path(__file__).resolve().parent
SUMS = "SHA256SUMS"
# cloud-init runs what is in this folder at every boot, until it is switched off.
FIRST_BOOT = "/var/lib/cloud/scripts/per-boot/spark-oemdata"
SEED, OEMDATA = "seed", "oemdata"

Content = bytes | File
Tree = dict[str, Content]


def tree(install: Install) -> Tree:
    """Path below the folder of the host → content."""
    if install.system == DGX_OS:
        oemdata = _oemdata(install)
        account = _account(install, locked=False)
        user_data = _cloud_config({**_system(install), "users": [account], **_first_boot(digest(oemdata[SUMS]))})
        seed: Tree = {"user-data": user_data, "meta-data": _meta_data(install, user_data)}
        if install.network:
            seed["network-config"] = _yaml({"network": _network(install)})
        files = {f"{OEMDATA}/{name}": content for name, content in oemdata.items()}
    else:
        user_data = _cloud_config({"autoinstall": _autoinstall(install)})
        seed, files = {"user-data": user_data, "meta-data": _meta_data(install, user_data)}, {}
    files |= {f"{SEED}/{name}": content for name, content in seed.items()}
    return {SUMS: sums(files), **files}


def commands(install: Install, folder: str) -> list[str]:
    """What to do with the tree: the images are licensed, and a stick is somebody's to erase."""
    if install.system != DGX_OS:
        return [
            f"xorriso -as mkisofs -V CIDATA -J -r -o {install.hostname}-seed.iso {folder}/{SEED}",
            "boot the machine from the unchanged ISO of Ubuntu Server 24.04 with that one as a second medium; the "
            "installer asks before it erases the disk, unless the word autoinstall is on its kernel command line",
        ]
    return [
        f"repack_fastos.sh -f <recovery archive of DGX OS> -c {folder}/{SEED}",
        f"or: repack_baseos.sh -iso <ISO of DGX BaseOS> -iso-root <its tree with {folder}/{SEED} as seed>",
        f"mke2fs -t ext4 -L OEMDATA -d {folder}/{OEMDATA} <partition of the stick, which is ERASED>",
    ]


def sums(files: Mapping[str, Content]) -> bytes:
    """As sha256sum reads it."""
    return "".join(f"{digest(content)}  {name}\n" for name, content in sorted(files.items())).encode()


def digest(content: Content) -> str:
    return content.sha256 if isinstance(content, File) else hashlib.sha256(content).hexdigest()


def _system(install: Install) -> dict[str, Any]:
    return {
        "hostname": install.hostname,
        "locale": install.locale,
        "timezone": install.timezone,
        "keyboard": {"layout": install.keyboard},
        "ssh_pwauth": False,
        "disable_root": True,
    }


def _account(install: Install, *, locked: bool) -> dict[str, Any]:
    account: dict[str, Any] = {
        "name": install.user,
        "groups": list(install.groups),
        "shell": "/bin/bash",
        # Nobody knows a password that sudo could ask for.
        "sudo": "ALL=(ALL) NOPASSWD:ALL",
        "lock_passwd": locked,
        "ssh_authorized_keys": list(install.authorized_keys),
    }
    return account if locked else {**account, "passwd": no_password(install.hostname)}


def no_password(hostname: str) -> str:
    """A hash in the form of SHA-512 crypt that was made of no password.

    The wizard of DGX OS is skipped for an account with a password, and keys are the only way in. This is none: the
    86 characters are a digest of a public text, and a password that hashes to them would have to be found by chance, in
    2^512 tries. So there is no secret to keep, and the same inventory gives the same file.
    """
    text = hashlib.sha512(f"nusy.dgx_spark: {hostname} has no password".encode()).digest()
    # The alphabet of crypt. Its last character holds two bits only, and is one of ./01.
    letters = base64.b64encode(text).decode().rstrip("=").translate(_CRYPT)
    return f"$6${hashlib.sha256(hostname.encode()).hexdigest()[:16]}${letters[:85]}."


_BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_CRYPT = str.maketrans(_BASE64, "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")


def _first_boot(sums: str) -> dict[str, Any]:
    """``sums``: digest of the list of sums on OEMDATA, so that no other volume is taken for it."""
    script = (HERE / "oemdata.sh").read_text("utf-8").replace("@SUMS@", sums)
    return {
        "write_files": [{"path": FIRST_BOOT, "owner": "root:root", "permissions": "0700", "content": script}],
        # For an image whose cloud-init leaves the folder above aside. It ends at once where that was done.
        "runcmd": [[FIRST_BOOT]],
    }


def _oemdata(install: Install) -> Tree:
    files: Tree = {"hook.sh": (HERE / "hook.sh").read_bytes()}
    for name, text in (
        ("apt-repo.url", install.apt_repository),
        ("apt-packages.txt", "\n".join(install.packages)),
        ("lvfs-mirror.url", install.firmware_mirror),
        ("apt-repo.asc", install.apt_key.strip()),
    ):
        if text:
            files[name] = f"{text}\n".encode()
    files |= {f"debs/{file.path.name}": file for file in install.debs}
    files |= {f"firmware/{file.path.name}": file for file in install.firmware}
    return {SUMS: sums(files), **files}


def _autoinstall(install: Install) -> dict[str, Any]:
    declared: dict[str, Any] = {
        "version": 1,
        "locale": install.locale,
        "keyboard": {"layout": install.keyboard},
        "timezone": install.timezone,
        "storage": {"layout": {"name": install.storage_layout, "match": {"serial": install.disk_serial}}},
        "ssh": {"install-server": True, "allow-pw": False},
        "updates": "security",
        "shutdown": "reboot",
        # In place of identity, which wants a password.
        "user-data": {**_system(install), "users": [_account(install, locked=True)]},
    }
    if install.network:
        declared["network"] = _network(install)
    if install.packages:
        declared["packages"] = list(install.packages)
    return declared


def _network(install: Install) -> dict[str, Any]:
    """In the form of netplan."""
    ethernets: dict[str, Any] = {}
    for number, port in enumerate(install.network):
        one: dict[str, Any] = {"match": {"macaddress": port.mac}} if port.mac else {}
        one |= {"addresses": list(port.addresses)} if port.addresses else {"dhcp4": True}
        if port.gateway:
            one["routes"] = [{"to": "default", "via": port.gateway}]
        if port.nameservers:
            one["nameservers"] = {"addresses": list(port.nameservers)}
        if port.mtu:
            one["mtu"] = port.mtu
        ethernets[label(port.name, number)] = one
    return {"version": 2, "ethernets": ethernets}


def _meta_data(install: Install, user_data: bytes) -> bytes:
    """Another user-data is another instance: cloud-init would not look at it again otherwise."""
    instance = f"{install.hostname}-{hashlib.sha256(user_data).hexdigest()[:16]}"
    return _yaml({"instance-id": instance, "local-hostname": install.hostname})


def _cloud_config(document: Mapping[str, Any]) -> bytes:
    return b"#cloud-config\n" + _yaml(document)


def _yaml(document: Mapping[str, Any]) -> bytes:
    return yaml.dump(dict(document), Dumper=_Dumper, sort_keys=False, width=1000, allow_unicode=True).encode()


class _Dumper(yaml.SafeDumper):
    """Scripts as blocks of lines, which somebody can read, and no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)
