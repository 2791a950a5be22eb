# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's NVIDIA stack as a subject of ``_core.entry``.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._apt import keys
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import Action, Ensuring
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader
from ansible_collections.nusy.dgx_spark.plugins.module_utils._nvidia import (
    absent,
    arch,
    containers,
    declare,
    docker,
    pacman,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._nvidia.look import FactsOf, gathered, look, system_of
from ansible_collections.nusy.dgx_spark.plugins.module_utils._nvidia.model import (
    ARCH,
    CONTROLS,
    DOCKER,
    EXTRA,
    GPU,
    GROUP,
    HOLDS,
    KEY,
    LEGACY,
    PODMAN,
    ROLE,
    Seen,
    Wanted,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._nvidia.parse import ARGUMENT_SPEC, wanted
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.compose import Composed, Look
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import ControlSpec, Unknown

NOTHING = (
    "this machine has no NVIDIA GPU on its PCI bus and no NVIDIA package; "
    "if it is to have none, declare that (spark_gpu: none)"
)
HAS_ONE = "a GPU is declared, and nvidia_toolkit/smi says whether it answers"


def ensure_stack(params: Mapping[str, Any], facts_of: FactsOf = gathered) -> Composed:
    """Raises InputError. ``facts_of``: how the facts are gathered, for tests."""
    declaration = wanted(params)
    if absent.none_declared(params):
        return Composed(ROLE, CONTROLS, params, without_gpu)
    return Composed(ROLE, CONTROLS, params, lambda reader: examined(declaration, reader, facts_of))


def without_gpu(reader: Reader) -> Look:
    found = absent.seen(reader)
    rest = absent.nothing([name for name in CONTROLS if name != GPU], found)
    return replace(rest, controls=(absent.judged(GPU, found), *rest.controls))


def examined(declaration: Wanted, reader: Reader, facts_of: FactsOf = gathered) -> Look:
    system = system_of(reader)
    seen = look(declaration, system if isinstance(system, str) else "", reader, facts_of)
    if not seen.has_any(declaration):
        # Nothing is refused where there is nothing to ensure.
        judged = [name for name in CONTROLS if name not in (EXTRA, GPU, KEY)]
        return Look(
            tuple(declare.unknown(name, "NVIDIA stack", NOTHING) for name in judged),
            left_out={GPU: HAS_ONE, KEY: NOTHING, EXTRA: NOTHING},
            facts=_facts(seen),
        )
    if isinstance(system, Unknown):
        return Look(unsupported=system.reason)
    actions: Mapping[str, Action] = {
        "write_key": partial(
            keys.write_key, fingerprint=declaration.fingerprint, key=declaration.key, key_url=declaration.key_url
        ),
        "set_cdi_variable": containers.set_variable,
        "refresh_cdi": docker.restart,
        "merge_daemon_json": docker.merge,
        "restart_docker": docker.restart,
        "install_by_pacman": pacman.install,
        "generate_cdi": arch.generate,
        "enable_unit_that_came": arch.enable,
    }
    left_out = {
        GPU: HAS_ONE,
        KEY: "no source of this role is declared on this node",
        EXTRA: "no file of this role is declared on this node",
        PODMAN: "podman is not installed",
        DOCKER: "Docker is not installed",
        LEGACY: "Docker is not installed",
        GROUP: "nobody is declared (nvidia_toolkit_docker_users)",
        HOLDS: "nothing is declared (nvidia_toolkit_holds)",
    }
    return Look(tuple(controls(declaration, seen)), actions, _facts(seen), left_out)


def controls(declaration: Wanted, seen: Seen) -> list[ControlSpec]:
    if seen.system == ARCH:
        found = [
            arch.sources(seen),
            arch.driver(declaration, seen),
            arch.kernels(declaration, seen),
            arch.persistence(declaration, seen),
            arch.cdi(declaration, seen),
            arch.toolkit(declaration, seen),
        ]
    else:
        found = [
            *declare.key_and_sources(declaration, seen),
            declare.driver(declaration, seen),
            declare.kernels(declaration, seen),
            declare.persistence(declaration, seen),
            containers.toolkit(declaration, seen),
            containers.cdi(declaration, seen),
        ]
    found += [declare.match(seen), declare.versions(declaration, seen), declare.smi(seen)]
    if "podman" in seen.installed:
        found.append(containers.podman(seen))
    if seen.docker.installed:
        found += [containers.docker_runtime(seen), containers.docker_legacy(seen)]
    if declaration.docker_users:
        found.append(containers.docker_group(declaration, seen))
    if declaration.holds:
        found.append(arch.holds(declaration) if seen.system == ARCH else declare.holds(declaration, seen))
    given = (declaration.expected, declaration.docker_users, declaration.holds)
    # What follows from the look is no declaration: when it changes the node has moved.
    return [control if control.inputs else declare.declared(control, *given) for control in found]


def _facts(seen: Seen) -> Mapping[str, object]:
    """Of the gate, for who is about to reboot."""
    if isinstance(seen.next, Unknown):
        gate: dict[str, object] = {"release": None, "gaps": None, "problem": seen.next.reason}
    else:
        gate = {"release": seen.next.release, "gaps": list(seen.next.gaps), "problem": ""}
    return {"driver": seen.driver, "next_kernel": {**gate, "audit": seen.audit}}


MODULE = Ensuring("nvidia_toolkit", ARGUMENT_SPEC, ensure_stack)
