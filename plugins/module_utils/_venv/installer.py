# SPDX-License-Identifier: GPL-3.0-or-later
"""How the package tools are called. Pure: from declarations to commands and environments.

Both tools get the same orders: what the lock names with its hashes and nothing else, wheels
only, no configuration of any user, no cache, files copied, Python compiled now, since nothing
can be written later. What may hold a password goes in by the environment, which other users
cannot read, and not by the command line.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

# A lock of two hundred wheels is 3 GB of downloads.
INSTALL_SECONDS = 7200.0
# pip installs into an environment other than its own since this release.
LEAST_PIP = "22.3"
# What a site behind a proxy or with its own authority sets for the task.
# pip before 24.2 asks the last two, and not OpenSSL's.
HANDED_ON = (
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "PIP_CERT"),
)


@dataclass(frozen=True)
class Tool:
    """path: of uv itself, or of the interpreter whose ensurepip brings pip."""

    kind: Literal["uv", "pip"]
    path: str


@dataclass(frozen=True)
class Job:
    """One stage into one environment. ``work`` is a folder beside it, for all temporary files."""

    tool: Tool
    environment: str
    work: str
    requirements: str
    index_url: str = ""
    find_links: str = ""


def command(job: Job) -> list[str]:
    python = f"{job.environment}/bin/python"
    wheelhouse = ["--no-index", f"--find-links={job.find_links}"] if job.find_links else []
    common = ["--require-hashes", "--no-deps", "--only-binary=:all:", *wheelhouse, "-r", job.requirements]
    if job.tool.kind == "uv":
        return [
            job.tool.path, "pip", "install", "--python", python, "--no-config", "--no-cache", "--no-progress",
            "--link-mode=copy", "--compile-bytecode", *common,
        ]  # fmt: skip
    return [
        pip_python(job.work), "-I", "-m", "pip", "--python", python, "--no-input", "--no-cache-dir",
        "--disable-pip-version-check", "install", "--compile", "--no-warn-script-location", "--progress-bar=off",
        *common,
    ]  # fmt: skip


def pip_python(work: str) -> str:
    """pip has an environment of its own, so that none is left in the one it fills."""
    return f"{work}/pip/bin/python"


def environment(job: Job, inherited: Mapping[str, str] | None = None) -> dict[str, str]:
    found = {
        "HOME": job.work,
        "TMPDIR": job.work,
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_RETRIES": "2",
        "PIP_TIMEOUT": "30",
        "UV_NO_CONFIG": "1",
        "UV_HTTP_TIMEOUT": "30",
        "UV_PYTHON_DOWNLOADS": "never",
    }
    if job.index_url and not job.find_links:
        found |= {"PIP_INDEX_URL": job.index_url, "UV_INDEX_URL": job.index_url}
    return {**found, **handed_on(inherited or {})}


def handed_on(inherited: Mapping[str, str]) -> dict[str, str]:
    spellings = (spelling for name in HANDED_ON for spelling in (name, name.lower()))
    return {spelling: inherited[spelling] for spelling in spellings if inherited.get(spelling)}


def source(job: Job) -> str:
    """Where the wheels come from, for an error: without what may be secret in it."""
    if job.find_links:
        return f"the wheelhouse {job.find_links}"
    host = urlsplit(job.index_url).hostname if job.index_url else ""
    return f"the index {host}" if host else "the public Python index"
