# SPDX-License-Identifier: GPL-3.0-or-later
"""A CUDA toolkit as one subject: what ``ensure_state`` can ensure of it, and what only use proves.

The document is made anew from each look, since what there is decides what to declare: a
repository that somebody configured is adopted, a link of somebody else is asked for by name.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.nusy.dgx_spark.plugins.module_utils._apt import keys
from ansible_collections.nusy.dgx_spark.plugins.module_utils._apt.entries import dgx_os
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import Action, Ensuring
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda import declare, links, parse, sources, wheel
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda.look import look
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda.model import (
    COMPILER_PACKAGES,
    CONTROLS,
    EXTRA,
    KEY,
    LINK,
    REPOSITORY,
    ROLE,
    Toolchain,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._nvidia import absent
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import compose, packages, record
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import Unknown

# Names of docs/contracts/paths-env.md. PTXAS_BIN is the one that ptxas_probe chooses.
PROVIDES = {"NVCC_BIN": "nvcc", "CUOBJDUMP_BIN": "cuobjdump", "NVDISASM_BIN": "nvdisasm"}


def ensure_toolchain(params: Mapping[str, Any], machine: str = "") -> compose.Composed:
    """Raises InputError. ``machine``: as ``uname -m`` says; this one when it is empty."""
    wanted = parse.toolchain(params)
    if absent.none_declared(params):
        return compose.Composed(ROLE, CONTROLS, params, lambda reader: absent.nothing(CONTROLS, absent.seen(reader)))
    machine = machine or os.uname().machine
    return compose.Composed(ROLE, CONTROLS, params, lambda reader: examined(wanted, machine, reader))


def examined(wanted: Toolchain, machine: str, reader: Reader) -> compose.Look:
    url = repository_url(wanted, machine, reader)
    if isinstance(url, Unknown):
        return compose.Look(unsupported=url.reason)
    seen = observe(wanted, machine, url, reader)
    left_out = {
        REPOSITORY: f"source {wanted.source} needs no repository",
        LINK: "no link is declared",
        KEY: "no source of this role is declared on this node",
        EXTRA: "no file of this role is declared on this node",
    }
    return compose.Look(declare.controls(wanted, seen), actions(wanted, machine, seen), facts(wanted, seen), left_out)


def facts(wanted: Toolchain, seen: declare.Seen) -> Mapping[str, object]:
    tools, proof = seen.look.tools, seen.look.proof
    proven = {name: wanted.binary(tool) for name, tool in PROVIDES.items() if not tools[tool].fault}
    if not proof.built:
        proven.pop("NVCC_BIN", None)
    return {
        "prefix": wanted.prefix,
        "version": tools["nvcc"].version,
        "binaries": {name: tool.as_dict() for name, tool in tools.items()},
        "size_mib": seen.look.size_mib,
        "link": {"path": wanted.link, **seen.link.as_dict()} if wanted.link else {},
        "proof": {"arch": wanted.arch.name, **proof.as_dict()},
        "provides": proven,
    }


def actions(wanted: Toolchain, machine: str, seen: declare.Seen) -> Mapping[str, Action]:
    found: dict[str, Action] = {"point_link": links.point}
    if wanted.repository:
        found["write_key"] = partial(
            keys.write_key,
            fingerprint=wanted.repository.fingerprint,
            key=wanted.repository.key,
            key_url=seen.key_url,
        )
    if wanted.wheels:
        digest = wheel.digest_of(wanted.wheels, machine)
        found["install_wheels"] = partial(wheel.install, wheels=wanted.wheels, digest=digest)
    return found


def repository_url(wanted: Toolchain, machine: str, reader: Reader) -> str | Unknown:
    """Where packages come from; empty for another source. Unknown: why this system cannot have the toolkit."""
    if wanted.source != "existing" and machine not in sources.MACHINES:
        return Unknown(f"unsupported platform: NVIDIA has no toolkit for {machine}")
    if not wanted.repository:
        return ""
    try:
        if reader.stat(packages.APT_GET) is None:
            return Unknown("unsupported platform: source apt needs apt")
    except Unreadable as error:
        return Unknown(str(error))
    return wanted.repository.url or sources.nvidia_url(reader, machine)


def observe(wanted: Toolchain, machine: str, url: str, reader: Reader) -> declare.Seen:
    taken = record.read(reader, ROLE).taken
    seen = declare.Seen(look(wanted, reader), links.observe(wanted.link, wanted.prefix, reader), taken)
    if wanted.wheels:
        digest = wheel.digest_of(wanted.wheels, machine)
        return replace(seen, tree=wheel.observe(wanted.prefix, wanted.wheels, digest, reader), digest=digest)
    if not wanted.repository:
        return seen
    known = _known(reader, [f"{name}{wanted.release.suffix}" for name in COMPILER_PACKAGES])
    installed = {name: found for name, found in known.items() if found.configured}
    return replace(
        seen,
        url=url,
        key_url=wanted.repository.key_url or posixpath.join(url, "3bf863cc.pub"),
        sources=sources.observe(reader, url),
        dgx_os=dgx_os(reader),
        packaged=bool(known),
        installed=installed,
        # Reading all their files takes a second: only when something is wrong.
        damaged=_damaged(reader, installed) if seen.look.proof.built is False else (),
    )


def _known(reader: Reader, names: list[str]) -> dict[str, packages.Installed]:
    """Those that it does not know are an error of dpkg-query, beside its answers about the others."""
    listing = reader.run([packages.DPKG_QUERY, "--show", f"--showformat={packages.FORMAT}", *names], timeout=30)
    installed, _provided = packages.parse_dpkg(listing.out)
    return {name: installed[name] for name in names if name in installed}


def _damaged(reader: Reader, names: Iterable[str]) -> tuple[str, ...]:
    """Packages with files that are not as they were installed."""
    found = {name: reader.run(["/usr/bin/dpkg", "--verify", name], timeout=60) for name in sorted(names)}
    return tuple(name for name, done in found.items() if done.out.strip())


def _secrets(params: Mapping[str, Any]) -> tuple[str, ...]:
    return params["index_url"], urlsplit(params["index_url"]).password or ""


def _kept(params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Where wheels come from says nothing about what they are, and may be a secret."""
    return {**params, "index_url": ""}


MODULE = Ensuring("cuda_toolchain", parse.ARGUMENT_SPEC, ensure_toolchain, _secrets, _kept)
