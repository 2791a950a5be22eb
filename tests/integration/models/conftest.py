# SPDX-License-Identifier: GPL-3.0-or-later
"""A hub on loopback, the real client, and a place for models: everything but a node."""

from __future__ import annotations

import os
import random
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import converge
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Control, Plan
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import HostReader, HostWriter
from ansible_collections.nusy.dgx_spark.plugins.module_utils._models.model import ARGUMENT_SPEC, wish
from ansible_collections.nusy.dgx_spark.plugins.module_utils._models.subject import EnsureModels
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import record

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests" / "tools"))

import hub_client
from hub import Hub

# Of the weights, all alike.
SIZE = 4 << 20


@pytest.fixture(scope="session")
def client() -> str:
    return hub_client.python()


def options(**given: Any) -> dict[str, Any]:
    """As Ansible completes them."""
    spec: dict[str, Any] = ARGUMENT_SPEC
    return {**{name: option.get("default") for name, option in spec.items()}, **given}


@dataclass
class Bench:
    """One node's place for models. ``apply`` is a real run, with its proof that a second one has nothing to do."""

    place: Path
    hub: Hub
    python: str
    given: dict[str, Any] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return self.place / "models"

    def manifest(self, name: str = "tiny", repository: str = "acme/tiny", **changes: Any) -> dict[str, Any]:
        """``repository`` is what the entry is made from."""
        return {"gated": False, "quantisation": "", **self.hub.repositories[repository].manifest(name), **changes}

    def params(self, *models: dict[str, Any], **given: Any) -> dict[str, Any]:
        chosen = {
            "models": [*models] or [self.manifest()], "root": str(self.root), "owner": "root", "python": self.python,
            "endpoint": self.hub.url, "reserve_gib": 0, **self.given, **given,
        }  # fmt: skip
        return options(**chosen)

    def subject(self, *models: dict[str, Any], **given: Any) -> EnsureModels:
        params = self.params(*models, **given)
        # Nobody waits for seconds in a test.
        return EnsureModels(replace(wish(params), delays=(0.05, 0.05)), params)

    def check(self, *models: dict[str, Any], **given: Any) -> Plan:
        return self.subject(*models, **given).plan(HostReader())

    def apply(self, *models: dict[str, Any], **given: Any) -> Plan:
        subject, reader = self.subject(*models, **given), HostReader()
        return converge(subject, subject.plan(reader), reader, HostWriter())

    @property
    def folder(self) -> Path:
        return self.root / "tiny" / self.hub.repositories["acme/tiny"].commit


def states(plan: Plan) -> dict[str, str]:
    """What is not in sync."""
    return {c.id: c.state for c in plan.controls if c.state not in ("in_sync", "not_selected")}


def control(plan: Plan, name: str) -> Control:
    return next(c for c in plan.controls if c.id == f"models/{name}")


def snapshot(plan: Plan) -> dict[str, Any]:
    """What is told of the only model."""
    found: Any = plan.facts["snapshots"]
    (one,) = found
    return one


@pytest.fixture
def repositories(tmp_path: Path) -> Path:
    """Small files that are none of the hub's large ones, a nested one, an empty one, and weights."""
    rng = random.Random(5)
    for name, extra in (("acme/tiny", b""), ("acme/next", b"2"), ("acme/closed", b"3")):
        folder = tmp_path / "hub" / name
        (folder / "original").mkdir(parents=True)
        (folder / "config.json").write_bytes(b'{"model_type": "llama"}' + extra)
        (folder / "original" / "params.json").write_bytes(b"{}")
        # A list for rsync takes that for a remark.
        (folder / "#empty.txt").write_bytes(b"")
        if not (tmp_path / "weights").exists():
            (tmp_path / "weights").write_bytes(rng.randbytes(SIZE))
        (folder / "model.safetensors").write_bytes((tmp_path / "weights").read_bytes())
    return tmp_path / "hub"


@pytest.fixture
def bench(repositories: Path, client: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    with (
        tempfile.TemporaryDirectory(dir="/var/tmp", ignore_cleanup_errors=True) as name,
        Hub(repositories, gated=frozenset({"acme/closed"}), token="hf_right_token") as hub,
    ):
        place = Path(name)
        place.chmod(0o755)
        monkeypatch.setattr(record, "FOLDER", str(place / "applied"))
        monkeypatch.setattr(record, "KEY", str(place / "applied" / ".key"))
        monkeypatch.setattr(os, "sync", lambda: None)  # of a whole machine that others keep busy
        yield Bench(place, hub, client)
