# SPDX-License-Identifier: GPL-3.0-or-later
"""This tree keeps every rule."""

from __future__ import annotations

from pathlib import Path

import pytest
from rules import Rule, Tree, examples, machines, plugins, roles, tasks, tree

RULES = (*roles.RULES, *tasks.RULES, *plugins.RULES, examples.examples_are_taken, *tree.RULES, *machines.RULES)
HERE = Tree(Path(__file__).resolve().parents[2])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_tree_keeps(rule: Rule) -> None:
    findings = list(rule(HERE))
    assert not findings, "\n  " + "\n  ".join(findings)
