# SPDX-License-Identifier: GPL-3.0-or-later
"""Stand-ins for NVIDIA's packages: the true names, dependencies, units and places, and nothing inside."""

from __future__ import annotations

import platform

import apt_repo as apt

LOADED = "580.142"
DRIVER = f"{LOADED}-0ubuntu0.24.04.1"
TOOLKIT = "1.19.1-1"
KERNEL, NEXT = "6.17.0-1014-nvidia", "6.17.0-1022-nvidia"
PERSISTENCED = "[Unit]\nDescription=Persistence daemon\n[Service]\nExecStart=/bin/sleep infinity\n"
REFRESH = (
    "[Unit]\nDescription=Refresh the CDI specification\n[Service]\nType=oneshot\n"
    "EnvironmentFile=-/etc/nvidia-container-toolkit/nvidia-cdi-refresh.env\n"
    "ExecStart=/bin/sh -c "
    "'mkdir -p /run/cdi && echo \"# $NVIDIA_CTK_CDI_GENERATE_FEATURE_FLAGS\" >/run/cdi/nvidia.yaml'\n"
    "[Install]\nWantedBy=multi-user.target\n"
)
WATCH = (
    "[Unit]\nDescription=Watch the driver\n[Path]\nPathChanged=/usr/bin/nvidia-ctk\n"
    "[Install]\nWantedBy=multi-user.target\n"
)
# It tells what the daemon has read when it was started, and of the containers in a file of the test.
DOCKER = r"""#!/usr/bin/python3
import json, pathlib, sys
running = pathlib.Path("/run/containers.json")
containers = json.loads(running.read_text()) if running.exists() else []
if sys.argv[1] == "info":
    live = json.loads(pathlib.Path("/run/daemon.json").read_text() or "{}")
    print(json.dumps({"runtimes": {"runc": {}, **live.get("runtimes", {})}, "cgroup": "systemd"}))
elif sys.argv[1] == "ps":
    print("\n".join(one["name"] for one in containers))
else:
    print("\n".join(json.dumps(one) for one in containers if one["name"] in sys.argv))
"""
DOCKER_UNIT = (
    "[Unit]\nDescription=Docker\n[Service]\n"
    "ExecStartPre=/bin/sh -c 'cat /etc/docker/daemon.json >/run/daemon.json 2>/dev/null || echo {} >/run/daemon.json'\n"
    "ExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n"
)


def modules(release: str) -> apt.Package:
    place = f"/lib/modules/{release}/kernel/nvidia-580-open/nvidia.ko.zst"
    return apt.Package(f"linux-modules-nvidia-580-open-{release}", "1", files={f"/usr{place}": "module"})


# What update-grub does when a kernel comes or goes: the newest one is the first entry.
UPDATE_GRUB = """\
#!/bin/sh
set -e
mkdir -p /boot/grub
ls /boot/vmlinuz-* | sort -rV | sed 's/.*/menuentry x {\\n\\tlinux & ro\\n}/' > /boot/grub/grub.cfg
"""


def image(release: str) -> apt.Package:
    files = {f"/boot/{name}-{release}": name for name in ("vmlinuz", "initrd.img")}
    files[f"/usr/lib/modules/{release}/modules.dep"] = ""
    return apt.Package(f"linux-image-{release}", "1", files=files, postinst=UPDATE_GRUB)


def toolkit(version: str = TOOLKIT) -> list[apt.Package]:
    same = f"libnvidia-container1 (= {version})"
    base = apt.Package(
        "nvidia-container-toolkit-base",
        version,
        files={"/usr/bin/nvidia-ctk": "#!/bin/sh\n"},
        units={"nvidia-cdi-refresh.service": REFRESH, "nvidia-cdi-refresh.path": WATCH},
        postinst="#!/bin/sh\nset -e\nsystemctl daemon-reload\n"
        "systemctl enable -q --now nvidia-cdi-refresh.path nvidia-cdi-refresh.service\n",
    )
    return [
        base,
        apt.Package("libnvidia-container1", version),
        apt.Package("libnvidia-container-tools", version, depends=same),
        apt.Package("nvidia-container-toolkit", version, depends="nvidia-container-toolkit-base"),
    ]


def driver() -> list[apt.Package]:
    parts = ("nvidia-utils-580", "libnvidia-compute-580", "nvidia-compute-utils-580")
    units = {"nvidia-compute-utils-580": {"nvidia-persistenced.service": PERSISTENCED}}
    return [
        *(apt.Package(name, DRIVER, units=units.get(name, {})) for name in parts),
        apt.Package("nvidia-headless-no-dkms-580-open", DRIVER),
        apt.Package("nvidia-driver-580-open", DRIVER, depends=", ".join(parts)),
        # Normal on DGX OS: these have versions of their own.
        apt.Package("nvidia-settings", "610.43.02-1ubuntu1"),
        apt.Package("nvidia-modprobe", "610.43.02-1ubuntu1"),
        apt.Package("nvidia-utils-590", "590.48.01-0ubuntu0.24.04.1"),
    ]


def kernels() -> list[apt.Package]:
    meta = "linux-modules-nvidia-580-open-nvidia-hwe-24.04"
    return [
        apt.Package("linux-nvidia-hwe-24.04", "6.17.0.1014.14", depends=f"linux-image-{KERNEL}"),
        image(KERNEL),
        image(NEXT),
        modules(KERNEL),
        modules(NEXT),
        modules(platform.release()),
        apt.Package(meta, "6.17.0-1014.14", depends=f"linux-modules-nvidia-580-open-{KERNEL}"),
    ]


def docker() -> apt.Package:
    return apt.Package(
        "docker-ce",
        "5:29.2.1-1",
        files={"/usr/bin/docker": DOCKER},
        units={"docker.service": DOCKER_UNIT},
        postinst="#!/bin/sh\nset -e\ngetent group docker >/dev/null || groupadd --system docker\n"
        "systemctl daemon-reload\nsystemctl enable -q --now docker.service\n",
    )


PODMAN = apt.Package("podman", "4.9.3+ds1-1ubuntu0.2")
EVERYTHING = [*kernels(), *driver(), *toolkit(), docker(), PODMAN]
# What shows of a GPU and of the driver in the kernel, and the answers of the tool that asks it: no test has either.
SMI = f"""#!/bin/sh
row="0, NVIDIA GB10, 0000000F:01:00.0, {LOADED}, 12.1, Enabled, P8, 40, 5.00 W, 208 MHz, 3003 MHz, 0 %"
case "$1" in
    --query-gpu=*) echo "$row, [N/A], 9A.0B.01.00.00" ;;
    --query-compute-apps=*) ;;
    *) echo '| NVIDIA-SMI {LOADED}    Driver Version: {LOADED}    CUDA Version: 13.0 |' ;;
esac
"""
GPU = f"""
set -e
for place in /proc/driver /sys/bus/pci/devices; do mount -t tmpfs none $place; done
mkdir -p /proc/driver/nvidia/gpus/000f:01:00.0 /sys/bus/pci/devices/000f:01:00.0; cd /proc/driver/nvidia
echo 'NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  {LOADED}  Release Build' > version
echo 'Model: NVIDIA GB10' > gpus/000f:01:00.0/information
cd /sys/bus/pci/devices/000f:01:00.0; echo 0x10de > vendor; echo 0x030200 > class
touch /dev/nvidiactl /dev/nvidia0
"""
# What DGX OS brings.
PREINSTALLED = (
    "linux-nvidia-hwe-24.04",
    "linux-modules-nvidia-580-open-nvidia-hwe-24.04",
    f"linux-modules-nvidia-580-open-{platform.release()}",
    "nvidia-driver-580-open",
    "nvidia-settings",
    "nvidia-modprobe",
    "nvidia-container-toolkit",
    "libnvidia-container-tools",
    "docker-ce",
    "podman=4.9.3+ds1-1ubuntu0.2",
)
