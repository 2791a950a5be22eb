# SPDX-License-Identifier: GPL-3.0-or-later
"""A small tree that keeps every rule: what the tests of the rules break, one thing at a time."""

from __future__ import annotations

from pathlib import Path

import readme
from rules.tree import AGREED, CONTRACTS

SPDX = "# SPDX-License-Identifier: GPL-3.0-or-later\n"
MODULE = f'''#!/usr/bin/python
{SPDX}# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
DOCUMENTATION = r"""
module: demo_state
short_description: Demo
description: Demo.
author: Somebody
extends_documentation_fragment: nusy.dgx_spark.attributes
options:
  names: {{description: Names., type: list, elements: str}}
"""
EXAMPLES = r"""
- nusy.dgx_spark.demo_state:
"""
RETURN = r"""
names: {{description: Names., type: list, returned: always}}
"""
import json

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.nusy.dgx_spark.plugins.module_utils._demo.plan import plan


def main():
    module = AnsibleModule({{}})
    module.exit_json(**plan(json.dumps({{}})))
'''
FRAGMENT = f'''{SPDX}"""Attributes."""


class ModuleDocFragment:
    DOCUMENTATION = r"""
attributes:
  check_mode: {{description: Predicts., support: full}}
  diff_mode: {{description: Shows., support: full}}
  idempotent: {{description: Is., support: full}}
"""
'''
PLAN = f'{SPDX}"""Plan."""\n\n\ndef plan(text):\n    return dict(text=text)\n'
TEST = f'{SPDX}"""Tests."""\n'
SPECS = """
argument_specs:
  main:
    short_description: Demo
    options:
      demo_user: {description: Who., type: str, default: nusy}
      demo_port: {description: Where., type: int, default: 1}
      demo_items: {description: What., type: list, elements: str, default: [a]}
"""
CONTROLS = """
controls:
  - id: demo/file
    title: The file is there
    severity: low
    rationale: Because.
    references: [here]
    remedy: ansible-playbook site.yml --tags demo --limit {host}
    disrupts: ""
  - id: demo/file_extra
    title: The file holds nothing else
    severity: low
    rationale: Because.
    references: [here]
    remedy: ansible-playbook site.yml --tags demo --limit {host}
    disrupts: ""
"""
TASKS = """
- name: Ensure the demo
  nusy.dgx_spark.ensure_state:
    role: demo
    controls:
      - id: demo/file
        files: [{path: /etc/demo}]
  register: __demo_result
"""
HANDLERS = """
- name: Restart demo
  nusy.dgx_spark.demo_state:
  when: not ansible_check_mode
"""
PLAY = """
- name: Preflight
  ansible.builtin.import_playbook: preflight.yml
- name: Demo
  hosts: spark
  tags: [demo]
  roles:
    - {role: nusy.dgx_spark.demo, tags: [demo]}
  tasks:
    - name: Judge
      ansible.builtin.assert: {that: true}
      vars: {__spark_x: 1}
"""
PORTS = """
ports:
  - {service: demo, ports: ["{{ demo_port }}"], reason: Because.}
"""
LOCK = "a-b==1.0 ; sys_platform == 'linux' \\\n    --hash=sha256:00\n"
TEXTS = {
    "ansible.cfg": "[defaults]\ninventory = inventories/local\n",
    "site.yml": "- {name: All, import_playbook: playbooks/site.yml}\n",
    "playbooks/site.yml": "- {name: All, ansible.builtin.import_playbook: demo.yml}\n",
    "playbooks/preflight.yml": "- {name: Judge, hosts: spark}\n",
    "playbooks/demo.yml": PLAY,
    "inventories/one/group_vars/spark.yml": "ansible_user: x\nspark_user: x\ndemo_user: x\n",
    "meta/argument_specs.yml": "argument_specs: {main: {options: {spark_user: {description: Who., type: str}}}}\n",
    "README.md": "`demo_state`\n[x](docs/version-matrix.md) [x](docs/guides/inventory.md)\n"
    f"[x]({readme.PORTS}) [x]({readme.FAULTS}) [x]({readme.CATALOGUE})\n",
    "docs/version-matrix.md": "# matrix\n<!-- begin matrix -->\n<!-- end matrix -->\n",
    "docs/guides/inventory.md": "# inventory\n<!-- begin variables -->\n<!-- end variables -->\n",
    readme.PORTS: "# Ports\n<!-- begin ports -->\n<!-- end ports -->\n",
    readme.FAULTS: "# Serving\n<!-- begin faults -->\n<!-- end faults -->\n",
    readme.CATALOGUE: "# Controls\n<!-- begin controls -->\n<!-- end controls -->\n",
    "roles/demo/README.md": "# demo\n<!-- begin variables -->\n<!-- end variables -->\n"
    "<!-- begin controls -->\n<!-- end controls -->\n",
    "roles/demo/defaults/main.yml": "demo_user: \"{{ spark_user | default('nusy') }}\"\n"
    "demo_port: 1\ndemo_items: [a]\n",
    "roles/demo/files/set/1-a.lock": f"torch==2.11.0 --hash=sha256:{'0' * 64}\n",
    "roles/demo/vars/main.yml": "__demo_x: 1\n",
    "roles/demo/meta/main.yml": "dependencies: []\n",
    "roles/demo/meta/argument_specs.yml": SPECS,
    "roles/demo/meta/controls.yml": CONTROLS,
    "roles/demo/meta/ports.yml": PORTS,
    "roles/demo/meta/engines.yml": "variable: demo_items\nunit: demo@{name}.service\nprogram: vllm\nserved: name\n"
    "health: unit\n",
    "roles/demo/meta/groups.yml": "groups: [spark]\n",
    "roles/demo/tasks/main.yml": TASKS,
    "roles/demo/handlers/main.yml": HANDLERS,
    "molecule/demo/molecule.yml": "---\nplatforms:\n  - name: one\n",
    "molecule/demo/converge.yml": "- {hosts: spark, roles: [nusy.dgx_spark.demo]}\n",
    "molecule/demo/verify.yml": "---\n",
    "plugins/modules/demo_state.py": MODULE,
    "plugins/doc_fragments/attributes.py": FRAGMENT,
    "plugins/module_utils/_demo/plan.py": PLAN,
    "plugins/module_utils/_inference/probe.py": f'{SPDX}"""Probe."""\nASPECTS = ("endpoint",)\n',
    "tests/unit/plugins/module_utils/_inference/test_probe.py": TEST,
    "plugins/module_utils/_core/entry.py": f'{SPDX}"""Entry."""\n\n\ndef end(module):\n    module.exit_json()\n',
    "tests/unit/plugins/modules/test_demo_state.py": TEST,
    "tests/unit/plugins/module_utils/_demo/test_plan.py": TEST,
    "tests/unit/plugins/module_utils/_core/test_entry.py": TEST,
    "tests/nodes/host.py": f'{SPDX}"""Nodes."""\nNEED_A_KERNEL: tuple[str, ...] = ()\n',
    "requirements/drift.in": "A.b>=1\n",
    "requirements/drift.lock": LOCK,
    "requirements/test.in": "-r drift.in\n# more\nc\n",
    "requirements/test.lock": LOCK + "c==2 \\\n    --hash=sha256:00\n",
    **{f"docs/contracts/{name}.md": f"# {name}\n\n**Status:** {AGREED}.\n" for name in CONTRACTS},
    "docs/contracts/spec1-prereqs.md": "**Status:** implemented by role `demo`\n[next](spec5-ptxas.md#there)\n",
}


def write(root: Path) -> None:
    for name, text in TEXTS.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    readme_file = root / "roles" / "demo" / "README.md"
    readme_file.write_text(readme.rendered(root / "roles" / "demo"), "utf-8")
    (root / readme.SHARED[1]).write_text(readme.rendered_guide(root), "utf-8")
    (root / readme.MATRIX).write_text(readme.rendered_matrix(root), "utf-8")
    (root / readme.FAULTS).write_text(readme.rendered_faults(root), "utf-8")
    (root / readme.PORTS).write_text(readme.rendered_ports(root), "utf-8")
    (root / readme.CATALOGUE).write_text(readme.rendered_catalogue(root), "utf-8")
