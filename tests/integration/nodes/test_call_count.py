# SPDX-License-Identifier: GPL-3.0-or-later
"""What a full check costs a node: at most two module calls for each role, and one for facts.

Every call costs about 0.3 s, and 0.25 s of the node's CPU, whatever it does, so their
number is a promise. Seconds are measured by `make bench` and asserted nowhere.
"""

from __future__ import annotations

import calls
import pytest
import test_site
import testing
import wheels

CALLS_PER_ROLE = 2
CALLS_FOR_FACTS = 1


@pytest.fixture(scope="module")
def node(make_node):
    packages = wheels.binaries("triton", "3.5.1")
    cuda = wheels.ptxas("nvidia-cuda-nvcc", "13.0.88").parent
    return make_node(
        mounts=(
            f"{packages}:{test_site.VENV}/lib/python3.13/site-packages",
            f"{cuda}:/usr/local/cuda-13.0/bin",
            f"{test_site.WHEELS}:/srv/wheels",
        )
    )


def check(node, directory, **options):
    before = calls.as_root(node.name)
    done = testing.ansible_playbook(
        test_site.SITE,
        [node],
        directory,
        check=True,
        extra=test_site.EXTRA,
        env={"ANSIBLE_PIPELINING": "1"},
        **options,
    ).assert_ok()
    return calls.by_role(done.tasks, node.name), calls.as_root(node.name) - before


def test_a_full_check_makes_at_most_two_calls_per_role_plus_facts(node, tmp_path):
    counted, _seen = check(node, tmp_path)
    facts = counted.pop("", 0)
    assert facts <= CALLS_FOR_FACTS
    assert set(counted) >= {control.partition("/")[0] for control in test_site.CONTROLS}
    assert {role: number for role, number in counted.items() if number > CALLS_PER_ROLE} == {}


def test_the_node_saw_as_many_commands_as_were_counted(node, tmp_path):
    """So that no action plugin makes calls which Ansible's results do not show."""
    counted, seen = check(node, tmp_path)
    assert seen == counted.total() > 0


def test_the_count_sees_loops_and_leaves_out_what_stays_on_the_controller(node, tmp_path):
    tasks = [
        {"name": "Here", "ansible.builtin.assert": {"that": [True]}},
        {"name": "Three times", "ansible.builtin.command": "true", "loop": [1, 2, 3]},
        {"name": "Never", "ansible.builtin.command": "true", "when": False},
        {"name": "Once", "ansible.builtin.ping": {}},
    ]
    before = calls.as_root(node.name)
    play = [{"hosts": "all", "gather_facts": False, "tasks": tasks}]
    done = testing.ansible_playbook(play, [node], tmp_path, env={"ANSIBLE_PIPELINING": "1"}).assert_ok()
    assert calls.by_role(done.tasks, node.name) == {"": 4}
    assert calls.as_root(node.name) - before == 4
