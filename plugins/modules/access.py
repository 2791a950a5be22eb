#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: access
short_description: Ensure a hardened SSH server and a packet filter, and never lose the way in
version_added: 0.1.0
description:
  - Ensures what sshd says of itself (C(sshd -T), for several users) by one drop-in, and one table of nftables
    that drops what is not published. Both are judged by what is in force, not by files.
  - Before the first such change the former state is saved on the node, and a timer of systemd brings it back after
    O(proof_seconds), unless somebody has logged in anew. The action plugin of this module does that at once, by a
    fresh connection with the parameters of the inventory. When it fails, everything is as it was and so is the
    result.
  - Nothing is changed while the user who is logged in, or one of O(ssh.admins), has no key that sshd would accept.
    Nothing is changed in a run that did not come by SSH. Both until O(confirm) names it.
  - The first load of the packet filter needs C(firewall) in O(confirm). Tables of others are not touched.
attributes:
  check_mode:
    description: Asks sshd and the kernel what the change would come to, and applies nothing.
    support: full
  diff_mode:
    description: Shows each setting and rule that differs.
    support: full
  idempotent:
    description: What is in force as declared is left alone.
    support: full
extends_documentation_fragment: nusy.dgx_spark.ensuring
options:
  ssh:
    description: The SSH server.
    type: dict
    suboptions:
      root_login:
        description: Whether root may log in with a key. Never with a password.
        type: str
        choices: ["no", prohibit-password]
        default: "no"
      tcp_forwarding:
        description: Whether ports may be forwarded. NVIDIA Sync and the editors that work by SSH do so.
        type: bool
        default: true
      agent_forwarding:
        description: Whether the agent of whoever logs in may be used from the node.
        type: bool
        default: false
      max_auth_tries:
        description: Attempts to log in by one connection, 1 to 10. Every key that an agent offers is one.
        type: int
        default: 4
      login_grace_seconds:
        description: Time to log in, 10 to 600 seconds.
        type: int
        default: 60
      banner:
        description: File that is shown before a login; empty to leave that alone.
        type: str
        default: ""
      admins:
        description: Accounts that must have a key before passwords are refused, beside whoever is logged in.
        type: list
        elements: str
        default: []
  firewall:
    description: The packet filter.
    type: dict
    suboptions:
      enabled:
        description: Whether there is to be one. If not, its controls are not selected and nothing is taken away.
        type: bool
        default: true
      ssh_from:
        description:
          - Addresses and networks that may reach SSH. Empty means all.
          - A run that comes from none of them does not load the rules that would shut it out.
        type: list
        elements: str
        default: []
      mdns:
        description: Whether C(.local) names are answered and found, as NVIDIA Sync needs.
        type: bool
        default: true
      fabric_interfaces:
        description: Interfaces by which O(firewall.fabric_peers) come. Empty means any.
        type: list
        elements: str
        default: []
      fabric_peers:
        description: Addresses of nodes that may reach every port, since engines over several nodes choose their own.
        type: list
        elements: str
        default: []
  published:
    description: What is listened on, as P(nusy.dgx_spark.published_ports#lookup) returns it. Only this is opened.
    type: list
    elements: dict
    default: []
    suboptions:
      service:
        description: Name of the service.
        type: str
        required: true
      ports:
        description: Ports such as C(8000), and ranges such as C(8000-8019).
        type: list
        elements: str
        required: true
      protocol:
        description: Protocol of the ports.
        type: str
        choices: [tcp, udp]
        default: tcp
      bind:
        description: C(loopback), C(fabric), C(any) or an address. What is bound to loopback needs no opening.
        type: str
        default: loopback
      peers:
        description: Who may connect, C(any), C(fabric), addresses and networks. Empty means nobody from outside.
        type: list
        elements: str
        default: []
      reason:
        description: Why, for the reader.
        type: str
        default: ""
      role:
        description: Role that publishes it.
        type: str
        default: ""
  proof_seconds:
    description: Time in which somebody has to log in anew, 5 to 600 seconds.
    type: int
    default: 60
  proving:
    description: Only prove a change that was made already, and never make it again. The action plugin sets it.
    type: bool
    default: false
notes:
  - Passwords of accounts are never touched.
seealso:
  - plugin: nusy.dgx_spark.published_ports
    plugin_type: lookup
author:
  - The nusy.dgx_spark maintainers (@nusy)
"""

EXAMPLES = r"""
- name: Keys only, and nothing open but SSH and what is published
  nusy.dgx_spark.access:
    ssh:
      admins: [alice]
    firewall:
      fabric_interfaces: [enp1s0f0np0]
      fabric_peers: [192.168.100.11]
    published: "{{ query('nusy.dgx_spark.published_ports') }}"
    confirm: [firewall]
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
access:
  description: Whether a change still waits for the proof of a new login.
  returned: always
  type: dict
  contains:
    pending:
      description: True while the node would undo the change by itself.
      type: bool
unused_confirm:
  description: Names in O(confirm) that no step asked for.
  returned: when there are such names
  type: list
  elements: str
refused:
  description: Why a real run stops before its first step, since it would certainly fail half-way.
  returned: when there is such a reason
  type: list
  elements: str
error:
  description: The four parts of an error and its key.
  returned: on failure
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.nusy.dgx_spark.plugins.module_utils._access.subject import MODULE
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import ensure


def main() -> None:
    ensure(MODULE, AnsibleModule)


if __name__ == "__main__":
    main()
