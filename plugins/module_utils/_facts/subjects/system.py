# SPDX-License-Identifier: GPL-3.0-or-later
"""Machine, kernel, DGX OS, firmware, containers, packages, security, reboot.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.data import twin
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.look import Look
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.model import Node, NotKnown, Unknown, learn
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.parse import containers as parse_containers
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.parse import dgx as parse_dgx
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.parse import firmware as parse_firmware
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.parse import system as parse
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.parse.text import integer, switch

DMI = "/sys/class/dmi/id"
SECURE_BOOT = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
ESRT = "/sys/firmware/efi/esrt/entries"
# The Dashboard's service on the system bus; see the facts about OTA in its documentation.
DASHBOARD = "com.nvidia.dgx.dashboard.admin1"
DASHBOARD_OBJECT = "/com/nvidia/dgx/dashboard/admin"
OTA_RECIPES = "/opt/nvidia/spark-ota-check/metadata"
# What a node's state hangs on; everything else in the package database is not asked for.
PACKAGES = (
    "linux-image-*",
    "linux-modules-nvidia-*",
    "linux-nvidia*",
    "nvidia-*",
    "libnvidia-*",
    "dgx-*",
    "cuda-nvcc-*",
    "cuda-toolkit-*",
    "libnccl*",
    "docker-ce*",
    "docker.io",
    "containerd*",
    "podman",
    "crun",
    "runc",
    "rdma-core",
    "fwupd",
    "mlnx-fw-updater",
    "doca-ofed",
)


def _dmi(look: Look, name: str) -> str | None:
    return parse_firmware.meant(look.text(f"{DMI}/{name}"))


def machine(look: Look) -> dict[str, Node]:
    """Serial numbers and the UUID beside these files are never read."""
    facts: dict[str, Node] = {
        fact: learn(_dmi, look, name)
        for fact, name in (
            ("vendor", "sys_vendor"),
            ("product", "product_name"),
            ("product_version", "product_version"),
            ("family", "product_family"),
            ("board_vendor", "board_vendor"),
            ("board", "board_name"),
        )
    }
    vendor, product = facts["vendor"], facts["product"]
    if isinstance(vendor, Unknown) or isinstance(product, Unknown):
        facts["brand"] = facts["model"] = vendor if isinstance(vendor, Unknown) else product
        return facts
    found = twin(str(vendor or ""), str(product or ""))
    other = Unknown(f"vendor {vendor} with product {product} is in no table of this collection")
    facts["brand"] = found.brand if found else other
    facts["model"] = found.model if found and found.model else other
    return facts


def kernel(look: Look) -> dict[str, Node]:
    release = learn(lambda: parse.os_release(look.text("/etc/os-release")))
    command_line = learn(look.line, "/proc/cmdline")
    return {
        "release": learn(lambda: parse.release(look.uname().release)),
        "build": look.uname().version,
        "architecture": look.uname().machine,
        "command_line": command_line,
        "parameters": learn(lambda: parse.parameters(look.text("/proc/cmdline"))),
        "cgroup_controllers": learn(lambda: look.line("/sys/fs/cgroup/cgroup.controllers").split()),
        "os": release
        if isinstance(release, Unknown)
        else {
            "id": release["ID"],
            "version_id": release.get("VERSION_ID"),
            "codename": release.get("VERSION_CODENAME"),
            "pretty_name": release.get("PRETTY_NAME"),
        },
    }


def dgx(look: Look) -> dict[str, Node]:
    if not look.exists("/etc/dgx-release"):
        reason = Unknown("/etc/dgx-release does not exist: this is not DGX OS")
        return {"is_dgx_os": False, "release": reason, "ota": reason, "ota_recipes": reason}
    return {
        "is_dgx_os": True,
        "release": learn(lambda: parse_dgx.release(look.text("/etc/dgx-release"))),
        "ota": learn(_ota, look),
        "ota_recipes": learn(_recipes, look),
    }


def _ota(look: Look) -> dict[str, Node]:
    """Asks the Dashboard only if it runs: neither it nor a password prompt is started for us."""
    if not look.exists("/run/dbus/system_bus_socket"):
        raise NotKnown("there is no system bus")
    return parse_dgx.ota_snapshot(
        look.run(
            (
                *(look.tool("busctl"), "--system", "--no-pager", "--auto-start=no"),
                *("--allow-interactive-authorization=no", "--timeout=5", "call"),
                *(DASHBOARD, DASHBOARD_OBJECT, DASHBOARD, "GetOTAAvailabilitySnapshot"),
            )
        )
    )


def _recipes(look: Look) -> list[Node]:
    """What NVIDIA's checker knows. The checker itself may install packages, so it is never run."""
    return [
        learn(_recipe, look, f"{OTA_RECIPES}/{name}")
        for name in look.names(OTA_RECIPES)
        if re.fullmatch(r"spark-ota-.*\.json", name)
    ]


def _recipe(look: Look, path: str) -> dict[str, Node]:
    return parse_dgx.recipe(look.text(path))


def firmware(look: Look, *, fwupd: bool) -> dict[str, Node]:
    efi = look.exists("/sys/firmware/efi")
    return {
        "bios_vendor": learn(_dmi, look, "bios_vendor"),
        "bios_version": learn(_dmi, look, "bios_version"),
        "bios_date": learn(_dmi, look, "bios_date"),
        "efi": efi,
        "esrt": learn(_esrt, look) if efi else Unknown("this machine did not boot by UEFI"),
        "components": learn(_smbios, look),
        "nvme": learn(_nvme, look),
        "fwupd_devices": learn(_fwupd, look)
        if fwupd
        else Unknown("not asked: fwupdmgr would start the fwupd daemon (option fwupd)"),
    }


def _esrt(look: Look) -> dict[str, Node]:
    """UEFI's own list of what a capsule can update: GUID → version. The numbers are for root only."""
    found: dict[str, Node] = {}
    for entry in look.names(ESRT):
        if entry.startswith("entry"):
            guid = look.line(f"{ESRT}/{entry}/fw_class")
            version = integer("ESRT fw_version", look.text(f"{ESRT}/{entry}/fw_version"))
            found[guid] = {"version": f"{version:#010x}", "version_decoded": parse_firmware.packed_version(version)}
    return found


def _smbios(look: Look) -> list[dict[str, Node]]:
    if not look.is_root:
        raise NotKnown("needs root")
    # Without this table dmidecode would search the physical memory for one.
    if not look.exists("/sys/firmware/dmi/tables/DMI"):
        raise NotKnown("/sys/firmware/dmi/tables/DMI does not exist")
    return parse_firmware.inventory(look.run((look.tool("dmidecode"), "-t", "45")))


def _nvme(look: Look) -> dict[str, Node]:
    base = "/sys/class/nvme"
    return {
        name: {
            "model": learn(look.line, f"{base}/{name}/model"),
            "firmware": learn(look.line, f"{base}/{name}/firmware_rev"),
        }
        for name in look.names(base)
    }


def _fwupd(look: Look) -> list[dict[str, Node]]:
    options = ("--json", "--no-unreported-check", "--no-metadata-check", "--no-reboot-check")
    return parse_firmware.fwupd_devices(look.run((look.tool("fwupdmgr"), "get-devices", *options)))


def containers(look: Look) -> dict[str, Node]:
    """Asks the clients for their versions, never a daemon: a socket unit would start it."""
    daemon = learn(lambda: parse_containers.docker_daemon(look.maybe("/etc/docker/daemon.json") or ""))
    settings: Mapping[str, Node] = (
        daemon
        if isinstance(daemon, Mapping)
        else dict.fromkeys(("nvidia_runtime", "default_runtime", "cdi_enabled"), daemon)
    )
    return {
        "docker": {"version": learn(_version, look, "docker"), **settings},
        "podman": {"version": learn(_podman, look)},
        "containerd": {"version": learn(_version, look, "containerd")},
        "nvidia_toolkit": {"version": learn(_version, look, "nvidia-ctk")},
        "cdi_specs": learn(_cdi_specs, look),
    }


def _version(look: Look, name: str) -> str:
    return parse_containers.tool_version(look.run((look.tool(name), "--version")))


def _podman(look: Look) -> str:
    """From the package: podman itself makes folders in /run or /tmp even to say its version."""
    version = _installed(look, ("podman",)).get("podman")
    if version is None:
        raise NotKnown("dpkg knows no installed podman")
    return version


def _cdi_specs(look: Look) -> dict[str, Node]:
    found: dict[str, Node] = {}
    for folder in ("/etc/cdi", "/run/cdi"):
        for name in look.names_if_any(folder) or ():
            if name.endswith((".yaml", ".json")):
                found[f"{folder}/{name}"] = learn(_cdi_spec, look, f"{folder}/{name}")
    return found


def _cdi_spec(look: Look, path: str) -> dict[str, Node]:
    return parse_containers.cdi_spec(look.text(path))


def packages(look: Look) -> dict[str, Node]:
    return dict(_installed(look, PACKAGES))


def _installed(look: Look, patterns: Sequence[str]) -> Mapping[str, str]:
    # Exit 1 only says that one of the patterns has no package.
    line = "--showformat=${Package},${Version},${db:Status-Status}\\n"
    return parse.dpkg_query(look.run((look.tool("dpkg-query"), "--show", line, *patterns), accept=(0, 1)))


def security(look: Look) -> dict[str, Node]:
    return {
        "secure_boot": learn(lambda: parse_firmware.efi_switch(look.text(SECURE_BOOT))),
        "lockdown": learn(lambda: parse.lockdown(look.text("/sys/kernel/security/lockdown"))),
        "modules": learn(lambda: parse.security_modules(look.text("/sys/kernel/security/lsm"))),
        "apparmor": learn(_apparmor, look),
        "selinux": learn(_selinux, look),
        "ufw_enabled_at_boot": learn(_ufw, look),
    }


def _apparmor(look: Look) -> bool:
    text = look.maybe("/sys/module/apparmor/parameters/enabled")
    return False if text is None else switch("AppArmor", text)


def _selinux(look: Look) -> str:
    text = look.maybe("/sys/fs/selinux/enforce")
    if text is None:
        return "disabled"
    return "enforcing" if switch("SELinux", text) else "permissive"


def _ufw(look: Look) -> bool:
    text = look.maybe("/etc/ufw/ufw.conf")
    return False if text is None else parse.ufw_enabled(text)


def reboot(look: Look) -> dict[str, Node]:
    """Debian's own mark. Where nothing ever writes it, its absence says nothing."""
    if look.exists("/run/reboot-required"):
        return {"required": True, "packages": learn(_reboot_packages, look)}
    if not look.exists("/etc/debian_version"):
        reason = Unknown("this distribution does not keep /run/reboot-required")
        return {"required": reason, "packages": reason}
    return {"required": False, "packages": []}


def _reboot_packages(look: Look) -> list[str]:
    return parse.package_names(look.maybe("/run/reboot-required.pkgs") or "")
