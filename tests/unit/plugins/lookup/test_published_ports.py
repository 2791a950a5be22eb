# SPDX-License-Identifier: GPL-3.0-or-later
"""The lookup gives a firewall data that it can use as they are, or fails."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleLookupError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.nusy.dgx_spark.plugins.lookup.published_ports import LookupModule


def query(**variables: Any) -> list[dict[str, Any]]:
    known = {"inventory_hostname": "spark-1", **variables}
    loader = DataLoader()
    return LookupModule(loader, Templar(loader=loader, variables=known)).run([], known)


def test_it_returns_what_the_host_at_hand_publishes():
    found = query(launchers_launchers=["ray-head"])
    assert [(one["role"], one["service"], one["bind"], one["peers"]) for one in found] == [
        ("access", "ssh", "any", []),
        ("launchers", "ray", "any", ["fabric"]),
        ("launchers", "ray-dashboard", "loopback", []),
    ]
    assert found[1]["ports"] == ["6380-6387", "6400-6479"] and found[1]["protocol"] == "tcp" and found[1]["reason"]
    assert [one["service"] for one in query(launchers_launchers=[])] == ["ssh"]


def test_what_preflight_refuses_is_an_error():
    with pytest.raises(AnsibleLookupError, match="One service for tcp port 8080"):
        query(launchers_launchers=["llama-serve"], spark_ports={"own": {"ports": [8080], "reason": "x"}})
    with pytest.raises(AnsibleLookupError, match=r"spark_ports\.own\.reason"):
        query(spark_ports={"own": {"ports": [8080]}})


def test_it_takes_no_terms():
    with pytest.raises(AnsibleLookupError, match="takes no terms"):
        LookupModule().run(["x"])
