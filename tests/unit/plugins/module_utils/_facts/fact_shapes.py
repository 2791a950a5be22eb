# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - a line of output is as long as it is
"""Texts in the shapes that real machines print, written for these tests.

The shapes are those of the tools' and the kernel's own output. Sources of the figures: 10
Cortex-X925 and 10 Cortex-A725 (NVIDIA's DGX Spark Porting Guide; part numbers from
/proc/cpuinfo in hrw/arm-socs-table#133), MemTotal (unslothai/unsloth#10704 and others), driver
580.142 with CUDA 13.0 and kernel 6.17.0-1014 (OTA 2604 of April 2026), ConnectX-7 firmware
28.45.4028 (every OTA recipe), packed versions (OTA 2607: SoC 2.155.11, EC 3.5.8, USB-PD
0.5.22), DMI of a founders box (a published kernel oops). The rest is invented and plain to
see: 1234, 5678, 02:00:00:00:00:0x, addresses of RFC 5737.
"""

from __future__ import annotations

QUERY_GPU = (
    "0, NVIDIA GB10, 0000000F:01:00.0, 580.142, 12.1, Enabled, P8, 41, 4.56, 208, 3003, 0, [N/A], 9A.0B.1C.00.00\n"
)
QUERY_GPU_UNITS = "0, NVIDIA GB10, 0000000F:01:00.0, 580.142, 12.1, Enabled, P0, 62, 38.05 W, 2528 MHz, 3003 MHz, 96 %, [N/A], 9A.0B\n"
# A workstation card beside a GB10, which has memory of its own.
QUERY_GPU_TWO = (
    QUERY_GPU
    + "1, NVIDIA RTX A6000, 00000000:41:00.0, 580.142, 8.6, Disabled, P2, 50, 71.20 W, 1800 MHz, 2100 MHz, 7 %, 49140 MiB, 94.02\n"
)
COMPUTE_APPS = "1234, VLLM::EngineCore, 107074 MiB\n5678, /opt/a,b/python, [N/A]\n"
TABLE = """\
Mon Jun  1 10:00:00 2026
+-----------------------------------------------------------------------------------------+
| NVIDIA-SMI 580.142                Driver Version: 580.142        CUDA Version: 13.0     |
+-----------------------------------------+------------------------+----------------------+
| GPU  Name                 Persistence-M | Bus-Id          Disp.A | Volatile Uncorr. ECC |
| Fan  Temp   Perf          Pwr:Usage/Cap |           Memory-Usage | GPU-Util  Compute M. |
|                                         |                        |               MIG M. |
|=========================================+========================+======================|
|   0  NVIDIA GB10                    On  |   0000000F:01:00.0 Off |                  N/A |
| N/A   41C    P8              4W /  N/A  | Not Supported          |      0%      Default |
|                                         |                        |                  N/A |
+-----------------------------------------+------------------------+----------------------+

+-----------------------------------------------------------------------------------------+
| Processes:                                                                              |
|  GPU   GI   CI              PID   Type   Process name                        GPU Memory |
|        ID   ID                                                               Usage      |
|=========================================================================================|
|    0   N/A  N/A            1111      G   /usr/lib/xorg/Xorg                       18MiB |
|    0   N/A  N/A            1234      C   VLLM::EngineCore                      10707... |
+-----------------------------------------------------------------------------------------+
"""
TABLE_WITH_MEMORY = TABLE.replace("| Not Supported          |", "|  11800MiB /  24576MiB  |")
TABLE_IDLE = (
    TABLE.split("|    0   N/A  N/A            1111")[0]
    + """\
|  No running processes found                                                             |
+-----------------------------------------------------------------------------------------+
"""
)
MODULE_VERSION = """\
NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  580.142  Release Build  (builder@host)  Mon Jan  1 00:00:00 UTC 2026
GCC version:  gcc version 13.3.0 (Ubuntu 13.3.0-6ubuntu2~24.04)
"""
MODULE_VERSION_CLOSED = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.135  Fri Jan 10 20:00:00 UTC 2025\n"
GPU_INFORMATION = """\
Model: \t\t NVIDIA GB10
IRQ:   \t\t 77
GPU UUID: \t GPU-00000001-0000-0000-0000-000000000000
Video BIOS: \t 9A.0B.1C.00.00
Bus Type: \t PCIe
Device Minor: \t 0
"""
CUDA_JSON = '{\n   "cuda" : {\n      "name" : "CUDA SDK",\n      "version" : "13.0.2"\n   }\n}\n'
NVCC = """\
nvcc: NVIDIA (R) Cuda compiler driver
Built on Mon_Jan__1_00:00:00_AM_PDT_2026
Cuda compilation tools, release 13.0, V13.0.88
Build cuda_13.0.r13.0/compiler.0_0
"""

MEMINFO = """\
MemTotal:       127600816 kB
MemFree:        98765432 kB
MemAvailable:   111584904 kB
Cached:         12345678 kB
SwapTotal:      16777212 kB
SwapFree:       16777212 kB
CmaTotal:         131072 kB
CmaFree:           69320 kB
HugePages_Total:       0
HugePages_Free:        0
Hugepagesize:       2048 kB
"""
PRESSURE = """\
some avg10=1.25 avg60=0.50 avg300=0.00 total=123456
full avg10=0.25 avg60=0.00 avg300=0.00 total=23456
"""
BUDDYINFO = """\
Node 0, zone      DMA      1      2      3      4      5      6      7      8      9     10     11
Node 0, zone   Normal     10     20     30     40     50     60     70     80     90    100      0
"""
SWAPS = """\
Filename				Type		Size		Used		Priority
/swap.img                               file		16777212	1024		-2
/mnt/a\\040b                             partition	2048		0		5
"""

CPUINFO = "\n".join(
    f"processor\t: {number}\nBogoMIPS\t: 2000.00\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\n"
    f"CPU part\t: {'0xd87' if number % 10 < 5 else '0xd85'}\nCPU revision\t: 1\n"
    for number in range(20)
)
CPUINFO_X86 = (
    "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC\n\nprocessor\t: 1\nmodel name\t: AMD EPYC\n\n"
)

CMDLINE = 'BOOT_IMAGE=/boot/vmlinuz-7.0.0-1019-nvidia root=UUID=0 ro console=tty0 console=ttyS0,921600 note="two words" quiet\n'
OS_RELEASE = 'PRETTY_NAME="Ubuntu 24.04.4 LTS"\nVERSION_ID="24.04"\nVERSION_CODENAME=noble\nID=ubuntu\n'
DGX_RELEASE = """\
DGX_NAME="DGX Spark"
DGX_PRETTY_NAME="NVIDIA DGX Spark"
DGX_SWBUILD_DATE="2025-09-10-13-50-03"
DGX_SWBUILD_VERSION="7.2.3"
DGX_COMMIT_ID="0000000"
DGX_PLATFORM=DGX Server for KVM
DGX_SERIAL_NUMBER="Not Specified"

DGX_OTA_VERSION="7.3.1"
DGX_OTA_DATE="mer. 19 nov. 2025 17:05:30 CET"
DGX_OTA_VERSION="7.5.0"
DGX_OTA_DATE="Thu Apr 23 12:57:18 AM UTC 2026"
"""
OTA_SNAPSHOT = 'ssbbs "ready" "2026-09-05T12:33:41+03:00" true true "July 2026"\n'
RECIPE = '{"metadata": {"name": "OTA2604", "external_name": "April 2026", "releaseDate": "2026-04-21"}, "package": []}'
DMIDECODE_45 = """\
# dmidecode 3.5
Getting SMBIOS data from sysfs.
SMBIOS 3.3.0 present.

Handle 0x0009, DMI type 45, 26 bytes
Firmware Inventory Information
\tFirmware Component Name: UEFI
\tFirmware Version: R:1.110.13
\tLowest Supported Firmware Version: Not Specified

Handle 0x0010, DMI type 45, 24 bytes
Firmware Inventory Information
\tFirmware Component Name: PD Firmware
\tFirmware Version: PD0 FW1: 5.22, FW2: 4.10

Handle 0x0011, DMI type 45, 24 bytes
Firmware Inventory Information
\tFirmware Component Name: PD Firmware
\tFirmware Version: Default string
"""
FWUPD = """\
{"Devices": [
  {"Name": "UEFI Device Firmware", "Version": "0x02009b0b", "Vendor": "Asus", "Plugin": "uefi_capsule",
   "Serial": "SECRET-SERIAL", "Guid": ["00000000-0000-0000-0000-000000000001"],
   "Releases": [{"Version": "0x02009b0c", "Flags": ["is-upgrade"]}]},
  {"Name": "UEFI Device Firmware", "Version": "0x00000516"},
  {"Name": "UEFI Signature Database"}
]}
"""
DAEMON_JSON = '{"runtimes": {"nvidia": {"path": "nvidia-container-runtime", "args": []}}, "features": {"cdi": true}}\n'
CDI_YAML = "---\ncdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices:\n- name: all\n"
CDI_JSON = '{"cdiVersion":"0.7.0","kind":"nvidia.com/gpu","devices":[]}'
DPKG = "linux-image-6.17.0-1014-nvidia,6.17.0-1014.14,installed\nnvidia-modprobe,610.57.04-1ubuntu1,installed\npodman,4.9.3,config-files\n"
TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:2AF8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1 0 100 0 0 10 0
   2: 0100007F:A000 0100007F:2AF8 01 00000000:00000000 00:00000000 00000000     0        0 3 1 0 100 0 0 10 0
"""
TCP6 = """\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000001000000:0277 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4 1 0 100 0 0 10 0
"""
UDEV_DISK = "S:disk/by-id/usb-Enclosure_1234-0:0\nI:1234\nE:ID_PART_TABLE_TYPE=gpt\nE:ID_MODEL=Enclosure\nG:systemd\n"
UDEV_PART = "S:disk/by-label/data\nE:ID_FS_TYPE=ext4\nE:ID_FS_LABEL=data\nE:ID_PART_TABLE_TYPE=gpt\n"
MOUNTINFO = "29 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw\n40 29 8:1 / /mnt/a\\040b rw shared:2 - ext4 /dev/sda1 rw\n"
SECURE_BOOT_ON = "\x06\x00\x00\x00\x01"
