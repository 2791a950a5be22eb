# SPDX-License-Identifier: GPL-3.0-or-later
"""The tools on the node as a subject of ``_core.entry``.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import partial
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import Action, Ensuring
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Step, one_line
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader, Writer
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.way import walk
from ansible_collections.nusy.dgx_spark.plugins.module_utils._launch.engines import LAUNCHERS
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import record
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.compose import Composed, Look
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import (
    Assertion,
    ControlSpec,
    Directory,
    File,
    Link,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._suite import model
from ansible_collections.nusy.dgx_spark.plugins.module_utils._suite.entry import PROBES
from ansible_collections.nusy.dgx_spark.plugins.module_utils._suite.model import Tools, digest_of, tools
from ansible_collections.nusy.dgx_spark.plugins.module_utils._suite.prove import Proof, prove_all
from ansible_collections.nusy.dgx_spark.plugins.module_utils._text.systemd import environment_text, parse_environment

HEAD = "# Made by role launchers from what was proven on this node; lines added by hand are drift.\n"
MODE = 0o755
FIXES = {
    model.DRIVER: "install the driver (DGX OS brings it), or take the name out of launchers_binaries",
    model.CUDA: "apply role cuda_toolchain, or correct the path in launchers_binaries",
    model.ENGINE: "apply role vllm_venv, or correct the path in launchers_binaries",
}


def ensure_launchers(params: Mapping[str, Any]) -> Composed:
    """Raises InputError."""
    wanted = tools(params)

    def look(reader: Reader) -> Look:
        proofs = prove_all(wanted, reader)
        actions: dict[str, Action] = {
            "write_suite": partial(write_suite, content=wanted.content),
            "remove_entry": remove_entry,
        }
        facts = {
            "paths": {
                name: {"path": wanted.binaries[name], "leads_to": proof.leads_to, "version": proof.version}
                for name, proof in proofs.items()
                if proof.state == "in_sync"
            }
        }
        return Look(tuple(_controls(wanted, proofs, reader)), actions, facts)

    return Composed(model.ROLE, model.CONTROLS, params, look)


def _controls(wanted: Tools, proofs: Mapping[str, Proof], reader: Reader) -> list[ControlSpec]:
    proven = {name: wanted.binaries[name] for name, proof in proofs.items() if proof.state == "in_sync"}
    unseen = {name: proof for name, proof in proofs.items() if proof.hidden}
    proven = dict(sorted({**proven, **_kept_lines(wanted, unseen, reader)}.items()))
    withdrawn = tuple(
        # Whose proof cannot be seen is not drifted by that: then it is the list that is to be changed.
        (line, _control_of(name) if proofs[name].state == "drifted" else model.PATHS)
        for name in proofs.keys() - proven.keys()
        for line in environment_text({name: wanted.binaries[name]}).splitlines()
    )
    found = [
        ControlSpec(
            control,
            assertions=tuple(
                _binary(name, wanted.binaries[name], proof, control)
                for name, proof in proofs.items()
                if _control_of(name) == control
            ),
        )
        for control in (model.DRIVER, model.CUDA, model.ENGINE)
    ]
    suite = _suite(wanted, reader)
    # What is not as it was made is not run: who changed it would run it as root.
    program = [_runs(wanted, reader)] if suite.state == "in_sync" else []
    links = [Link(f"{wanted.folder}/{name}", os.path.basename(wanted.suite)) for name in wanted.launchers]
    # Units of engines name them, whichever launcher they start.
    links += [Link(f"{wanted.folder}/{name}", os.path.basename(wanted.suite)) for name in PROBES]
    links += [Link(path, wanted.suite) for path in (wanted.state_tool, wanted.models_tool)]
    return [
        *found,
        # What follows from what is found says what was declared: when that one moves, the node did.
        ControlSpec(
            model.PATHS,
            files=(File(wanted.paths_file, HEAD + environment_text(proven), withdrawn=withdrawn),),
            assertions=tuple(
                _binary(name, wanted.binaries[name], proof, model.PATHS) for name, proof in unseen.items()
            ),
            inputs=json.dumps([wanted.paths_file, wanted.binaries, wanted.arch], sort_keys=True),
        ),
        ControlSpec(model.SUITE, directories=(Directory(wanted.folder),), assertions=(suite,)),
        ControlSpec(
            model.ENTRIES,
            links=tuple(links),
            assertions=(*_others(wanted, reader), *program),
            inputs=json.dumps([wanted.folder, wanted.state_tool, sorted(wanted.launchers)]),
        ),
    ]


def _control_of(name: str) -> str:
    return model.CONTROL_OF.get(name, model.ENGINE)


def _binary(name: str, path: str, proof: Proof, control: str) -> Assertion:
    reason = "" if proof.state == "in_sync" else f"{name} ({path}): {proof.said}"
    return Assertion(name, proof.state, f"{path}: {proof.said}", f"{path}: proven", reason, FIXES.get(control, ""))


def _kept_lines(wanted: Tools, unseen: Mapping[str, Proof], reader: Reader) -> dict[str, str]:
    """Lines of what who looks may not see: nobody's drift, and not proven either."""
    try:
        there = parse_environment(reader.read(wanted.paths_file) or "") if unseen else {}
    except Unreadable:
        return {}  # the file itself is unknown then
    return {name: wanted.binaries[name] for name in unseen if there.get(name) == wanted.binaries[name]}


def _suite(wanted: Tools, reader: Reader) -> Assertion:
    """Shown by its digest: nobody reads an archive."""
    name, expected = f"file {wanted.suite}", f"root:root {MODE:04o} {wanted.digest}"
    try:
        stat = reader.stat(wanted.suite)
        found = "absent" if stat is None else stat.kind
        if stat is not None and stat.kind == "file":
            owner = f"{reader.user_name(stat.uid)}:{reader.group_name(stat.gid)}"
            found = f"{owner} {stat.octal} {digest_of(reader.read(wanted.suite) or '')}"
    except Unreadable as error:
        return Assertion(name, "unknown", "", expected, str(error))
    write = Step("write_suite", wanted.suite)
    in_the_way = found in ("directory", "other")
    # What was there before this role was, or is no file, is somebody's: only when the operator names it.
    asked = stat is not None and (stat.kind != "file" or wanted.folder not in record.read(reader, model.ROLE).taken)
    return Assertion(
        name,
        "in_sync" if found == expected else "drifted",
        found,
        expected,
        steps=(Step("move_aside", wanted.suite), write) if in_the_way else (write,),
        victim=("path", wanted.suite) if asked else (),
    )


def _others(wanted: Tools, reader: Reader) -> tuple[Assertion, ...]:
    """Entries of ours that are not declared any more: what is not meant to be started here should not be there."""
    names = sorted(set(LAUNCHERS) - set(wanted.launchers))
    try:
        found = [name for name in names if reader.readlink(f"{wanted.folder}/{name}") == os.path.basename(wanted.suite)]
    except Unreadable as error:
        return (Assertion(f"links in {wanted.folder}", "unknown", "", "those that are declared", str(error)),)
    return tuple(
        Assertion(f"link {path}", "drifted", "present", "absent", steps=(Step("remove_entry", path),))
        for path in (f"{wanted.folder}/{name}" for name in found)
    )


def _runs(wanted: Tools, reader: Reader) -> Assertion:
    """With nothing in its environment but a hostile PATH: it must need neither. Not what others than root chose."""
    name = f"program {wanted.state_tool}"
    try:
        ways = {path: walk(path, reader) for path in (wanted.state_tool, wanted.python)}
    except Unreadable as error:
        return Assertion(name, "unknown", "", "runs", str(error))
    for path, way in ways.items():
        if way.decides:
            found = f"not only root decides what {path} is, by {way.by}"
            fix = "use a launchers_folder and a launchers_python that only root can change: root runs them"
            return Assertion(name, "drifted", found, "runs, and is root's alone", found, fix)
    env = {"PATH": "/nonexistent", "PYTHONHOME": "/nonexistent", "PYTHONPATH": "/nonexistent"}
    done = reader.run([wanted.state_tool, "--version"], timeout=wanted.timeout, env=env)
    return Assertion(
        name,
        "in_sync" if done.ok else "drifted",
        "runs" if done.ok else one_line(f"{done.ending}: {done.said(1)}"),
        "runs",
        fix="see whether launchers_python is a Python 3.10 or newer",
    )


def write_suite(step: Step, _reader: Reader, writer: Writer, *, content: str) -> None:
    writer.write(step.target, content, mode=MODE, uid=0, gid=0)


def remove_entry(step: Step, _reader: Reader, writer: Writer) -> None:
    writer.remove(step.target)


def _kept(params: Mapping[str, Any]) -> Mapping[str, Any]:
    """The archive is on the node; its digest is enough to judge it."""
    return {**params, "suite": tools(params).digest}


MODULE = Ensuring("launchers", model.ARGUMENT_SPEC, ensure_launchers, kept=_kept, made={"suite": "sha256:"})
