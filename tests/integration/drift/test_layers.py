# SPDX-License-Identifier: GPL-3.0-or-later
"""A layer or a role is selected by its tag, with the preflight and nothing else."""

from __future__ import annotations

import os
import re
import subprocess

import pytest
import yaml
from conftest import ROOT, ansible_playbook

IMPORT = "ansible.builtin.import_playbook"
LAYERS = {
    layer[IMPORT].removesuffix(".yml"): [
        role["tags"][0]
        for play in yaml.safe_load((ROOT / "playbooks" / layer[IMPORT]).read_text("utf-8"))
        for role in play.get("roles") or ()
    ]
    for layer in yaml.safe_load((ROOT / "playbooks" / "site.yml").read_text("utf-8"))
}
ROLES = {role for roles in LAYERS.values() for role in roles}
PREFLIGHT = "Hold the variables of the host against what roles document"


def listed(*arguments: str) -> str:
    env = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    env["ANSIBLE_CONFIG"] = str(ROOT / "ansible.cfg")
    command = [ansible_playbook(), "-i", str(ROOT / "inventories" / "spark_pair"), "site.yml", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def selected(tags: str) -> set[str]:
    """The roles of which a run with these tags plays a task. The preflight is always played."""
    tasks = re.findall(r"^      (.+?)\tTAGS:", listed("--list-tasks", "--tags", tags), re.MULTILINE)
    assert PREFLIGHT in tasks
    # Ansible holds the variables of every role of a play against its specs, whatever is selected: on the controller.
    named = [task.partition(" : ") for task in tasks if " : Validating arguments against arg spec " not in task]
    return {role.removeprefix("nusy.dgx_spark.") for role, colon, _task in named if colon}


def test_every_tag_is_a_layer_or_a_role() -> None:
    found = {tag for tags in re.findall(r"TASK TAGS: \[(.*)\]", listed("--list-tags")) for tag in tags.split(", ")}
    assert found == {"always", *LAYERS, *ROLES}
    assert {path.name for path in (ROOT / "roles").iterdir()} == ROLES
    guide = (ROOT / "docs/guides/layers.md").read_text("utf-8")
    assert re.findall(r"^\| `(\w+)` \|", guide, re.MULTILINE) == ["always", *LAYERS]


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_is_selected_by_its_tag(layer: str) -> None:
    assert selected(layer) == set(LAYERS[layer])


@pytest.mark.parametrize("tags", ["prereqs", "prereqs,ptxas", "prereq"])
def test_roles_are_selected_by_their_tags(tags: str) -> None:
    assert selected(tags) == set(tags.split(",")) & ROLES
