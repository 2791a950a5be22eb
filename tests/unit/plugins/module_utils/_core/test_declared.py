# SPDX-License-Identifier: GPL-3.0-or-later
"""The declaration on the node: for root alone, without secrets, believed only where nobody else can write."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core import declared as declarations
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.declared import Declared, Kept, find, keep
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Unreadable

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "_state"))

from fake_node import FakeNode

FOLDER = "/var/lib/nusy/declared"
DEMO = Declared("demo", "ensure_state", {"role": "demo", "controls": [{"id": "demo/x"}]})


def test_what_is_kept_is_found_again_and_only_root_can_read_it():
    node = FakeNode()
    keep(DEMO, node, node)
    assert node.files[f"{FOLDER}/demo.json"].mode == 0o600 and node.files[FOLDER].mode == 0o700
    assert find(node) == (Kept("demo", DEMO),)


def test_the_same_declaration_writes_nothing():
    node = FakeNode()
    keep(DEMO, node, node)
    node.effects.clear()
    keep(DEMO, node, node)
    assert node.effects == []
    node.files[f"{FOLDER}/demo.json"].mode = 0o644
    keep(DEMO, node, node)
    assert node.effects == [f"write {FOLDER}/demo.json"]


def test_a_password_in_an_address_is_not_kept():
    node = FakeNode()
    keep(Declared("demo", "x", {"stages": [{"index_url": "https://me:pass@host/simple"}]}), node, node)
    text = node.files[f"{FOLDER}/demo.json"].text
    assert "pass" not in text and "https://<secret>@host/simple" in text


@pytest.mark.parametrize("folder", ["/var/lib/nusy", FOLDER])
def test_nothing_is_kept_or_believed_where_others_can_write(folder):
    node = FakeNode()
    keep(DEMO, node, node)
    node.files[folder].mode = 0o777
    node.effects.clear()
    keep(Declared("demo", "other", {}), node, node)
    assert node.effects == []
    with pytest.raises(Unreadable):
        find(node)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "cannot be understood"),
        ("[]", "cannot be understood"),
        ('{"schema": "nusy.dgx_spark.declared/9"}', "of another release"),
        ('{"schema": "nusy.dgx_spark.declared/1"}', "cannot be understood"),
    ],
)
def test_a_damaged_one_is_said(text, told):
    node = FakeNode()
    keep(DEMO, node, node)
    node.files[f"{FOLDER}/demo.json"].text = text
    assert told in find(node)[0].problem


def test_a_file_of_somebody_else_is_not_believed():
    node = FakeNode()
    keep(DEMO, node, node)
    node.files[f"{FOLDER}/demo.json"].uid = 1000
    assert "root alone" in find(node)[0].problem
    assert json.loads(node.files[declarations.path_of("demo")].text)["module"] == "ensure_state"
