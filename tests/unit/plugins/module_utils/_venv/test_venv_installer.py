# SPDX-License-Identifier: GPL-3.0-or-later
"""How the package tools are called: with what the task's environment says of the network, and nothing else of it."""

from __future__ import annotations

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv import installer

JOB = installer.Job(installer.Tool("pip", "/usr/bin/python3"), "/e", "/w", "/w/lock.txt", "https://me:pw@index/simple")


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "no_proxy", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT"])
def test_the_way_to_the_network_is_handed_on(name: str) -> None:
    """The last two: pip before 24.2, which ensurepip of Ubuntu 24.04 brings, knows no other authority than its own."""
    assert installer.environment(JOB, {name: "/x"})[name] == "/x"


@pytest.mark.parametrize("name", ["PIP_INDEX_URL", "PIP_TARGET", "PIP_CONFIG_FILE", "HOME", "PYTHONPATH", "UV_INDEX"])
def test_what_else_the_caller_has_set_changes_nothing(name: str) -> None:
    assert installer.environment(JOB, {name: "/x"}) == installer.environment(JOB, {})


def test_an_index_is_not_on_the_command_line_and_not_in_an_error() -> None:
    assert not [word for word in installer.command(JOB) if "pw" in word]
    assert installer.environment(JOB)["PIP_INDEX_URL"] == JOB.index_url
    assert installer.source(JOB) == "the index index"
