# SPDX-License-Identifier: GPL-3.0-or-later
"""The module spark_facts: its documentation is true, and running it gives facts in both modes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.gather import Answers, answer_to, record
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.observe import SUBJECTS, observe
from ansible_collections.nusy.dgx_spark.plugins.modules import spark_facts

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "module_utils" / "_facts"))
from fact_node import FactNode, spark

DOCUMENTED: dict[str, Any] = yaml.safe_load(spark_facts.RETURN)["ansible_facts"]["contains"]["spark"]
TYPES = {"str": str, "int": int, "bool": bool, "list": list, "dict": dict, "float": (int, float)}


def ask_here(questions: dict[str, Any], seconds: float) -> Answers:
    answers = Answers()
    for name, question in questions.items():
        record(answers, name, answer_to(question))
    return answers


def facts_of(node: FactNode) -> dict[str, Any]:
    return observe(node, subsets=["all"], seconds=20, fwupd=True, ask=ask_here)[0]


def undocumented(value: Any, doc: dict[str, Any], path: str) -> Iterator[str]:
    """Facts that the documentation does not name, or names with another type."""
    if value is not None and (
        not isinstance(value, TYPES[doc["type"]]) or (doc["type"] == "int" and isinstance(value, bool))
    ):
        yield f"{path} is {type(value).__name__}, documented as {doc['type']}"
    inside = doc.get("contains")
    if inside is None:
        return
    for item in value if isinstance(value, list) else [value]:
        for key, below in (item or {}).items():
            wild = next((name for name in inside if name.startswith("<")), None)
            name = key if key in inside else wild
            if name is None:
                yield f"{path}.{key} is not documented"
            else:
                yield from undocumented(below, inside[name], f"{path}.{key}")


def leaves(doc: dict[str, Any], path: str = "") -> Iterator[str]:
    for name, below in doc.get("contains", {}).items():
        place = f"{path}.{name}" if path else name
        yield place
        yield from leaves(below, place)


def places(value: Any, doc: dict[str, Any], path: str = "") -> Iterator[str]:
    """The documented path of each fact found."""
    inside = doc.get("contains", {})
    for item in value if isinstance(value, list) else [value]:
        for key, below in (item or {}).items() if isinstance(item, dict) else ():
            wild = next((name for name in inside if name.startswith("<")), None)
            name = key if key in inside else wild
            if name:
                place = f"{path}.{name}" if path else name
                yield place
                yield from places(below, inside[name], place)


@pytest.mark.parametrize("root", [False, True])
def test_every_fact_is_documented_with_its_type(root: bool) -> None:
    node = spark()
    node.root = root
    assert list(undocumented(facts_of(node), DOCUMENTED, "spark")) == []


def test_every_documented_fact_is_there_on_a_spark_seen_by_root() -> None:
    node = spark()
    node.root = True
    facts = facts_of(node)
    assert sorted(set(leaves(DOCUMENTED)) - set(places(facts, DOCUMENTED))) == []


def lacking(value: Any, doc: dict[str, Any], unknown: dict[str, str], path: str = "") -> Iterator[str]:
    """Documented facts that are neither there nor unknown with a reason."""
    inside = doc.get("contains", {})
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from lacking(item, doc, unknown, f"{path}.{index}")
    elif isinstance(value, dict):
        for name, below in inside.items():
            for key in value if name.startswith("<") else [name]:
                place = f"{path}.{key}" if path else key
                if key in value:
                    yield from lacking(value[key], below, unknown, place)
                elif place not in unknown:
                    yield place


def damaged() -> Iterator[FactNode]:
    yield FactNode()
    for prefix in ("/proc", "/sys", "/dev", "/run", "/etc", "/usr"):
        node = spark()
        for path in [p for p in node.files if p.startswith(prefix)]:
            del node.files[path]
        yield node
        node = spark()
        node.forbidden.add(prefix)
        yield node


def test_every_documented_fact_is_there_or_has_a_reason() -> None:
    virtual_only = {"carrier", "speed_mbps", "wireless", "driver", "driver_version", "rdma_device"}
    pci_only = {"pci_id", "pcie_link"}
    for node in damaged():
        facts = facts_of(node)
        missing = [
            path
            for path in lacking(facts, DOCUMENTED, facts["unknown"])
            # Documented: virtual interfaces have a few facts only, and what is not on the PCI bus no PCI facts.
            if not (
                path.startswith("network.interfaces.")
                and path.rpartition(".")[2] in virtual_only | pci_only | {"pci_address"}
            )
        ]
        assert missing == []


def test_the_options_are_those_of_the_documentation() -> None:
    options = yaml.safe_load(spark_facts.DOCUMENTATION)["options"]
    assert options["gather_subset"]["choices"] == ["all", *SUBJECTS]
    assert {name: option["default"] for name, option in options.items()} == {
        "gather_subset": ["all"],
        "timeout": 20,
        "fwupd": False,
    }


def run(capsys: pytest.CaptureFixture[str], **arguments: Any) -> tuple[int, dict[str, Any]]:
    with patch_module_args(arguments), pytest.raises(SystemExit) as ended:
        spark_facts.main()
    return int(ended.value.code or 0), json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("check", [True, False])
def test_running_it_gives_facts_and_no_change_in_both_modes(capsys: pytest.CaptureFixture[str], check: bool) -> None:
    code, result = run(capsys, _ansible_check_mode=check)
    assert (code, result["changed"]) == (0, False)
    facts = result["ansible_facts"]["spark"]
    assert {*SUBJECTS} <= {*facts, *facts["unknown"]}
    assert facts["memory"]["total_bytes"] > 1 << 28
    assert facts["kernel"]["release"]
    assert "warnings" not in result
    assert list(undocumented(facts, DOCUMENTED, "spark")) == []


def test_a_subset_is_gathered_alone(capsys: pytest.CaptureFixture[str]) -> None:
    _code, result = run(capsys, gather_subset=["memory"])
    assert set(result["ansible_facts"]["spark"]) == {"memory", "known_issues", "versions", "unknown"}


@pytest.mark.parametrize("seconds", [1, 301])
def test_an_impossible_time_limit_is_refused(capsys: pytest.CaptureFixture[str], seconds: int) -> None:
    code, result = run(capsys, timeout=seconds)
    assert code == 1
    assert result["error"]["key"] == "spark_facts.timeout"


def test_a_bug_of_ours_is_a_warning_and_the_facts_still_come(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(look: object) -> dict[str, Any]:
        raise KeyError("nobody thought of this")

    # Not through the result: where controller code is loaded too, ansible-core shows warnings at once.
    warnings: list[str] = []
    monkeypatch.setattr(AnsibleModule, "warn", lambda _module, text, **_options: warnings.append(text))
    monkeypatch.setitem(SUBJECTS, "memory", broken)
    code, result = run(capsys)
    facts = result["ansible_facts"]["spark"]
    assert code == 0
    assert facts["unknown"]["memory"] == "an error in this collection, see the warning of the task"
    assert "nobody thought of this" in str(warnings)
    assert facts["kernel"]["release"]
