#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: updates
short_description: Say whether a node is up to date, and upgrade it when it is named
version_added: 0.1.0
description:
  - Looks, without touching anything, what C(apt-get dist-upgrade) would do with the package lists that are there,
    whether dpkg has finished what it began, and what the DGX Dashboard knows of over-the-air updates.
  - Refreshes the lists and upgrades only on a host that O(confirm) names. An upgrade can replace the kernel and the
    driver under a running engine. What it would remove, packages that flash firmware while they are installed, and
    kernels, drivers and toolkits that the version matrix knows to be bad have to be named as well.
  - Every node gets the same set, whatever Ubuntu's phasing has chosen for its machine-id.
  - Never reboots.
attributes:
  check_mode:
    description:
      - Simulates with the package lists that are there. A real run whose lists are older than O(lists_max_age_hours)
        refreshes them first, so more can be pending then; a check says so.
    support: full
  diff_mode:
    description: Shows each package with both versions.
    support: full
  idempotent:
    description: After an upgrade nothing is pending.
    support: full
extends_documentation_fragment:
  - nusy.dgx_spark.version_matrix
  - nusy.dgx_spark.ensuring
options:
  host:
    description: Name of this node in the inventory, by which O(confirm) allows its upgrade.
    type: str
    required: true
  lists_max_age_hours:
    description:
      - Hours. Older package lists say nothing about today, so that what seems up to date is C(unknown). From 1 to 8760.
    type: int
    default: 48
  firmware:
    description:
      - Also ask fwupd what it has for this machine. That starts its daemon.
      - A device is updated only when O(confirm) names its GUID. It takes effect at the next boot.
    type: bool
    default: false
  dashboard_wait:
    description:
      - Seconds in which the DGX Dashboard may still find out, after a boot, what level the machine has. At most 3600.
    type: int
    default: 0
  images:
    description:
      - Scans of container images, as the filter P(nusy.dgx_spark.trivy_images#filter) makes them. With them every image
        of Docker and Podman is judged by its digest. Empty for not judging them.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: What the scan calls the image.
        type: str
        required: true
      ids:
        description: Its id, without C(sha256:).
        type: list
        elements: str
        default: []
      digests:
        description: Digests of manifests by which it can be pulled.
        type: list
        elements: str
        default: []
      architecture:
        description: Which of the architectures behind such a digest was scanned, as Go spells it.
        type: str
        default: ""
      scanned:
        description: When, as RFC 3339 has it.
        type: str
        required: true
      findings:
        description: The vulnerabilities that count, the worst first.
        type: list
        elements: dict
        default: []
        suboptions:
          id:
            description: Name of the advisory.
            type: str
            required: true
          severity:
            description: How bad it is.
            type: str
            required: true
          package:
            description: The package that has it.
            type: str
            required: true
          installed:
            description: The version of the package.
            type: str
            default: ""
          fixed:
            description: The version that closes it.
            type: str
            default: ""
  images_max_age_days:
    description: Days after which a scan that found nothing says nothing about today any more. From 1 to 365.
    type: int
    default: 14
notes:
  - Waits up to 10 minutes for whoever holds the lock of dpkg (the DGX Dashboard, apt's timer, unattended-upgrades).
  - Needs apt; other systems are C(unknown) in a check and refused by a run.
seealso:
  - module: nusy.dgx_spark.spark_facts
author:
  - The nusy.dgx_spark maintainers (@nusy)
"""

EXAMPLES = r"""
- name: What is pending
  nusy.dgx_spark.updates:
    host: "{{ inventory_hostname }}"
  check_mode: true

- name: Upgrade this one
  nusy.dgx_spark.updates:
    host: "{{ inventory_hostname }}"
    lists_max_age_hours: 1
    confirm: [spark-1]
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
pending:
  description: What apt would do, as it was looked at last.
  returned: when apt is there
  type: dict
  contains:
    upgrades:
      description: Each package as C(name), C(before) (empty if it is new), C(after) and whether it is for C(security).
      type: list
      elements: dict
    kept_back:
      description: What a hold, or a dependency that cannot be had, keeps at its version.
      type: list
      elements: str
    would_go:
      description: What would be removed or get older.
      type: list
      elements: str
reboot:
  description: Whether the node runs what its next boot would run.
  returned: when apt is there
  type: dict
  contains:
    owed:
      description: Why it does not; empty if it does.
      type: str
    gaps:
      description: What the next boot would lack, and why it must not be made.
      type: list
      elements: str
    problem:
      description: Why what boots next is not known.
      type: str
named:
  description: Whether O(confirm) names this host.
  returned: when apt is there
  type: bool
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
from ansible_collections.nusy.dgx_spark.plugins.module_utils._updates.subject import MODULE


def main() -> None:
    ensure(MODULE, AnsibleModule)


if __name__ == "__main__":
    main()
