# SPDX-License-Identifier: GPL-3.0-or-later
"""``spark-models``: what is on disk against the manifest, for somebody at the console. It only looks.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core import declared as declarations
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import SparkError, Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import one_line
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import HostReader, Reader
from ansible_collections.nusy.dgx_spark.plugins.module_utils._launch.options import Parser, say
from ansible_collections.nusy.dgx_spark.plugins.module_utils._models.model import ARGUMENT_SPEC, ROLE, Wish, wish
from ansible_collections.nusy.dgx_spark.plugins.module_utils._models.observe import Seen, look
from ansible_collections.nusy.dgx_spark.plugins.module_utils._models.observe import unused as not_named
from ansible_collections.nusy.dgx_spark.plugins.module_utils._models.plan import readable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._models.store import Snapshot, read_label

SCHEMA = "nusy.dgx_spark.models/1"


def main(words: Sequence[str]) -> int:
    """0 all as declared, 2 something is not, 3 something could not be seen and nothing is wrong, 64 usage."""
    parser = Parser("spark-models", "Compare the models on this node with their manifest. Changes nothing.")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--everything", action="store_true", help="read every byte, whatever the inodes tell")
    parser.add_argument("--root", default="", help="where models are, if no manifest says so")
    given = parser.parse_args(list(words))
    if given.root and not given.root.startswith("/"):
        parser.error(f"--root {given.root!r} is no absolute path")
    found = report(HostReader(), everything=given.everything, root=given.root)
    if given.json:
        say(json.dumps(found, indent=1))
    else:
        _print(found)
    states = [model["state"] for model in found["models"]]
    return 2 if "FAIL" in states else 3 if "UNKNOWN" in states or found["unseen"] else 0


def report(reader: Reader, *, everything: bool = False, root: str = "") -> dict[str, Any]:
    """``unseen``: why not everything could be told."""
    wanted, unseen = _declared(reader)
    if root:
        wanted = replace(wanted, root=root)
    document: dict[str, Any] = {
        "schema": SCHEMA, "host": os.uname().nodename, "root": wanted.root, "unseen": unseen, "free": None,
        "models": [], "unused": [], "others": [],
    }  # fmt: skip
    try:
        seen = look(replace(wanted, everything=everything), reader)
    except SparkError as error:
        document["unseen"] = "; ".join(filter(None, (unseen, one_line(error.problem.found))))
        document["models"] = [{**model.label(), "state": "UNKNOWN", "size": model.size} for model in wanted.models]
        return document
    document["free"] = seen.free
    document["models"] = [
        {**model.label(), "path": wanted.folder(model), "size": model.size, "missing": missing, **_verdict(found)}
        for model, found, missing in zip(wanted.models, seen.snapshots, seen.missing, strict=True)
    ]
    unused = [] if unseen else not_named(wanted, seen.stored)
    document["unused"] = [{"path": one.path, "size": one.size} for one in unused]
    document["others"] = [one.path for one in seen.stored if one.kind == "somebody's"]
    if unseen:
        document["models"] = _labelled(seen)
    return document


def _declared(reader: Reader) -> tuple[Wish, str]:
    """What the last run declared, or the defaults and why it is not known."""
    nothing = wish({name: option.get("default") for name, option in ARGUMENT_SPEC.items()})
    try:
        kept = next((one for one in declarations.find(reader) if one.name == ROLE), None)
    except Unreadable as error:
        return nothing, str(error) if reader.is_root() else "the manifest is for root: run it with sudo"
    if kept is None:
        return nothing, "role models was never applied to this node"
    if kept.declared is None:
        return nothing, kept.problem
    try:
        return wish(kept.declared.params), ""
    except (SparkError, KeyError) as error:
        return nothing, one_line(f"the manifest is of another release: {error}")


def _verdict(found: Snapshot) -> dict[str, Any]:
    problems = [f"{path}: {how}" for path, how in found.wrong.items()]
    problems += [f"{path}: extra" for path in found.extra]
    problems += [f"{path}: open to changes" for path in found.open]
    problems += [f"{path}: of somebody else" for path in found.strangers]
    if found.state != "there":
        problems = [found.state]
    elif not found.labelled:
        problems.append("no label of this declaration")
    return {"state": "PASS" if found.whole else "FAIL", "problems": problems}


def _labelled(seen: Seen) -> list[dict[str, Any]]:
    """What calls itself a snapshot. Whether it should be there, nobody knows."""
    models: list[dict[str, Any]] = []
    for one in seen.stored:
        label = read_label(one.path) if one.kind == "snapshot" else None
        if label:
            about = {name: label.get(name) for name in ("name", "repository", "revision", "licence", "quantisation")}
            models.append({**about, "path": one.path, "size": one.size, "state": "UNKNOWN", "problems": []})
    return models


def _print(found: dict[str, Any]) -> None:
    for model in found["models"]:
        say(f"{model['state']:<8}{model['name']}  {str(model['revision'])[:12]}  {readable(model['size'])}"
            f"  {model['repository']}  {model['licence']}")  # fmt: skip
        for problem in model.get("problems", ()):
            say(f"        {one_line(problem, 200)}")
    for one in found["unused"]:
        say(f"UNUSED  {one['path']}  {readable(one['size'])}")
    for path in found["others"]:
        say(f"OTHERS  {path}")
    unused = sum(one["size"] for one in found["unused"])
    free = "not known" if found["free"] is None else readable(found["free"])
    say(f"{found['root']}: {free} free" + (f", {readable(unused)} unused" if unused else ""))
    if found["unseen"]:
        say(f"Not seen: {found['unseen']}")
    if any(model["state"] == "FAIL" for model in found["models"]):
        say("Repair: run the playbook of this site again from its controller; this program changes nothing.")
