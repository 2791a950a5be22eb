#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Everything the collection wants to know about a node, in one read-only call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: spark_facts
short_description: Gather what matters on a DGX Spark, changing nothing
version_added: "0.1.0"
description:
  - One read-only call returns the machine, GPU, memory, network, disks, firmware, DGX OS level, container runtimes and
    security state of a node as C(ansible_facts.spark).
  - A fact that cannot be learned is absent from its place, and C(ansible_facts.spark.unknown) says why, by its dotted
    path. So a playbook that uses it by mistake fails, and does not read it as false. Test with C(is defined).
  - A later call replaces all facts of an earlier one, also when it gathers fewer subjects.
  - A null is a value. It says that the property does not apply, as the GPU memory of a GB10, which has none of its own.
  - Works without root, without a GPU, without NVIDIA software and without a network, and then knows less.
  - Has no side effects. It never allocates GPU memory, never queries the firmware of network cards (C(mstflint) can
    crash the kernel), loads no kernel module, starts no daemon, and never runs NVIDIA's own update checker, which may
    install packages. C(nvidia-smi) is started only when the driver and its device nodes are there already.
  - Each subject is looked at in a process of its own, all at once. One that hangs in the kernel becomes unknown, and
    the others are returned in time.
  - Serial numbers of the machine and UUIDs of GPUs are not returned. MAC addresses are, since the fabric is planned by
    them. So are the names of disks by id, which hold serial numbers, since arrays are declared by them.
options:
  gather_subset:
    description:
      - The subjects to look at. C(is_spark) needs V(gpu). C(known_issues) needs V(kernel), V(memory), V(network) and
        V(gpu), and what C(versions) needs, which are V(kernel), V(gpu), V(machine), V(cuda), V(containers), V(network),
        V(firmware) and V(packages).
    type: list
    elements: str
    default: [all]
    choices:
      - all
      - machine
      - kernel
      - gpu
      - cuda
      - cpu
      - memory
      - network
      - storage
      - dgx
      - firmware
      - containers
      - packages
      - security
      - reboot
  timeout:
    description:
      - Seconds after which the module returns what it knows by then, from 2 to 300.
    type: int
    default: 20
  fwupd:
    description:
      - Also ask C(fwupdmgr) for the devices it knows.
      - This starts the fwupd daemon if it is not running, so it is off by default.
    type: bool
    default: false
extends_documentation_fragment: nusy.dgx_spark.version_matrix
attributes:
  check_mode:
    support: full
    description: Gives the same facts in check mode; nothing is ever changed.
  diff_mode:
    support: none
    description: Nothing is changed, so there is nothing to compare.
  facts:
    support: full
    description: Returns C(ansible_facts), which later tasks read as C(ansible_facts.spark).
  idempotent:
    support: full
    description: Nothing is changed. Readings such as temperature and free memory differ from call to call.
  platform:
    support: full
    platforms: linux
    description: Made for DGX OS 7 and Ubuntu 24.04 on aarch64; other Linux systems are described as far as they can be.
author:
  - The nusy.dgx_spark maintainers (@nusy)
seealso:
  - name: Guide to the facts
    description: What each fact is for, what unknown looks like, and examples.
    link: https://github.com/nusy/dgx_spark/blob/main/docs/guides/facts.md
"""

EXAMPLES = r"""
- name: Gather the facts of a Spark
  nusy.dgx_spark.spark_facts:

- name: Refuse anything that is not known to be a DGX Spark or one of its OEM twins
  ansible.builtin.assert:
    that: ansible_facts.spark.is_spark is defined and ansible_facts.spark.is_spark
    fail_msg: "Not a Spark, or not known: {{ ansible_facts.spark.unknown.is_spark | default('another GPU') }}"

- name: Show faults that the facts give away
  ansible.builtin.debug:
    var: ansible_facts.spark.known_issues

- name: Gather only memory and network, quickly
  nusy.dgx_spark.spark_facts:
    gather_subset: [memory, network]
    timeout: 5

- name: List ConnectX-7 interfaces that have a cable
  ansible.builtin.debug:
    msg: >-
      {{ ansible_facts.spark.network.interfaces | dict2items
         | selectattr('value.driver', 'defined') | selectattr('value.driver', 'eq', 'mlx5_core')
         | selectattr('value.carrier', 'defined') | selectattr('value.carrier') | map(attribute='key') }}
"""

RETURN = r"""
ansible_facts:
  description: Facts to add to the host.
  returned: always
  type: dict
  contains:
    spark:
      description: The facts of this node.
      type: dict
      contains:
        is_spark:
          description: Whether a GPU is named NVIDIA GB10. DMI strings do not decide.
          type: bool
          sample: true
        known_issues:
          description: >-
            Known faults that these facts give away, and versions that are known to be bad, id and sentence. One that
            cannot be judged is in C(unknown).
          type: dict
        versions:
          description: >-
            What the version matrix knows of each version that was found, by subject - C(version), C(verdict), which is
            absent where it could not be judged, and the C(rows) that say so. See docs/version-matrix.md.
          type: dict
          sample: {kernel: {version: 6.17.0-1014-nvidia, verdict: known_good, rows: [kernel_6_17_since_1014]}}
        machine:
          description: "Who made the machine, from DMI."
          type: dict
          contains:
            vendor: {description: DMI system vendor., type: str}
            product: {description: DMI product name., type: str}
            product_version: {description: "DMI product version, or null.", type: str}
            family: {description: DMI product family; V(DGX Spark) on twins too., type: str}
            board_vendor:
              description: DMI board vendor. NVIDIA updates firmware differently when it is not V(NVIDIA).
              type: str
            board: {description: DMI board name., type: str}
            brand: {description: Maker as people call it., type: str, sample: ASUS}
            model: {description: Marketing name of a known GB10 machine., type: str, sample: Ascent GX10}
        kernel:
          description: "Kernel, its command line and the operating system."
          type: dict
          contains:
            release: {description: Kernel release., type: str, sample: 6.17.0-1014-nvidia}
            build: {description: Kernel build., type: str}
            architecture: {description: Machine architecture., type: str, sample: aarch64}
            command_line: {description: The whole command line., type: str}
            parameters: {description: Parameter and the list of its values in order., type: dict}
            cgroup_controllers: {description: Controllers of the unified hierarchy., type: list, elements: str}
            os:
              description: From /etc/os-release.
              type: dict
              contains:
                id: {description: Distribution., type: str}
                version_id: {description: Version., type: str}
                codename: {description: Code name., type: str}
                pretty_name: {description: Name with the point release., type: str}
        gpu:
          description: NVIDIA GPUs and their driver.
          type: dict
          contains:
            pci_addresses: {description: NVIDIA display devices on the PCI bus., type: list, elements: str}
            driver_version: {description: "Driver, of two or three parts.", type: str, sample: "580.142"}
            module_version: {description: Version of the loaded kernel module., type: str}
            module_is_open: {description: Whether the open kernel module is loaded., type: bool}
            cuda_driver_version: {description: Newest CUDA that the driver speaks., type: str, sample: "13.0"}
            devices:
              description: The GPUs.
              type: list
              elements: dict
              contains:
                index: {description: Number of the GPU., type: int}
                name: {description: Name., type: str, sample: NVIDIA GB10}
                pci_address: {description: PCI address as the kernel writes it., type: str}
                compute_capability: {description: Compute capability., type: str, sample: "12.1"}
                persistence_mode: {description: Whether the driver stays initialised., type: bool}
                performance_state: {description: P0 (busy) to P12., type: str}
                temperature_celsius: {description: Temperature., type: int}
                power_watts: {description: Power drawn., type: float}
                graphics_clock_mhz: {description: Clock now., type: int}
                graphics_clock_max_mhz: {description: Highest clock., type: int}
                utilization_percent: {description: Share of time in which the GPU worked., type: int}
                memory_total_bytes: {description: Own memory of the GPU; null on a GB10., type: int}
                vbios_version: {description: Firmware of the GPU., type: str}
            processes:
              description: Processes that use the GPU. Their memory is the only true figure of GPU memory on a GB10.
              type: list
              elements: dict
              contains:
                pid: {description: Process., type: int}
                type: {description: "C (compute), G (graphics) or C+G.", type: str}
                name: {description: Command., type: str}
                memory_bytes: {description: Memory that it holds., type: int}
        cuda:
          description: CUDA toolkits in /usr/local and /opt.
          type: dict
          contains:
            toolkits:
              description: Each toolkit.
              type: list
              elements: dict
              contains:
                path: {description: Folder., type: str}
                version: {description: Version of the toolkit., type: str, sample: "13.0.2"}
                nvcc_version: {description: Version of its compiler., type: str, sample: "13.0.88"}
            default_path: {description: "Where /usr/local/cuda leads, or null.", type: str}
        cpu:
          description: Processors.
          type: dict
          contains:
            online_count: {description: Processors online., type: int}
            online: {description: Their numbers., type: str, sample: 0-19}
            models:
              description: Kinds of processors.
              type: list
              elements: dict
              contains:
                name: {description: Model., type: str, sample: Cortex-X925}
                count: {description: How many., type: int}
                cpus: {description: Their numbers., type: str}
            packages: {description: Processors of each package., type: list, elements: str}
            clusters: {description: Processors of each cluster., type: list, elements: str}
            cores: {description: Processors of each core., type: list, elements: str}
            numa_nodes: {description: Number of memory nodes., type: int}
            frequency_policies:
              description: Frequency control.
              type: list
              elements: dict
              contains:
                cpus: {description: Processors., type: str}
                driver: {description: Driver., type: str}
                governor: {description: Governor., type: str}
                max_mhz: {description: Highest frequency., type: int}
        memory:
          description: "Memory, which CPU and GPU of a GB10 share."
          type: dict
          contains:
            total_bytes: {description: MemTotal., type: int}
            free_bytes: {description: "MemFree, which is about what CUDA calls free.", type: int}
            available_bytes: {description: "MemAvailable, which is what can be had.", type: int}
            cached_bytes: {description: Page cache., type: int}
            swap_total_bytes: {description: Swap., type: int}
            swap_free_bytes: {description: Unused swap., type: int}
            cma_total_bytes: {description: Contiguous memory area., type: int}
            cma_free_bytes: {description: Free part of it., type: int}
            huge_pages_total: {description: Number of huge pages., type: int}
            huge_pages_free: {description: Free huge pages., type: int}
            huge_page_size_bytes: {description: Size of one., type: int}
            page_size_bytes: {description: "Page size; 4096, or 65536 on a 64k kernel.", type: int}
            pressure:
              description: >-
                Stalls by lack of memory, C(some) and C(full), as C(avg10_percent),
                C(avg60_percent), C(avg300_percent), C(total_microseconds).
              type: dict
            swap_devices:
              description: Swap files and partitions.
              type: list
              elements: dict
              contains:
                path: {description: File., type: str}
                type: {description: V(file) or V(partition)., type: str}
                size_bytes: {description: Size., type: int}
                used_bytes: {description: Used., type: int}
                priority: {description: Priority., type: int}
            buddy:
              description: "Fragmentation of free memory, all zones together."
              type: dict
              contains:
                free_blocks_by_order:
                  description: "Free blocks of 2^n pages, from n = 0."
                  type: list
                  elements: int
                free_blocks_order_8_and_up: {description: Free blocks of at least 256 pages., type: int}
                free_blocks_order_10_and_up: {description: Free blocks of at least 1024 pages., type: int}
                largest_free_block_bytes: {description: "Largest free block, or null.", type: int}
        network:
          description: "Network interfaces, RDMA devices, ConnectX ports, listening sockets."
          type: dict
          contains:
            interfaces:
              description: "By name, without lo."
              type: dict
              contains:
                <name>:
                  description: >-
                    One interface. Virtual ones have C(physical), C(mtu), C(state), C(mac),
                    C(master) only.
                  type: dict
                  contains:
                    physical: {description: Whether it has a device., type: bool}
                    mtu: {description: MTU., type: int}
                    state: {description: Operational state., type: str}
                    mac: {description: "MAC address, or null.", type: str}
                    master: {description: "Bond or bridge it belongs to, or null.", type: str}
                    carrier: {description: Whether there is a link., type: bool}
                    speed_mbps:
                      description: Negotiated speed in Mb/s. It proves nothing about what the link carries.
                      type: int
                    wireless: {description: Whether it is Wi-Fi., type: bool}
                    driver: {description: Driver., type: str, sample: mlx5_core}
                    driver_version: {description: "Version of an out-of-tree driver, or null.", type: str}
                    pci_address: {description: PCI address., type: str}
                    pci_id: {description: PCI vendor and device., type: str, sample: 15b3:1021}
                    pcie_link:
                      description: "PCIe link as C(speed_gts), C(width), C(speed_max_gts), C(width_max)."
                      type: dict
                    rdma_device: {description: "Its RDMA device, or null.", type: str, sample: rocep1s0f0}
            virtual_interfaces_left_out: {description: Virtual interfaces beyond the first 64., type: int}
            rdma_devices:
              description: By name.
              type: dict
              contains:
                <name>:
                  description: One device.
                  type: dict
                  contains:
                    netdevs: {description: Its network interfaces., type: list, elements: str}
                    firmware: {description: Firmware., type: str, sample: "28.45.4028"}
                    board_id: {description: Board (PSID)., type: str}
                    ports:
                      description: >-
                        By number: C(state), C(physical_state), C(link_layer), C(rate_gbps),
                        C(gids) and C(roce_v2_ipv4_gid_index), the index for NCCL, or null.
                      type: dict
                      contains:
                        <number>:
                          description: One port.
                          type: dict
                          contains:
                            state: {description: V(ACTIVE) or V(DOWN)., type: str}
                            physical_state: {description: Physical state., type: str}
                            link_layer: {description: V(Ethernet) or V(InfiniBand)., type: str}
                            rate_gbps: {description: Rate in Gb/s; 40 on a port that is down., type: float}
                            gids:
                              description: GIDs in use.
                              type: list
                              elements: dict
                              contains:
                                index: {description: Index in the table of the port., type: int}
                                gid: {description: The GID., type: str}
                                ipv4: {description: "The IPv4 address it stands for, or null.", type: str}
                                type: {description: V(RoCE v2) or V(IB/RoCE v1)., type: str}
                            roce_v2_ipv4_gid_index:
                              description: "Lowest index of a RoCE v2 GID with an IPv4 address, or null."
                              type: int
            connectx:
              description: ConnectX ports.
              type: dict
              contains:
                ports:
                  description: >-
                    Physical port (the function number of the PCI address) and its interfaces;
                    two on a GB10.
                  type: dict
                hotplug_configured: {description: Whether /etc/nvidia/cx7-hotplug-enabled exists., type: bool}
                hotplug_enabled: {description: Whether the kernel removes the card when no cable is in., type: bool}
                cable_present: {description: Whether a cable is in., type: bool}
            tcp_listeners:
              description: Listening TCP sockets.
              type: list
              elements: dict
              contains:
                address: {description: Address., type: str}
                port: {description: Port., type: int}
        storage:
          description: "Disks and arrays, without loop, RAM and optical devices."
          type: dict
          contains:
            disks:
              description: By kernel name.
              type: dict
              contains:
                <name>:
                  description: One disk.
                  type: dict
                  contains:
                    size_bytes: {description: Size., type: int}
                    read_only: {description: Whether the kernel refuses writes., type: bool}
                    by_id:
                      description: Names in /dev/disk/by-id. They hold serial numbers.
                      type: list
                      elements: str
                    filesystem:
                      description: "Signature that udev found (ext4, xfs, linux_raid_member, …), or null."
                      type: str
                    label: {description: "Label of the file system, or null.", type: str}
                    mounted_on: {description: Mount points., type: list, elements: str}
                    used_by: {description: Arrays and mappings built on it., type: list, elements: str}
                    partition_table: {description: "V(gpt), V(dos), or null.", type: str}
                    model: {description: "Model, or null.", type: str}
                    rotational: {description: Whether it turns., type: bool}
                    removable: {description: Whether its medium can be taken out., type: bool}
                    bus: {description: "V(nvme), V(usb), V(sata), V(virtio), V(virtual) or V(other).", type: str}
                    usb_speed_mbps:
                      description: Speed of its USB link in Mb/s; 480 is a fall back to USB 2. Null if not on USB.
                      type: float
                    members: {description: Disks that an array consists of., type: list, elements: str}
                    partitions:
                      description: "Partitions by name, each with the facts that a disk shares with it."
                      type: dict
        dgx:
          description: DGX OS.
          type: dict
          contains:
            is_dgx_os: {description: Whether /etc/dgx-release exists., type: bool}
            release:
              description: From /etc/dgx-release. The stamp is no proof of the level reached.
              type: dict
              contains:
                name: {description: Name., type: str}
                platform: {description: Platform; V(DGX Server for KVM) on real machines., type: str}
                image_version: {description: Version of the factory image., type: str}
                image_date: {description: Its date., type: str}
                commit: {description: Its commit., type: str}
                ota_version:
                  description: "Level of the last over-the-air update, or null."
                  type: str
                  sample: "7.5.0"
                ota_date:
                  description: "Date of it, as the machine wrote it in its own language, or null."
                  type: str
            ota:
              description: "What DGX Dashboard knows about updates, if it runs."
              type: dict
              contains:
                state: {description: State of the check., type: str}
                checked_at: {description: Time of the check., type: str}
                updates_enabled: {description: Whether updates are on., type: bool}
                update_available: {description: Whether one is due., type: bool}
                available_name: {description: "Its name, or null.", type: str}
            ota_recipes:
              description: >-
                Updates that NVIDIA's checker on this node knows, as C(name), C(external_name),
                C(release_date).
              type: list
              elements: dict
        firmware:
          description: Firmware.
          type: dict
          contains:
            bios_vendor: {description: BIOS vendor., type: str}
            bios_version: {description: BIOS version., type: str}
            bios_date: {description: BIOS date., type: str}
            efi: {description: Whether the machine booted by UEFI., type: bool}
            esrt:
              description: "UEFI update targets by GUID, as C(version) and C(version_decoded). Needs root."
              type: dict
            components:
              description: SMBIOS firmware inventory as C(name) and C(version); names repeat. Needs root.
              type: list
              elements: dict
            nvme: {description: "By name, as C(model) and C(firmware).", type: dict}
            fwupd_devices:
              description: >-
                Devices as C(name), C(version), C(version_decoded), C(vendor), C(plugin), C(guids),
                C(upgrade_version). Needs O(fwupd=true).
              type: list
              elements: dict
        containers:
          description: Container runtimes.
          type: dict
          contains:
            docker:
              description: Docker client and configuration.
              type: dict
              contains:
                version: {description: Version., type: str}
                nvidia_runtime: {description: Whether daemon.json names the nvidia runtime., type: bool}
                default_runtime: {description: "Default runtime set in it, or null.", type: str}
                cdi_enabled: {description: "CDI switch set in it, or null.", type: bool}
            podman: {description: "Podman, as C(version).", type: dict}
            containerd: {description: "Containerd, as C(version).", type: dict}
            nvidia_toolkit: {description: "NVIDIA Container Toolkit, as C(version).", type: dict}
            cdi_specs: {description: "CDI specifications by path, as C(cdi_version) and C(kind).", type: dict}
        packages:
          description: "Versions of the installed packages of kernel, driver, CUDA, DGX and containers."
          type: dict
        security:
          description: Security state.
          type: dict
          contains:
            secure_boot: {description: Whether Secure Boot is on., type: bool}
            lockdown: {description: Kernel lockdown., type: str}
            modules: {description: Linux security modules., type: list, elements: str}
            apparmor: {description: Whether AppArmor is on., type: bool}
            selinux: {description: "V(enforcing), V(permissive) or V(disabled).", type: str}
            ufw_enabled_at_boot:
              description: >-
                Whether ufw is configured to start. Live firewall rules are not read, since that
                loads kernel modules.
              type: bool
        reboot:
          description: Whether a reboot is due.
          type: dict
          contains:
            required: {description: Whether it is required., type: bool}
            packages: {description: Packages that asked for it., type: list, elements: str}
        unknown:
          description: "Dotted path of each fact that is not known, and the reason."
          type: dict
          sample: {gpu.devices: the NVIDIA kernel driver is not loaded}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import exact, fail
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import HostReader
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.observe import SUBJECTS, observe
from ansible_collections.nusy.dgx_spark.plugins.module_utils._versions.judge import OPTIONS, matrix


def main() -> None:
    module = exact(AnsibleModule)(
        argument_spec={
            "gather_subset": {"type": "list", "elements": "str", "default": ["all"], "choices": ["all", *SUBJECTS]},
            "timeout": {"type": "int", "default": 20},
            "fwupd": {"type": "bool", "default": False},
            **OPTIONS,
        },
        supports_check_mode=True,
    )
    wanted = module.params
    if not 2 <= wanted["timeout"] <= 300:
        found = str(wanted["timeout"])
        why = "in less nothing can be looked at, and a longer run helps nobody"
        problem = InputError("spark_facts.timeout", wanted="2 to 300 s", found=found, why=why, fix="change timeout")
        fail(module, problem)
        return
    try:
        rows = matrix(wanted["version_matrix"])
    except InputError as error:
        fail(module, error)
        return
    subsets, seconds, fwupd = wanted["gather_subset"], wanted["timeout"], wanted["fwupd"]
    facts, bugs = observe(HostReader(), subsets=subsets, seconds=seconds, fwupd=fwupd, rows=rows)
    for subject, trace in bugs.items():
        module.warn(f"spark_facts could not gather {subject} because of an error of its own, please report it: {trace}")
    module.exit_json(changed=False, ansible_facts={"spark": facts})


if __name__ == "__main__":
    main()
