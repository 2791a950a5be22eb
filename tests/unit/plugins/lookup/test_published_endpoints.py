# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom role probe asks: every engine that a role runs on the host, as that role has it, and no other."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleLookupError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.nusy.dgx_spark.plugins.lookup.published_endpoints import LookupModule

TLS = {"certificate": "/c", "key": "/k", "client_ca": "/a", "client_certificate": "/p", "client_key": "/q"}
EVERY: dict[str, Any] = {
    "vllm_engines": [
        {"name": "main", "port": 8000, "model": "/srv/m", "api_key": "open-sesame", "served_name": "mistral"},
        {"name": "off", "port": 8001, "enabled": False},
        {"name": "far", "port": 8002, "host": "fd00::1", "tls": TLS},
    ],
    "llama_cpp_engines": [{"name": "swarm", "port": 8081, "host": "0.0.0.0"}],
    "ramalama_workers": [{"name": "vision", "port": 8082, "served_model_name": "eyes"}],
}


def query(**variables: Any) -> list[dict[str, Any]]:
    known = {"inventory_hostname": "spark-1", **variables}
    loader = DataLoader()
    return LookupModule(loader, Templar(loader=loader, variables=known)).run([], known)


def test_what_roles_run_is_asked_as_they_have_it() -> None:
    by_name = {one["name"]: one for one in query(**EVERY)}
    assert by_name == {
        "vllm@main": {"name": "vllm@main", "url": "http://127.0.0.1:8000/v1", "model": "mistral",
                      "api_key": "open-sesame"},
        "vllm@far": {"name": "vllm@far", "url": "https://[fd00::1]:8002/v1", "model": "far",
                     "server_certificate": "/c", "certificate": "/p", "private_key": "/q"},
        "llama@swarm": {"name": "llama@swarm", "url": "http://127.0.0.1:8081/v1", "model": "swarm"},
        "ramalama-vision": {"name": "ramalama-vision", "url": "http://127.0.0.1:8082/v1", "model": "eyes"},
    }  # fmt: skip
    assert query() == []


def test_words_without_a_file_are_no_tls() -> None:
    engine = {"name": "swarm", "port": 8081, "tls": {"certificate": "", "key": ""}}
    assert query(llama_cpp_engines=[engine])[0]["url"] == "http://127.0.0.1:8081/v1"


def test_keys_and_ports_may_be_computed() -> None:
    written = trust_as_template("{{ [{'name': 'main', 'port': first + 1, 'api_key': key}] }}")
    (found,) = query(vllm_engines=written, first=7999, key="open-sesame")
    assert (found["url"], found["api_key"]) == ("http://127.0.0.1:8000/v1", "open-sesame")


@pytest.mark.parametrize(
    ("groups", "asked"),
    [
        (["spark"], {"vllm", "llama"}),
        (["workstation", "lab"], {"ramalama"}),
        (["spark", "workstation"], {"vllm", "llama", "ramalama"}),
        # Of plays that we do not know: all of the roles may run there.
        (["lab"], {"vllm", "llama", "ramalama"}),
        ([], {"vllm", "llama", "ramalama"}),
    ],
)
def test_what_is_declared_for_all_hosts_is_asked_where_it_runs(groups: list[str], asked: set[str]) -> None:
    assert {one["name"].partition("@")[0].partition("-")[0] for one in query(**EVERY, group_names=groups)} == asked


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"vllm_engines": [{"name": "x"}]}, r"vllm_engines\[0\]: a mapping with name and port"),
        ({"llama_cpp_engines": {"swarm": {}}}, "llama_cpp_engines: a list"),
        ({"vllm_engines": [{"name": "main", "port": 1, "tls": "yes"}]}, "vllm@main.tls: a mapping"),
    ],
)
def test_what_nobody_could_ask_is_an_error(variables: dict[str, Any], said: str) -> None:
    with pytest.raises(AnsibleLookupError, match=said):
        query(**variables)


def test_it_takes_no_terms() -> None:
    with pytest.raises(AnsibleLookupError, match="takes no terms"):
        LookupModule().run(["x"])
