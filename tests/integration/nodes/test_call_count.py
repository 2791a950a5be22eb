# SPDX-License-Identifier: GPL-3.0-or-later
"""That module calls are counted rightly, and those of every role are.

The promise of at most two for each role is held against clean checks of whole nodes, where those are
made anyway: in test_site.py, test_runtime_roles.py and the stories of single roles. Roles that need a kernel
of their own are counted on such machines, in tests/integration/machines.
"""

from __future__ import annotations

import calls
import test_access
import test_llama_cpp
import test_models
import test_nvidia
import test_ramalama
import test_runtime_roles
import test_updates
import test_vllm
import testing
import whole_site
from host import REPO


def test_every_role_is_counted_in_a_clean_check():
    node = (*test_updates.ROLES, *test_nvidia.ROLES, *test_access.ROLES, *test_runtime_roles.ROLES)
    serving = (*test_models.ROLES, *test_vllm.ROLES, *test_llama_cpp.ROLES, *test_ramalama.ROLES)
    counted = whole_site.ROLES | {*node, *serving, *testing.NEED_A_KERNEL}
    assert counted == {path.name for path in (REPO / "roles").iterdir()}


def test_the_count_sees_loops_and_leaves_out_what_stays_on_the_controller(nodes, tmp_path):
    node = nodes[0]
    tasks = [
        {"name": "Here", "ansible.builtin.assert": {"that": [True]}},
        {"name": "Three times", "ansible.builtin.command": "true", "loop": [1, 2, 3]},
        {"name": "Never", "ansible.builtin.command": "true", "when": False},
        {"name": "Once", "ansible.builtin.ping": {}},
    ]
    before = calls.as_root(node.name)
    play = [{"hosts": "all", "gather_facts": False, "tasks": tasks}]
    done = testing.ansible_playbook(play, [node], tmp_path).assert_ok()
    assert calls.by_role(done.tasks, node.name) == {"": 4}
    assert calls.as_root(node.name) - before == 4
