#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: kernel_tuning
short_description: Ensure how the kernel is booted and tuned
version_added: 0.1.0
description:
  - Ensures parameters of the kernel's command line, transparent huge pages, kernel values, limits of locked memory, the
    default target, barred modules and the hardware watchdog, for a machine where CPU and GPU share one memory.
  - A parameter is judged by the running command line. After the boot menu is right and before the machine is rebooted
    its control is drifted and waits. This module never reboots; RV(reboot_needed) says that a reboot is owed.
  - What another file already puts into the boot menu, or bars, is adopted.
attributes:
  check_mode:
    description: Looks at what a real run looks at.
    support: full
  diff_mode:
    description: Shows each line, value and truth that differs.
    support: full
  idempotent:
    description: After applying, the node is looked at again; a plan that is not empty is an error.
    support: full
extends_documentation_fragment:
  - nusy.dgx_spark.version_matrix
  - nusy.dgx_spark.ensuring
options:
  host:
    description: Name of this host in the inventory, as O(reboot_confirm) has it.
    type: str
    required: true
  matrix:
    description: Whether what the version matrix says the kernels of this node need is put on the command line.
    type: bool
    default: true
  parameters:
    description: Further parameters of the command line, C(name) or C(name=value).
    type: list
    elements: str
    default: []
  killed_modules:
    description:
      - Modules that the kernel refuses from its first moment, also those that are built into the initramfs
        (C(module_blacklist=)). For a driver with a hole that has no update yet.
    type: list
    elements: str
    default: []
  thp:
    description: Who gets transparent huge pages. V(leave) leaves it as it is.
    type: str
    choices: [always, madvise, never, leave]
    default: madvise
  thp_defrag:
    description: Who waits while memory is compacted for them. V(leave) leaves it as it is.
    type: str
    choices: [always, defer, defer+madvise, madvise, never, leave]
    default: madvise
  sysctls:
    description: Kernel values below C(vm), C(kernel) and C(fs), by name.
    type: dict
    default: {}
  memlock:
    description: Whether processes may lock as much memory as they ask for, in sessions and in services.
    type: bool
    default: true
  cppc:
    description:
      - Whether cores must choose their performance by themselves, where the processor can. Only looked at; it comes
        with C(nvidia-cppc-cpufreq-options) of DGX OS.
    type: bool
    default: true
  headless:
    description:
      - Whether the machine boots to C(multi-user.target) and runs no desktop. One that runs is stopped only when
        O(confirm) names its unit.
    type: bool
    default: true
  barred_modules:
    description:
      - Modules that must not be loaded. Never the one that carries the default route; C(r8169) only where C(r8127) is
        loaded. One that is loaded is unloaded only when O(confirm) names it.
    type: list
    elements: str
    default: []
  watchdog_seconds:
    description: After how long the hardware resets a machine that hangs. 0 leaves the watchdog alone.
    type: int
    default: 60
  reboot_confirm:
    description: Hosts that will be rebooted when a reboot is owed. Only the wording of the verdicts follows from it.
    type: list
    elements: str
    default: []
  rebooted:
    description: Whether this run has rebooted the machine, after which nothing waits for a reboot any more.
    type: bool
    default: false
author:
  - The nusy.dgx_spark maintainers (@nusy)
"""

EXAMPLES = r"""
- name: Ensure how the kernel is booted and tuned
  nusy.dgx_spark.kernel_tuning:
    host: "{{ inventory_hostname }}"
    parameters: [iommu.passthrough=0]
    sysctls:
      vm.max_map_count: 1048576
    barred_modules: [nouveau]
  become: true
"""

RETURN = r"""
controls:
  description: One verdict for each control. See docs/contracts/evidence.md.
  returned: always, also with a failed run that got as far as looking
  type: list
  elements: dict
left:
  description: The controls as a failed real run left them.
  returned: when a real run fails after it has looked
  type: list
  elements: dict
plan:
  description: The steps, in order, that were or would be done.
  returned: always
  type: list
  elements: str
assumptions:
  description: What the plan relies on.
  returned: always
  type: list
  elements: str
reboot_needed:
  description: Declared parameters that the running kernel was booted without.
  returned: on a supported system
  type: list
  elements: str
refused:
  description: Why a real run stops before its first step, since it would certainly fail half-way.
  returned: when there is such a reason
  type: list
  elements: str
unused_confirm:
  description: Names in O(confirm) that no step asked for.
  returned: when there are such names
  type: list
  elements: str
error:
  description: The four parts of an error and its key.
  returned: on failure
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import ensure
from ansible_collections.nusy.dgx_spark.plugins.module_utils._tuning.subject import MODULE


def main() -> None:
    ensure(MODULE, AnsibleModule)


if __name__ == "__main__":
    main()
