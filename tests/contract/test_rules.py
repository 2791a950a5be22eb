# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - one case a line
"""Every rule finds what it is for: a good tree is broken in one place, and the rule says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from good_tree import write
from rules import Tree
from test_tree import RULES

ROLE = "roles/demo/"
TASKS, HANDLERS = ROLE + "tasks/main.yml", ROLE + "handlers/main.yml"
CONTROLS, DEFAULTS = ROLE + "meta/controls.yml", ROLE + "defaults/main.yml"
PORTS, GROUPS = ROLE + "meta/ports.yml", ROLE + "meta/groups.yml"
PLAY, MODULE = "playbooks/demo.yml", "plugins/modules/demo_state.py"
PROBING = "\n- name: Probe\n  nusy.dgx_spark.inference_probe: {url: x, role: demo}"
UTILS = "plugins/module_utils/_demo/plan.py"

# rule, file, old text ("" appends; None removes the file), new text, what the finding says
BREAKS = [
    ("no_lock_holds_a_blocked_release", ROLE + "files/set/1-a.lock", "torch==2.11.0", "torch==2.10.0", "Clusters hang"),
    ("no_lock_holds_a_blocked_release", ROLE + "files/set/1-a.lock", "", "c==1.0", "has no --hash"),
    ("role_has_every_part", ROLE + "README.md", None, "", "README.md is missing"),
    ("role_has_every_part", "molecule/demo/molecule.yml", None, "", "no scenario"),
    ("role_has_every_part", "molecule/demo/verify.yml", None, "", "verifies nothing"),
    ("defaults_and_specs_say_the_same", DEFAULTS, "'nusy'", "'root'", "demo_user is"),
    ("defaults_and_specs_say_the_same", DEFAULTS, "\"{{ spark_user", "\"/{{ spark_user", "demo_user is"),
    ("defaults_and_specs_say_the_same", DEFAULTS, "demo_items: [a]", "demo_items: [b]", "demo_items is"),
    ("defaults_and_specs_say_the_same", DEFAULTS, "demo_items: [a]", "", "does not"),
    ("defaults_and_specs_say_the_same", DEFAULTS, "", "demo_more: 1", "demo_more is in defaults"),
    ("defaults_and_specs_say_the_same", ROLE + "meta/argument_specs.yml", "elements: str, ", "", "the type of its"),
    ("defaults_and_specs_say_the_same", ROLE + "meta/argument_specs.yml", ", default: nusy", "", "names none"),
    ("readme_tables_are_current", ROLE + "meta/argument_specs.yml", "Who.", "Who else.", "run make docs"),
    ("readme_tables_are_current", "docs/version-matrix.md", "It panics", "It is fine", "not the version matrix"),
    ("readme_tables_are_current", CONTROLS, "severity: low", "severity: high", "run make docs"),
    ("readme_tables_are_current", CONTROLS, "rationale: Because.", "rationale: So.", "docs/controls.md: it is not"),
    ("readme_tables_are_current", PORTS, "reason: Because.", "reason: So.", "docs/guides/ports.md: its table"),
    ("readme_tables_are_current", "docs/guides/serving.md", "| `busy` |", "| `lazy` |", "not what the probe knows"),
    ("readme_tables_are_current", ROLE + "README.md", "<!-- end controls -->", "", "no place"),
    ("variables_carry_the_name_of_their_role", ROLE + "vars/main.yml", "__demo_x", "__x", "__x"),
    ("variables_carry_the_name_of_their_role", DEFAULTS, "demo_items", "items", "items"),
    ("variables_carry_the_name_of_their_role", TASKS, "__demo_result", "result", "makes result"),
    ("variables_carry_the_name_of_their_role", TASKS, "", "  vars: {x: 1}", "makes x"),
    ("variables_carry_the_name_of_their_role", TASKS, "", "  loop_control: {loop_var: x}", "makes x"),
    ("variables_carry_the_name_of_their_role", PLAY, "__spark_x", "x", "makes x"),
    ("inventories_set_only_known_variables", "inventories/one/group_vars/spark.yml", "demo_user", "demo_usr", "demo_usr"),
    ("inventories_set_only_known_variables", "inventories/one/group_vars/spark.yml", "spark_user", "spark_usr", "spark_usr"),
    ("names_of_roles_take_nothing_from_ansible", "roles/group/tasks/main.yml", "", "[]", "variables of Ansible"),
    ("names_of_roles_take_nothing_from_ansible", "roles/spark/tasks/main.yml", "", "[]", "variables of Ansible"),
    ("shared_variables_are_documented", DEFAULTS, "spark_user", "spark_usr", "uses spark_usr"),
    ("shared_variables_are_documented", "meta/argument_specs.yml", "spark_user", "user", "does not begin with spark_"),
    ("readme_tables_are_current", "meta/argument_specs.yml", "Who.", "Who else.", "docs/guides/inventory.md: its table"),
    ("catalogues_are_valid", CONTROLS, "id: demo/file\n", "id: Demo/file\n", "is not demo/"),
    ("catalogues_are_valid", CONTROLS, "demo/file_extra", "demo/file", "is there twice"),
    ("catalogues_are_valid", CONTROLS, "severity: low", "severity: bad", "severity bad"),
    ("catalogues_are_valid", CONTROLS, "    rationale: Because.\n", "", "has the keys"),
    ("catalogues_are_valid", CONTROLS, "references: [here]", "references: []", "names no reference"),
    ("catalogues_are_valid", CONTROLS, "references: [here]", "references: ['CIS Ubuntu 24.04 v1.0.0, section 7.1']", "not one recommendation"),
    ("catalogues_are_valid", CONTROLS, "title: The file is there", "title: ''", "title is empty"),
    ("catalogues_are_valid", CONTROLS, "--limit {host}", "--limit {node}", "placeholder"),
    ("catalogues_are_valid", CONTROLS, "--tags demo", "--tags other", "names the tag other"),
    ("catalogue_is_what_the_role_ensures", TASKS, "demo/file", "demo/other", "demo/other is ensured"),
    ("catalogue_is_what_the_role_ensures", TASKS, "files: [{path: /etc/demo}]", "packages: [x]", "demo/file_extra is in"),
    ("catalogue_is_what_the_role_ensures", TASKS, "", PROBING, "demo/endpoint is ensured"),
    ("catalogue_is_what_the_role_ensures", CONTROLS, "id: demo/file\n", "id: demo/x\n", "demo/x is in"),
    ("ports_are_published", PORTS, None, "", "does not publish demo_port"),
    ("ports_are_published", PORTS, "demo_port }}", "demo_prot }}", "reads demo_prot"),
    ("ports_are_published", PORTS, "", "  - {service: demo, ports: [2], reason: x}", "demo is there twice"),
    ("ports_are_published", PORTS, "service: demo", "service: Demo", "or no name"),
    ("ports_are_published", PORTS, "reason:", "why:", "has why"),
    ("ports_are_published", PORTS, "reason:", "why:", "lacks reason"),
    ("engines_are_published", ROLE + "meta/argument_specs.yml", "demo_items", "demo_engines", "does not publish demo_engines"),
    ("engines_are_published", ROLE + "meta/engines.yml", "demo_items", "demo_item", "names a variable"),
    ("engines_are_published", ROLE + "meta/engines.yml", "program: vllm", "program: sglang", "names a variable"),
    ("engines_are_published", ROLE + "meta/engines.yml", "", "presets: files/none.yml", "names a variable"),
    ("engines_are_published", ROLE + "meta/engines.yml", "@{name}", "", "its unit is no service"),
    ("engines_are_published", ROLE + "meta/engines.yml", "served: name", "", "by which word"),
    ("what_is_published_counts_where_its_role_is_played", GROUPS, None, "", "groups.yml is missing"),
    ("what_is_published_counts_where_its_role_is_played", GROUPS, "spark", "workstation", "on hosts of spark"),
    ("what_is_published_counts_where_its_role_is_played", PLAY, "hosts: spark", "hosts: spark:workstation", "on hosts of spark, workstation"),
    ("engines_are_published", ROLE + "meta/engines.yml", "", "helth: x", "has helth"),
    ("engines_are_published", ROLE + "meta/engines.yml", "health: unit", "health: https://127.0.0.1:{port}/x", "nothing tells"),
    ("roles_make_few_calls", TASKS, "", "- {stat: {}}\n- {ansible.builtin.slurp: {}}", "makes 3 calls"),
    ("roles_make_few_calls", TASKS, "", "- block: [{stat: {}}, {stat: {}}]", "makes 3 calls"),
    ("ensure_state_names_its_role", TASKS, "role: demo", "role: other", "says it is role other"),
    ("roles_stand_alone", ROLE + "meta/main.yml", "[]", "[other]", "depends"),
    ("roles_stand_alone", TASKS, "", "  when: inventory_hostname in groups['x']", "knows a group"),
    ("roles_stand_alone", TASKS, "", "- ansible.builtin.include_role: {name: x}", "calls another role"),
    ("layers_can_be_run_alone", PLAY, "import_playbook: preflight.yml", "import_playbook: other.yml", "begin with"),
    ("layers_can_be_run_alone", PLAY, "hosts: spark", "hosts: spark:workstation", "does not judge workstation"),
    ("layers_can_be_run_alone", "playbooks/site.yml", "", "- {name: More, import_playbook: gone.yml}", "gone.yml: does not"),
    ("layers_can_be_run_alone", PLAY, "  tags: [demo]", "  tags: [x]", "the tag of play Demo"),
    ("layers_can_be_run_alone", PLAY, "  tags: [demo]", "", "the tag of play Demo"),
    ("layers_can_be_run_alone", PLAY, "demo, tags: [demo]", "demo, tags: [demo, x]", "is not its name"),
    ("every_role_is_played", PLAY, "demo, tags: [demo]", "demo, tags: [x]", "no play in which"),
    ("every_role_is_played", PLAY, "nusy.dgx_spark.demo,", "nusy.dgx_spark.x,", "there is no role x"),
    ("every_role_is_played", PLAY, "nusy.dgx_spark.demo,", "demo,", "is not named in full"),
    ("failures_are_not_ignored", TASKS, "", "  ignore_errors: '{{ ansible_check_mode }}'", "ignore_errors"),
    ("failures_are_not_ignored", PLAY, "      vars:", "      failed_when: false\n      vars:", "failed_when"),
    ("failures_are_not_ignored", TASKS, "", "- block: [{name: x, rescue: [{name: y, ignore_errors: true}]}]", "ignore_errors"),
    ("check_mode_skips_no_state", TASKS, "", "  when: [a, not ansible_check_mode]", "skipped in check mode"),
    ("commands_only_read", TASKS, "", "- {name: x, ansible.builtin.command: ls, check_mode: false}", "command without"),
    ("commands_only_read", HANDLERS, "", "- {name: x, shell: ls, changed_when: false}", "shell without"),
    ("nobody_becomes_a_user_of_the_run", TASKS, "", "  become_user: nusy", "become_user"),
    ("nobody_becomes_a_user_of_the_run", PLAY, "  hosts: spark", "  hosts: spark\n  become_user: nusy", "become_user"),
    ("files_are_owned_whole", TASKS, "", "- {name: x, ansible.builtin.lineinfile: {path: /x}}", "lineinfile"),
    ("inputs_are_not_overwritten", TASKS, "", "- {name: x, ansible.builtin.set_fact: {demo_user: x}}", "is an input"),
    ("conditions_are_short", TASKS, "", "  when: [a or b, c]", "has 3 conditions"),
    ("controls_are_not_censored", TASKS, "", "  no_log: true", "censors"),
    ("handlers_have_unique_names", HANDLERS, "", "- {name: Restart demo, nusy.dgx_spark.x: {}}", "2 handlers"),
    ("folders_have_content", "plugins/action/__init__.py", "", "", "plugins/action holds no code"),
    ("files_begin_as_agreed", UTILS, "# SPDX", "# spdx", "does not begin"),
    ("files_begin_as_agreed", MODULE, "# GNU General", "# General", "lacks the line"),
    ("files_begin_as_agreed", UTILS, '"""Plan."""', "", "no docstring"),
    ("plugins_are_documented", MODULE, "module: demo_state", "module: other", "DOCUMENTATION is about other"),
    ("plugins_are_documented", MODULE, "author: Somebody", "", "lacks author"),
    ("plugins_are_documented", MODULE, "description: Names., type: list, elements", "type: list, elements", "no description"),
    ("plugins_are_documented", MODULE, ", elements: str", "", "of what it is a list"),
    ("plugins_are_documented", MODULE, "- nusy.dgx_spark.demo_state:", "- demo_state:", "do not show"),
    ("plugins_are_documented", MODULE, "names: {description: Names., type: list, returned: always}", "", "RETURN is empty"),
    ("plugins_are_documented", "plugins/action/other.py", "", "", "not there"),
    ("examples_are_taken", MODULE, "- nusy.dgx_spark.demo_state:", "- nusy.dgx_spark.demo_state: {nams: [a]}", "nams"),
    ("examples_are_taken", MODULE, "- nusy.dgx_spark.demo_state:", "- nusy.dgx_spark.demo_state: {names: a}", "names: a list"),
    ("examples_are_taken", ROLE + "README.md", "# demo", "```yaml\n- vars:\n    demo_items: a\n```", "demo_items: a list"),
    ("examples_are_taken", "docs/x.md", "", "```yaml\ndemo_usr: x\n```", "demo_usr, which is none"),
    ("examples_are_taken", "docs/x.md", "", "* a\n\n  ```yaml\n  a: [\n  ```", "is no YAML"),
    ("modules_state_their_attributes", MODULE, "extends_documentation_fragment:", "notes:", "attribute check_mode"),
    ("modules_state_their_attributes", "plugins/doc_fragments/attributes.py", "Predicts., support: full", "Predicts., support: none", "check mode in full"),
    ("modules_state_their_attributes", "plugins/doc_fragments/attributes.py", "description: Is., ", "", "idempotent has no description"),
    ("modules_are_thin", MODULE, "    module = ", "    pass\n" * 40 + "    module = ", "main() has 43 lines"),
    ("modules_are_thin", MODULE, "def main", "def other", "has no main()"),
    ("node_code_needs_only_python", UTILS, "def plan", "import yaml\n\n\ndef plan", "imports yaml"),
    ("node_code_needs_only_python", UTILS, "def plan", "def f():\n    from ansible.module_utils import x\n\n\ndef plan", "imports ansible"),
    ("node_code_needs_only_python", UTILS, "def plan", "from . import x\n\n\ndef plan", "imports relatively"),
    ("node_code_needs_only_python", MODULE, "import json", "import ansible.constants", "imports ansible.constants"),
    ("only_the_entry_knows_check_mode", UTILS, "", "def f(module): return module.check_mode", "uses check_mode"),
    ("tests_mirror_plugins", "tests/unit/plugins/modules/test_demo_state.py", None, "", "plugins/modules has no tests"),
    ("tests_mirror_plugins", "plugins/callback/drift.py", "", "", "plugins/callback has no tests"),
    ("tests_mirror_plugins", "tests/unit/plugins/lookup/test_x.py", "", "", "tests nothing"),
    ("kernel_roles_run_in_virtual_machines", TASKS, "files: [{path: /etc/demo}]", "sysctls: [{name: vm.swappiness, value: 1}]", "molecule/demo: role demo touches"),
    ("kernel_roles_run_in_virtual_machines", TASKS, "files: [{path: /etc/demo}]", "sysctls: [{name: user.max_user_namespaces}]", "user.max_user_namespaces"),
    ("kernel_roles_run_in_virtual_machines", TASKS, "files: [{path: /etc/demo}]", "sysctls: '{{ demo_items }}'", "{{ demo_items }}"),
    ("kernel_roles_run_in_virtual_machines", DEFAULTS, "demo_items: [a]", "demo_items: {vm.swappiness: 1}", "vm.swappiness"),
    ("kernel_roles_run_in_virtual_machines", ROLE + "files/demo.conf", "", "kernel.panic = 10", "kernel.panic"),
    ("kernel_roles_run_in_virtual_machines", TASKS, "files: [{path: /etc/demo}]", "kernel_modules: [{name: zram}]", "kernel modules"),
    ("kernel_roles_run_in_virtual_machines", ROLE + "files/x.conf", "", "modprobe zram", "kernel modules"),
    ("kernel_roles_run_in_virtual_machines", TASKS, "files: [{path: /etc/demo}]", "mounts: [{fstype: swap}]", "touches swap"),
    ("kernel_roles_run_in_virtual_machines", HANDLERS, "", "- {name: x, ansible.builtin.command: hwclock -w}", "the clock"),
    ("kernel_roles_run_in_virtual_machines", HANDLERS, "", "- name: x\n  community.general.timezone: {name: UTC}", "the clock"),
    ("kernel_roles_run_in_virtual_machines", TASKS, "", "- name: x\n  nusy.dgx_spark.md_array: {}", "arrays"),
    ("kernel_roles_run_in_virtual_machines", ROLE + "templates/demo.service.j2", "", "MemoryMax={{ x }}", "memory limits"),
    ("kernel_roles_run_in_virtual_machines", TASKS, "files: [{path: /etc/demo}]", "kernel_modules: [{name: x}]", "lacks demo"),
    ("kernel_roles_run_in_virtual_machines", "tests/nodes/host.py", "= ()", "= ('demo',)", "could run in a container"),
    ("no_place_of_a_developer_is_named", "docs/x.md", "", "see /work/" + "main/x", "docs/x.md:1: names"),
    ("kernel_roles_run_in_virtual_machines", TASKS, "", "- name: x\n  nusy.dgx_spark.memory_guard: {}", "memory limits"),
    ("no_place_of_a_developer_is_named", "requirements/test.in", "", "https://pypi." + "org/simple", "names pypi"),
    ("only_known_folders", "library/x.py", "", "", "library/ has no place"),
    ("contracts_are_there", "docs/contracts/paths-env.md", None, "", "is missing"),
    ("contracts_are_there", "docs/contracts/spec2-cuda-toolchain.md", "**Status:**", "Status:", "says no status"),
    ("contracts_are_there", "docs/contracts/spec2-cuda-toolchain.md", "agreed", "meant", "is neither"),
    ("contracts_are_there", "docs/contracts/spec1-prereqs.md", "`demo`", "`gone`", "there is no role gone"),
    ("links_in_documents_lead_somewhere", "docs/contracts/spec1-prereqs.md", "(spec5-", "(spec7-", "leads nowhere"),
    ("the_readme_leads_everywhere", "README.md", "(docs/guides/inventory.md)", "", "docs/guides/inventory.md"),
    ("the_readme_leads_everywhere", "README.md", "`demo_state`", "demo_state", "plugins/modules/demo_state.py"),
    ("sanity_ignores_nothing", "tests/sanity/ignore-2.19.txt", "", "", "do not ignore it"),
    ("settings_weaken_nothing", "ansible.cfg", "", "host_key_checking = false", "sets host_key_checking"),
    ("locks_agree", "requirements/drift.lock", "a-b==1.0", "a-b==1.1", "does not hold a-b==1.1"),
    ("locks_agree", "requirements/test.in", "", "d", "does not hold d"),
    ("locks_agree", "requirements/new.in", "", "", "has no lock"),
    ("locks_agree", "requirements/test.lock", "    --hash=sha256:00\nc", "c", "has no hash"),
]  # fmt: skip
BY_NAME = {rule.__name__: rule for rule in RULES}


@pytest.fixture
def good(tmp_path: Path) -> Path:
    write(tmp_path)
    return tmp_path


def test_every_rule_is_broken_once() -> None:
    assert {rule for rule, *_ in BREAKS} == set(BY_NAME)
    assert len(BY_NAME) == len(RULES), "two rules have one name"


def test_a_good_tree_has_no_findings(good: Path) -> None:
    assert [finding for rule in RULES for finding in rule(Tree(good))] == []


@pytest.mark.parametrize(("rule", "name", "old", "new", "said"), BREAKS)
def test_a_rule_finds_what_it_is_for(good: Path, rule: str, name: str, old: str | None, new: str, said: str) -> None:
    path = good / name
    if old is None:
        path.unlink()
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_text("utf-8") if path.exists() else ""
        assert old in text, "this break no longer breaks anything"
        path.write_text(text.replace(old, new) if old else f"{text}{new}\n", "utf-8")
    findings = list(BY_NAME[rule](Tree(good)))
    assert any(said in finding for finding in findings), findings


def test_a_role_that_needs_a_kernel_is_fine_in_virtual_machines_alone(good: Path) -> None:
    """Every scenario that plays it counts, not only its own."""
    rule = BY_NAME["kernel_roles_run_in_virtual_machines"]
    tasks, host, scenario = good / TASKS, good / "tests/nodes/host.py", good / "molecule/demo/molecule.yml"
    tasks.write_text(tasks.read_text().replace("files: [{path: /etc/demo}]", "kernel_modules: [{name: zram}]"))
    host.write_text("NEED_A_KERNEL: tuple[str, ...] = ('demo',)\n")
    scenario.write_text("platforms: [{name: one, machine: vm}, {name: two, machine: vm}]\n")
    assert list(rule(Tree(good))) == []
    scenario.write_text("platforms: [{name: one, machine: vm}, {name: two}]\n")
    assert [finding.split(":")[0] for finding in rule(Tree(good))] == ["molecule/demo"]
    scenario.write_text("platforms: [{name: one, machine: vm}]\n")
    site = good / "molecule/site"
    site.mkdir()
    (site / "molecule.yml").write_text("platforms: [{name: all}]\n")
    (site / "converge.yml").write_text("- {hosts: spark, roles: [{role: nusy.dgx_spark.demo}]}\n")
    assert [finding.split(":")[0] for finding in rule(Tree(good))] == ["molecule/site"]


@pytest.mark.parametrize(
    "harmless",
    [
        "sysctls: [{name: net.ipv4.ip_forward, value: 1}]",
        "files: [{path: /etc/vm.conf}]",
        "packages: [mdadm, kmod]",
        "units: [{name: systemd-timesyncd.service, enabled: true}]",
        "mounts: [{path: /srv, fstype: ext4}]\n# a comment about swapon",
    ],
)
def test_what_belongs_to_a_container_may_run_in_one(good: Path, harmless: str) -> None:
    tasks = good / TASKS
    tasks.write_text(tasks.read_text().replace("files: [{path: /etc/demo}]", harmless))
    assert list(BY_NAME["kernel_roles_run_in_virtual_machines"](Tree(good))) == []
