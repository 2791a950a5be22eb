# SPDX-License-Identifier: GPL-3.0-or-later
"""Declared engines as endpoints that can be asked.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils import engines
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.documents import environment
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.variables import Variables

# Who listens on all addresses is asked on the one that stays.
_ALL = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_TLS = {"certificate": "server_certificate", "client_certificate": "certificate", "client_key": "private_key"}


def published(
    owners: Mapping[str, Path], host: Variables, loader: DataLoader, templar: Templar
) -> Iterator[dict[str, Any]]:
    """As ``endpoints_probe`` takes them; not those that are declared not to run.

    Raises InputError for what is no engine, and AnsibleError for what cannot be computed.
    """
    for folder, said in engines.declaring(owners, host, loader):
        given = environment(folder, host, loader, templar).template(host.written[said["variable"]])
        for one in _engines(given, said["variable"]):
            name = str(said["unit"]).format(name=one["name"]).removesuffix(".service")
            yield _endpoint(name, one, said["served"])


def _engines(given: object, variable: str) -> Iterator[Mapping[str, Any]]:
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Sequence):
        raise _wrong(variable, "a list", type(given).__name__)
    for number, one in enumerate(given):
        if not isinstance(one, Mapping) or not {"name", "port"} <= set(one):
            raise _wrong(f"{variable}[{number}]", "a mapping with name and port", type(one).__name__)
        if boolean(one.get("enabled", True), strict=False):
            yield one


def _endpoint(name: str, engine: Mapping[str, Any], served: str) -> dict[str, Any]:
    host = str(engine.get("host") or "127.0.0.1")
    host = _ALL.get(host, host)
    # Words without a file are none, as its role has it.
    said = engine.get("tls") or {}
    if not isinstance(said, Mapping):
        raise _wrong(f"{name}.tls", "a mapping", type(said).__name__)
    tls = {word: path for word, path in said.items() if path}
    url = f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{engine['port']}/v1"
    found = {"name": name, "url": url, "model": engine.get(served) or engine["name"]}
    if engine.get("api_key"):
        found["api_key"] = engine["api_key"]
    return {**found, **{option: tls[word] for word, option in _TLS.items() if word in tls}}


def _wrong(at: str, wanted: str, found: str) -> InputError:
    return InputError(
        "probe.bad_engines",
        wanted=f"{at}: {wanted}",
        found=found,
        why="nobody would ask that engine",
        fix=f"correct {at}",
    )
