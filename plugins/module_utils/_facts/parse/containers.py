# SPDX-License-Identifier: GPL-3.0-or-later
"""Container runtimes: versions, Docker's configuration, CDI specifications.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import re

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import ParseError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.model import Node
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.parse.text import json_object


def tool_version(text: str) -> str:
    """The version on the first line of ``docker|podman|containerd|nvidia-ctk --version``."""
    first = text.strip().splitlines()[0][:300] if text.strip() else ""
    match = re.match(
        r"[A-Za-z][A-Za-z -]{2,40}[ v](?:\S{1,60} )?v?([0-9]{1,4}\.[0-9]{1,4}[0-9A-Za-z.+~-]{0,40})(?=[\s,]|$)", first
    )
    if match is None:
        raise ParseError("container tool --version", text, "a name and a version, such as Docker version 29.2.1")
    return match[1]


def docker_daemon(text: str) -> dict[str, Node]:
    """/etc/docker/daemon.json: what it says about GPUs. An empty file is an empty configuration."""
    document = json_object("/etc/docker/daemon.json", text) if text.strip() else {}
    runtimes = document.get("runtimes")
    features = document.get("features")
    default = document.get("default-runtime")
    return {
        "nvidia_runtime": isinstance(runtimes, dict) and "nvidia" in runtimes,
        "default_runtime": default if isinstance(default, str) else None,
        # None: the daemon's own default counts, which depends on its version.
        "cdi_enabled": features["cdi"]
        if isinstance(features, dict) and isinstance(features.get("cdi"), bool)
        else None,
    }


def cdi_spec(text: str) -> dict[str, Node]:
    """The head of a CDI specification. Both its keys are plain words in YAML and in JSON alike."""
    found: dict[str, Node] = {}
    for key, fact in (("cdiVersion", "cdi_version"), ("kind", "kind")):
        match = re.search(
            rf"(?:^|[{{,])\s{{0,40}}\"?{key}\"?\s{{0,4}}:\s{{0,4}}\"?([A-Za-z0-9./_-]{{1,80}})", text, re.ASCII | re.M
        )
        if match is None:
            raise ParseError("CDI specification", text, f"a key {key}")
        found[fact] = match[1]
    return found
