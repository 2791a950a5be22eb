#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: memory_guard
short_description: Ensure that a machine with one memory for CPU and GPU is not frozen by what runs on it
version_added: 0.1.0
description:
  - Judges whether the declared engines fit, has one early killer with the right preferences, keeps the way into the
    machine alive, marks engines as what goes first, and makes room while one loads its weights.
  - What runs is judged by what the kernel has of it (C(oom_score_adj), C(memory.min)), and mended without a restart.
  - Knows Ubuntu 24.04 (DGX OS 7), Debian 12 and 13, with cgroup v2. Elsewhere a check says unknown, a run refuses.
attributes:
  check_mode:
    description: Predicts what a run does.
    support: full
  diff_mode:
    description: Shows each file, unit and live value that differs.
    support: full
  idempotent:
    description: After applying, the node is looked at again; a plan that is not empty is an error.
    support: full
extends_documentation_fragment: nusy.dgx_spark.ensuring
options:
  engines:
    description:
      - Engines that share the memory, with the keys of P(nusy.dgx_spark.memory_budget#filter).
      - With C(unit), a service, that unit is marked, and its start is watched over. C(health) is an address such as
        C(http://127.0.0.1:8000/health) that answers 200 when it has loaded, or C(unit) where the unit has started only
        then. Without it, memory is kept free for the whole time.
    type: list
    elements: dict
    default: []
  published:
    description:
      - Engines of other roles, as P(nusy.dgx_spark.published_engines#lookup) has them. One of O(engines) with the same
        unit or name takes the place of one here.
    type: list
    elements: dict
    default: []
  total_gib:
    description: Memory of the machine in GiB where it is known beforehand; V(0) is what the machine says.
    type: float
    default: 0
  reserve_gib:
    description: What the budget leaves to the system, in GiB.
    type: float
    default: 12.7
  page_cache_gib:
    description: What the budget leaves to files being read, in GiB.
    type: float
    default: 4.0
  killer:
    description: Who ends an engine before the machine freezes. The other one is switched off.
    type: str
    choices: [earlyoom, systemd-oomd]
    default: earlyoom
  term_percent:
    description: Available memory at which earlyoom sends SIGTERM.
    type: float
    default: 4
  kill_percent:
    description: Available memory at which earlyoom sends SIGKILL.
    type: float
    default: 2
  swap_percent:
    description: Free swap at or below which earlyoom acts as well; V(100) does not ask for swap.
    type: float
    default: 100
  prefer:
    description: Regular expression of names of processes that earlyoom ends first.
    type: str
    default: ""
  avoid:
    description: Regular expression of names of processes that earlyoom ends last.
    type: str
    default: ""
  protected:
    description: Units that must go on answering, as far as they are there.
    type: list
    elements: dict
    default: []
    suboptions:
      unit:
        description: Full name of a service or slice.
        type: str
        required: true
      memory_min_mib:
        description: Memory that is not taken from it.
        type: int
        default: 0
      oom_score_adjust:
        description:
          - From -1000 (never killed) to 0. Of C(ssh.service) the running listener is judged and nothing is declared,
            since every login would inherit it.
        type: int
  engine_score:
    description: What is added to the score of engines, from 1 to 1000.
    type: int
    default: 500
  load_free_gib:
    description: Free memory below which clean pages are dropped while an engine loads.
    type: float
    default: 8
  load_seconds:
    description: The longest time that this is done after a start.
    type: int
    default: 1800
  swap:
    description: V(adopt) leaves swap as it is. With V(off) each is taken away that O(confirm) names by its path.
    type: str
    choices: [adopt, "off"]
    default: adopt
  stall_percent:
    description: Share of 2 s in which some task waits for memory, from which on the journal is told.
    type: float
    default: 10
notes:
  - An engine that runs outside C(nusy-engines.slice) is restarted only when O(confirm) names its unit.
  - Swap is not taken away while more of it is used than memory is available.
author:
  - The nusy.dgx_spark maintainers (@nusy)
"""

EXAMPLES = r"""
- name: Ensure that one engine fits, goes first, and has room to load
  nusy.dgx_spark.memory_guard:
    engines:
      - name: main
        unit: vllm.service
        health: http://127.0.0.1:8000/health
        weights_gib: 15.0
        kv_cache_gib: 48.0
    protected:
      - {unit: ssh.service, memory_min_mib: 32, oom_score_adjust: -1000}
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
budget:
  description: What P(nusy.dgx_spark.memory_budget#filter) says of all engines on this machine.
  returned: when engines are declared
  type: dict
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
from ansible_collections.nusy.dgx_spark.plugins.module_utils._guard.subject import MODULE


def main() -> None:
    ensure(MODULE, AnsibleModule)


if __name__ == "__main__":
    main()
