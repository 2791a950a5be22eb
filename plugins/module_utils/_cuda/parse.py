# SPDX-License-Identifier: GPL-3.0-or-later
"""From the module's options to a Toolchain, or an error that names the option. Pure.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.nusy.dgx_spark.plugins.module_utils._apt.keys import wrong_key
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import OPTIONS
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.inputs import plain_path
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda.model import (
    BUILDS,
    ENGINE_PACKAGES,
    READERS,
    TOOLS,
    Release,
    Repository,
    Toolchain,
    Wheels,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda.tools import OWN_PLACE, arch_of
from ansible_collections.nusy.dgx_spark.plugins.module_utils._nvidia import absent
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import Package
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.resources import PACKAGE
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv import lock
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv.model import Pin

# NVIDIA's key for the CUDA repositories of Ubuntu 22.04 and 24.04 and of Debian 12, published
# beside them as 3bf863cc.pub.
FINGERPRINT = "EB693B3035CD5710E231E123A4B469963BF863CC"

ARGUMENT_SPEC: dict[str, Any] = {
    "version": {"type": "str", "default": "13.0"},
    "source": {"type": "str", "choices": ["existing", "apt", "wheel"], "default": "existing"},
    "prefix": {"type": "str", "default": ""},
    "link": {"type": "str", "default": ""},
    "components": {"type": "list", "elements": "str", "choices": list(TOOLS), "default": list(TOOLS)},
    "arch": {"type": "str", "default": "sm_121"},
    "compile": {"type": "bool", "default": True},
    "timeout": {"type": "float", "default": 60},
    "packages": {"type": "list", "elements": "str", "default": []},
    "holds": {"type": "list", "elements": "str", "default": []},
    "repository_url": {"type": "str", "default": ""},
    "repository_fingerprint": {"type": "str", "default": FINGERPRINT, "no_log": False},
    "repository_key": {"type": "str", "default": "", "no_log": False},
    "repository_key_url": {"type": "str", "default": "", "no_log": False},
    "lock": {"type": "str", "default": ""},
    "interpreter": {"type": "str", "default": "/usr/bin/python3"},
    # May hold a user and a password.
    "index_url": {"type": "str", "default": "", "no_log": True},
    "find_links": {"type": "str", "default": ""},
    **absent.OPTION,
    **OPTIONS,
}

PREFIXES = {"existing": "/usr/local/cuda-{}", "apt": "/usr/local/cuda-{}", "wheel": f"{OWN_PLACE}/{{}}"}
# They bring a driver, which on DGX OS comes from elsewhere and must not be replaced.
DRIVERS = re.compile(r"(cuda(-\d+-\d+)?|cuda-drivers.*|cuda-runtime-.*|nvidia-open.*|nvidia-driver-.*)")
# Wheels that are not called by the tool they hold: nvvm has cicc.
READER_WHEELS = tuple(f"nvidia-cuda-{name}" for name in READERS)


def toolchain(params: Mapping[str, Any]) -> Toolchain:
    release = _release(params["version"])
    source = params["source"]
    if not params["timeout"] > 0:
        raise _wrong("timeout", "seconds, more than 0", str(params["timeout"]), "it is what ends a tool that hangs")
    prefix = _path("prefix", params["prefix"] or PREFIXES[source].format(release))
    link = _path("link", params["link"]) if params["link"] else ""
    if link and (link == prefix or prefix.startswith(f"{link}/") or link.startswith(f"{prefix}/")):
        raise _wrong("link", "a path apart from the prefix", link, "a link cannot lead into itself")
    return Toolchain(
        release=release,
        source=source,
        prefix=prefix,
        link=link,
        components=tuple(dict.fromkeys(params["components"])),
        arch=arch_of(params["arch"], "cuda"),
        compile=params["compile"],
        timeout=params["timeout"],
        packages=_packages(params, release) if source == "apt" else (),
        repository=_repository(params) if source == "apt" else None,
        wheels=_wheels(params, release) if source == "wheel" else None,
        confirmed=frozenset(params["confirm"]),
        proven=BUILDS not in params["skip_controls"],
    )


def _release(text: str) -> Release:
    found = re.fullmatch(r"([1-9][0-9]?)\.([0-9]{1,2})", text, re.ASCII)
    if found is None:
        why = "the patch levels of its parts differ from each other"
        raise _wrong("version", 'major.minor in quotes, such as "13.0"', text, why)
    return Release(int(found[1]), int(found[2]))


def _packages(params: Mapping[str, Any], release: Release) -> tuple[Package, ...]:
    names: Sequence[str] = params["packages"] or [f"{name}{release.suffix}" for name in ENGINE_PACKAGES]
    holds = set(params["holds"])
    found = []
    for number, text in enumerate(names):
        match = PACKAGE.fullmatch(text)
        if match is None:
            raise _wrong(f"packages[{number}]", "name or name=version", text, "apt would read it as something else")
        if DRIVERS.fullmatch(match["name"]):
            why = "it brings a driver, which must not come from this repository"
            raise _wrong(f"packages[{number}]", "packages of the toolkit, such as cuda-nvcc-13-0", text, why)
        found.append(Package(match["name"], match["version"], hold=match["name"] in holds))
    for name in sorted(holds - {package.name for package in found}):
        raise _wrong("holds", "exact names out of packages", name, "a hold on an absent package holds nothing")
    return tuple(found)


def _repository(params: Mapping[str, Any]) -> Repository:
    url, key, key_url = params["repository_url"], params["repository_key"], params["repository_key_url"]
    for option, address in (("repository_url", url), ("repository_key_url", key_url)):
        if "@" in urlsplit(address).netloc:
            why = "everybody on the node can read it in the source, and it would be in every report"
            without = "an address without a user or password; those are for /etc/apt/auth.conf.d"
            raise _wrong(option, without, "one with them", why)
    if url and (urlsplit(url).scheme not in ("https", "http", "file") or re.search(r"\s", url)):
        raise _wrong("repository_url", "an https, http or file address", url, "apt would not understand it")
    if key_url and urlsplit(key_url).scheme not in ("https", "file"):
        raise _wrong("repository_key_url", "an https or file address", key_url, "the key is what all trust rests on")
    fingerprint = re.sub(r"\s", "", params["repository_fingerprint"]).upper()
    if re.fullmatch(r"[0-9A-F]{40}", fingerprint) is None:
        why = "a shorter id is made to fit another key in seconds"
        raise _wrong("repository_fingerprint", "40 hexadecimal digits", fingerprint, why)
    if urlsplit(url).scheme == "http" and not (key or key_url):
        why = "the key beside it could be exchanged on its way"
        raise _wrong("repository_key", "the key or an https address of it, with a mirror over http", "neither", why)
    problem = wrong_key(key, fingerprint) if key else ""
    if problem:
        why = "a node would trust another key than the one that was declared"
        raise _wrong("repository_key", f"the armoured key {fingerprint}, and no other", problem, why)
    return Repository(url, fingerprint, key_url, key)


def _wheels(params: Mapping[str, Any], release: Release) -> Wheels:
    if not params["lock"].strip():
        wanted = "the text of a hash-locked file, with source: wheel (the role has one for CUDA 13.0 and 13.2)"
        raise _wrong("lock", wanted, "nothing", "no wheel is named")
    pins = lock.parse(params["lock"], "lock")
    for pin in pins:
        _same_release(pin, release)
    index = params["index_url"]
    if index and urlsplit(index).scheme not in ("https", "http", "file"):
        raise _wrong("index_url", "an https, http or file address", "another form", "pip would not understand it")
    links = params["find_links"]
    return Wheels(
        pins,
        _path("interpreter", params["interpreter"]),
        index,
        _path("find_links", links) if links else "",
    )


def _same_release(pin: Pin, release: Release) -> None:
    """The wheels do not pin each other, and parts of two releases fail late."""
    parts = pin.version.split(".")
    found = tuple(int(part) if part.isdigit() else -1 for part in (*parts, "x")[:2])
    wanted = (release.major, release.minor)
    if found == wanted or (pin.name in READER_WHEELS and found[0] == wanted[0] and found > wanted):
        return
    why = "parts of two releases fail late, or build what does not run"
    raise _wrong(f"lock, line {pin.line}", f"wheels of CUDA {release}", f"{pin.name}=={pin.version}", why)


def _path(option: str, text: str) -> str:
    if not plain_path(text):
        expected = "an absolute path without .., // or a / at the end"
        raise _wrong(option, expected, text, "it could mean another place on the node")
    return text


def _wrong(at: str, expected: str, found: str, why: str) -> InputError:
    return InputError(
        "cuda.bad_input",
        wanted=f"{at}: {expected}",
        found=repr(found[:200]),
        why=why,
        fix=_fix(at),
    )


def _fix(at: str) -> str:
    if at == "timeout":  # of the module alone
        return "correct timeout"
    return f"correct cuda_toolchain_{at}" if re.fullmatch(r"[a-z_]+(\[\d+\])?", at) else "correct it, or lock again"
