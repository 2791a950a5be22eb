# SPDX-License-Identifier: GPL-3.0-or-later
"""Plays that end early, repeat themselves, or are asked for in odd ways: nothing is fine by mistake."""

from __future__ import annotations

import pytest
from conftest import Lab, Ran

HOSTS = "ended,looped,async_,rescued,named,foreign,facts,included,well"
# Beside each host that fails stands a well one: Ansible ends a playbook when a whole batch failed.
ODD = """
- name: Ends
  hosts: ended
  gather_facts: false
  tasks:
    - ansible.builtin.import_role: {name: nusy.dgx_spark.gamma}
    - ansible.builtin.meta: end_play
    - ansible.builtin.import_role: {name: nusy.dgx_spark.delta}

- name: Again and again
  hosts: looped
  gather_facts: false
  roles:
    - {role: nusy.dgx_spark.alpha, vars: {alpha_one: in_sync}}
    - {role: nusy.dgx_spark.alpha, vars: {alpha_one: drifted}}
    - {role: nusy.dgx_spark.alpha, vars: {alpha_one: in_sync}, when: false}
  tasks:
    - {name: In a loop, ansible.builtin.include_role: {name: nusy.dgx_spark.gamma}, loop: [1, 2]}

- name: Later
  hosts: async_
  gather_facts: false
  tasks:
    - {name: Waited for, ansible.builtin.command: sleep 0.1, async: 20, poll: 1, check_mode: false, changed_when: false}
    - {name: Let go, ansible.builtin.command: sleep 0.1, async: 20, poll: 0, check_mode: false, changed_when: false}
    - {name: Really ran, ansible.builtin.command: /bin/true, check_mode: false}

- name: Ways out
  hosts: rescued,well
  gather_facts: false
  tasks:
    - when: inventory_hostname == 'rescued'
      block:
        - {name: Bad, promise: {controls: [{id: gamma/only, state: drifted}], error: {key: k.k}}}
      rescue:
        - {name: Saved, promise: {controls: [{id: gamma/only, state: in_sync}]}}
      always:
        - {name: Bad for good, ansible.builtin.fail: {msg: "no\\nway \\u001b[31m </script>"}}
    - ansible.builtin.import_role: {name: nusy.dgx_spark.delta}

- name: Names
  hosts: named
  gather_facts: false
  tasks:
    - {name: Same, ansible.builtin.copy: {content: x, dest: "{{ scratch }}/same", mode: "0600"}}
    - {name: Same, ansible.builtin.command: /bin/true}
    - {name: Same, ansible.builtin.command: /bin/true, check_mode: false, changed_when: false}
    - ansible.builtin.command: /bin/true
    - ansible.builtin.command: /bin/true
    - {name: To two, ansible.builtin.command: /bin/true, delegate_to: "{{ item }}", loop: [well, named]}
    - name: Half seen
      ansible.builtin.command: /bin/true
      check_mode: "{{ item }}"
      changed_when: false
      loop: [true, false]
    - {name: Judged, ansible.builtin.command: /bin/true, check_mode: false, failed_when: true, ignore_errors: true}

- name: Their controls
  hosts: foreign
  gather_facts: false
  tasks:
    - {name: Mapping, promise: {controls: {x: y}}}
    - {name: Words, promise: {controls: [a, b]}}
    - {name: Their shape, promise: {controls: [{id: CIS-1.1, state: pass}]}}
    - {name: Half, promise: {controls: [{id: gamma/only, state: drifted}, {id: CIS-1, state: pass}]}}

- name: Facts
  hosts: facts,well
  gather_facts: true
  module_defaults:
    ansible.builtin.setup: {gather_subset: "{{ 'min' if inventory_hostname == 'well' else nobody_defines_this }}"}
  roles: [nusy.dgx_spark.gamma]

- name: Includes
  hosts: included,well
  gather_facts: false
  tasks:
    - name: No such file
      ansible.builtin.include_tasks: "{{ item }}.yml"
      loop: [nosuchfile]
      when: inventory_hostname == 'included'
    - ansible.builtin.import_role: {name: nusy.dgx_spark.delta}
"""


@pytest.fixture(scope="module")
def odd(shared_lab: Lab) -> Ran:
    inventory = shared_lab.folder / "odd_hosts.yml"
    local = '{ansible_connection: local, ansible_python_interpreter: "{{ ansible_playbook_python }}"}'
    inventory.write_text("all:\n  hosts:\n" + "".join(f"    {name}: {local}\n" for name in HOSTS.split(",")))
    ran = shared_lab.run(ODD, "-i", str(inventory), "--forks", "50")
    assert "PLAY RECAP" in ran.out, ran.out
    assert "Callback dispatch" not in ran.out
    assert ran.report["run"]["complete"]
    return ran


class TestOdd:
    def test_what_comes_after_end_play_is_unknown(self, odd: Ran) -> None:
        assert odd.control("ended", "gamma/only")["state"] == "in_sync"
        assert odd.control("ended", "delta/only")["reason"] == "not reached (after gamma : Look at the only one)"

    def test_a_role_applied_again_cannot_hide_what_the_first_time_found(self, odd: Ran) -> None:
        assert odd.control("looped", "alpha/one")["state"] == "drifted"
        assert odd.control("looped", "gamma/only")["state"] == "in_sync"

    def test_background_tasks(self, odd: Ran) -> None:
        states = {c["id"].rpartition("/")[2]: c["state"] for c in odd.host("async_")["controls"]}
        assert states == {"waited-for": "in_sync", "let-go": "unknown", "really-ran": "in_sync"}

    def test_a_check_in_which_something_really_ran_does_not_claim_otherwise(self, odd: Ran) -> None:
        assert odd.control("async_", "task:later/really-ran")["repaired"]
        assert "nothing was changed" not in odd.out
        assert "check run, some tasks ran for real" in odd.out

    def test_block_rescue_always(self, odd: Ran) -> None:
        assert odd.host("rescued")["state"] == "partial"
        assert odd.control("rescued", "gamma/only")["state"] == "drifted"
        assert odd.control("rescued", "task:ways-out/bad")["reason"] == "failed: [k.k] it failed"
        assert odd.control("rescued", "task:ways-out/bad-for-good")["reason"] == "failed: no way \\u001b[31m </script>"
        assert odd.control("rescued", "delta/only")["state"] == "unknown"

    def test_tasks_of_one_name_are_told_apart(self, odd: Ran) -> None:
        states = {c["id"].rpartition("/")[2]: c["state"] for c in odd.host("named")["controls"]}
        assert states == {
            **{"same": "drifted", "same-2": "unknown", "same-3": "in_sync"},
            **{"ansible-builtin-command": "unknown", "ansible-builtin-command-2": "unknown"},
            **{"to-two": "unknown", "half-seen": "unknown", "judged": "unknown"},
        }
        assert odd.control("named", "task:names/to-two")["task"] == "To two"
        assert odd.control("named", "task:names/judged")["reason"] == "failed: failed_when was true"

    def test_controls_of_another_shape_are_no_evidence(self, odd: Ran) -> None:
        states = {c["id"]: c["state"] for c in odd.host("foreign")["controls"]}
        own = "task:their-controls/"
        assert states == {
            **{f"{own}mapping": "in_sync", f"{own}words": "in_sync", f"{own}their-shape": "in_sync"},
            f"{own}half": "drifted",
        }

    def test_facts_that_cannot_be_gathered(self, odd: Ran) -> None:
        assert odd.host("facts")["state"] == "partial"
        assert odd.control("facts", "gamma/only")["reason"] == "not reached (after Gathering Facts)"
        assert odd.control("well", "gamma/only")["state"] == "in_sync"

    def test_an_include_that_fails_says_why(self, odd: Ran) -> None:
        assert "nosuchfile.yml" in odd.control("included", "task:includes/no-such-file")["reason"]
        assert odd.control("well", "delta/only")["state"] == "in_sync"


ENDS_FOR_ALL = """
- name: Together
  hosts: a,b,c
  gather_facts: false
  {how}
  tasks:
    - name: Fine so far
      ansible.builtin.command: /bin/true
      check_mode: false
      changed_when: false
    - name: Ends it
      ansible.builtin.fail: {{msg: x}}
      when: inventory_hostname == 'b'
    - name: Nobody gets here
      ansible.builtin.command: /bin/true
"""


@pytest.mark.parametrize(
    "how",
    ["any_errors_fatal: true", "max_fail_percentage: 0"],
    ids=["any_errors_fatal", "max_fail_percentage"],
)
def test_hosts_that_others_took_along_are_not_fine(lab: Lab, how: str) -> None:
    """Somebody's play has no catalogue: nothing else would say that its end was never seen."""
    ran = lab.run(ENDS_FOR_ALL.format(how=how))
    states = {host["name"]: host["state"] for host in ran.report["hosts"]}
    assert states == {"a": "partial", "b": "partial", "c": "partial"}
    assert ran.host("c")["reason"].startswith("play Together ended for all its hosts, because others failed")


def test_a_failure_that_was_rescued_takes_nobody_along(lab: Lab) -> None:
    play = """
- hosts: a,b
  gather_facts: false
  any_errors_fatal: true
  tasks:
    - block:
        - {name: Bad, ansible.builtin.fail: {msg: x}, when: inventory_hostname == 'b'}
      rescue:
        - {name: Saved, ansible.builtin.debug: }
    - {name: After, ansible.builtin.command: /bin/true, check_mode: false, changed_when: false}
"""
    ran = lab.run(play)
    assert {host["state"] for host in ran.report["hosts"]} == {"reached"}, ran.out


def test_a_start_in_the_middle_leaves_the_beginning_unknown(lab: Lab) -> None:
    play = """
- hosts: a
  gather_facts: false
  roles: [nusy.dgx_spark.gamma]
  tasks: [{name: Here, ansible.builtin.command: /bin/true, check_mode: false, changed_when: false}]
"""
    ran = lab.run(play, "--start-at-task", "Here")
    assert ran.control("a", "gamma/only")["state"] == "unknown"


def test_a_limit_with_a_wrong_name_is_not_all_that_was_asked_for(lab: Lab) -> None:
    ran = lab.run("- {hosts: all, gather_facts: false, roles: [nusy.dgx_spark.delta]}", "--limit", "a:&all:!b:nosuch")
    assert ran.report["run"]["incomplete_reason"] == "--limit names what is no host and no group: nosuch"
    assert ran.host("a")["state"] == "reached"
    assert ran.report["summary"]["exit_code"] == 3


def test_tags_that_select_nothing_are_not_clean(lab: Lab) -> None:
    ran = lab.run("- {hosts: a, gather_facts: false, roles: [nusy.dgx_spark.delta]}", "--tags", "mistyped")
    assert ran.control("a", "delta/only")["state"] == "not_selected"
    assert ran.report["summary"]["exit_code"] == 3
    assert "NOTHING CHECKED" in ran.out
