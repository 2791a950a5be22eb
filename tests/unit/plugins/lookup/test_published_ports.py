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


def test_what_is_declared_for_all_hosts_is_published_where_it_runs():
    engines = {"llama_cpp_engines": [{"name": "x", "port": 8081}], "ramalama_workers": [{"name": "x", "port": 8081}]}

    def services(*groups: str, **variables: Any) -> set[str]:
        return {one["service"] for one in query(**engines, group_names=list(groups), **variables)}

    # Where both ran, one would find its port taken.
    assert services("spark", launchers_launchers=[]) == {"ssh", "llama-cpp"}
    assert services("workstation") == {"workers"}
    for groups in (("spark", "workstation"), ("lab",), ()):
        with pytest.raises(AnsibleLookupError, match="One service for tcp port 8081"):
            services(*groups)
    # What the inventory says of a service that is not there is no wrong name.
    assert services("workstation", spark_ports={"llama_cpp/llama-cpp": {"ports": [8083]}}) == {"workers"}


def test_what_preflight_refuses_is_an_error():
    with pytest.raises(AnsibleLookupError, match="One service for tcp port 8080"):
        query(launchers_launchers=["llama-serve"], spark_ports={"own": {"ports": [8080], "reason": "x"}})
    with pytest.raises(AnsibleLookupError, match=r"spark_ports\.own\.reason"):
        query(spark_ports={"own": {"ports": [8080]}})


def test_it_takes_no_terms():
    with pytest.raises(AnsibleLookupError, match="takes no terms"):
        LookupModule().run(["x"])
