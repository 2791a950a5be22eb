#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_toolkit
short_description: Ensure the NVIDIA driver, container toolkit and CDI of a node, adopting what DGX OS brings
version_added: 0.1.0
description:
  - On DGX OS everything is there already. It is adopted and held against what is known of it, and no repository is
    added. On Ubuntu 24.04 the container toolkit is installed from NVIDIA's repository, on Arch Linux from its own, and
    there not while upgrades are pending.
  - A driver package, or the modules of a kernel, are installed only when O(confirm) names the package.
  - Says whether the GPU will be there after the next boot, which is the gate of every reboot. The kernel that boots
    then needs its C(nvidia.ko), an image and an initrd, and dpkg or pacman must have left nothing half done.
  - A node without an NVIDIA GPU and without NVIDIA packages is unknown, and nothing is done to it, unless
    O(declared_gpu) says that it has none. A GPU that is there all the same is drift then, and fails a real run.
  - Another system than DGX OS 7, Ubuntu 24.04 and Arch Linux that has a GPU or packages is unknown in a check, and a
    real run refuses it.
  - C(nvidia-smi) is started only where that sets nothing up. Docker is asked only where its daemon runs.
attributes:
  check_mode:
    description: Predicts what a real run would do.
    support: full
  diff_mode:
    description: Shows every property of each drifted control.
    support: full
  idempotent:
    description: After applying, the node is looked at again; a plan that is not empty is an error.
    support: full
extends_documentation_fragment:
  - nusy.dgx_spark.declared_gpu
  - nusy.dgx_spark.version_matrix
  - nusy.dgx_spark.ensuring
options:
  gpu:
    description:
      - V(auto) ensures where there is an NVIDIA GPU on the PCI bus or an NVIDIA package.
      - V(expected) ensures in any case, as for a machine whose GPU is not there yet.
    type: str
    choices: [auto, expected]
    default: auto
  branch:
    description: Branch of the driver. Packages of another one are drift. Arch Linux has none.
    type: str
    default: "580"
  driver_packages:
    description:
      - Packages of the driver, by their exact names.
      - Empty stands for prebuilt open modules that follow the kernel's metapackage, and the user space of O(branch).
    type: list
    elements: str
    default: []
  version:
    description:
      - Version of the four packages of the container toolkit. Empty takes any, as long as it is one.
      - Arch Linux has one version at a time. Another one that is declared fails there.
    type: str
    default: ""
  repository_url:
    description:
      - Address of the apt repository of the container toolkit, on Ubuntu. C($(ARCH)) stands for the architecture.
      - A source of this address that somebody has configured is adopted.
    type: str
    default: https://nvidia.github.io/libnvidia-container/stable/deb/$(ARCH)
  repository_fingerprint:
    description: Fingerprint of the key that signs it, 40 digits. The default is NVIDIA's.
    type: str
    default: C95B321B61E88C1809C4F759DDCAE044F796ECB0
  repository_key:
    description: The key itself, armoured. When it is empty a real run fetches it from O(repository_key_url).
    type: str
    default: ""
  repository_key_url:
    description:
      - Where the key is fetched from, an https or file address. Nothing is written unless what comes is the key with
        O(repository_fingerprint) and no other.
    type: str
    default: https://nvidia.github.io/libnvidia-container/gpgkey
  holds:
    description:
      - Installed packages that are held at their version, by exact name.
      - On DGX OS a hold makes the Dashboard ask for updates for ever, so none is the default. Arch Linux has no holds.
    type: list
    elements: str
    default: []
  docker_users:
    description: Accounts that shall be in the group C(docker), which makes them root on this node.
    type: list
    elements: str
    default: []
seealso:
  - module: nusy.dgx_spark.cuda_toolchain
  - module: nusy.dgx_spark.spark_facts
author:
  - The nusy.dgx_spark maintainers (@nusy)
"""

EXAMPLES = r"""
- name: Adopt what DGX OS brings, and say what is wrong with it
  nusy.dgx_spark.nvidia_toolkit:
  become: true
  register: nvidia

- name: Install the driver of branch 580 on Ubuntu 24.04
  nusy.dgx_spark.nvidia_toolkit:
    confirm:
      - linux-modules-nvidia-580-open-generic
      - nvidia-headless-no-dkms-580-open
      - nvidia-utils-580
      - libnvidia-compute-580
  become: true
"""

RETURN = r"""
controls:
  description: One verdict for each control. See docs/contracts/evidence.md.
  returned: always, also with a failed run that got as far as looking
  type: list
  elements: dict
  contains:
    id:
      description: Id of the control.
      type: str
    state:
      description: What was found - C(in_sync), C(drifted), C(unknown) or C(not_selected).
      type: str
    before:
      description: Differing properties as found.
      type: dict
    after:
      description: The same properties as declared.
      type: dict
    reason:
      description: One line; always there for C(unknown) and C(not_selected).
      type: str
    blocked_by:
      description: The variable and value that would allow the step, empty when not blocked.
      type: str
    cause:
      description: Who moved - C(corrective), C(intentional), C(never_applied), C(blocked), C(adopted) or empty.
      type: str
driver:
  description: Version of the installed user space of the driver; empty if there is none.
  returned: on a supported system that is declared to have a GPU
  type: str
  sample: 580.142
next_kernel:
  description: The kernel of the next boot, and what would be missing then.
  returned: on a supported system that is declared to have a GPU
  type: dict
  contains:
    release:
      description: Its release; null when it cannot be told.
      type: str
    gaps:
      description: What it lacks of C(nvidia.ko), C(vmlinuz) and C(initrd); null when it cannot be told.
      type: list
      elements: str
    problem:
      description: Why it cannot be told.
      type: str
    audit:
      description: What dpkg has left half done.
      type: str
  sample: {release: 6.17.0-1022-nvidia, gaps: [], problem: "", audit: ""}
left:
  description: The controls as a failed real run left them; see docs/contracts/evidence.md.
  returned: when a real run fails after it has looked
  type: list
  elements: dict
plan:
  description: The steps, in order, that were or would be done.
  returned: always
  type: list
  elements: str
refused:
  description: Why a real run would not be begun; see M(nusy.dgx_spark.ensure_state).
  returned: when there is such a reason
  type: list
  elements: str
unused_confirm:
  description: Names in O(confirm) that no step asked for.
  returned: when there are such names
  type: list
  elements: str
assumptions:
  description: What the plan relies on and this declaration does not say.
  returned: always
  type: list
  elements: str
error:
  description: The four parts of an error and its key.
  returned: on failure
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import ensure
from ansible_collections.nusy.dgx_spark.plugins.module_utils._nvidia.subject import MODULE


def main() -> None:
    ensure(MODULE, AnsibleModule)


if __name__ == "__main__":
    main()
