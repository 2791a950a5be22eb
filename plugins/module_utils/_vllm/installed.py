# SPDX-License-Identifier: GPL-3.0-or-later
"""The vLLM that a node has: which release it is, and which options it takes by its own word.

Its word costs seconds, since ``vllm serve --help=all`` imports half of it. So it is noted, with a digest of what was
asked, and asked again when that is another one.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.declared import STATE
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError, ParseError, Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Step, one_line
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.rights import look
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader, Writer
from ansible_collections.nusy.dgx_spark.plugins.module_utils._launch.site import PATHS
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.record import distrust
from ansible_collections.nusy.dgx_spark.plugins.module_utils._text.systemd import parse_environment
from ansible_collections.nusy.dgx_spark.plugins.module_utils._vllm.help import Options, as_data, from_data, parse

NOTE = f"{STATE}/vllm-options.json"
# Torch alone takes many seconds to import from a cold disk.
ASK_SECONDS = 180.0
_DISTRIBUTION, _INFO = "vllm-", ".dist-info"


@dataclass(frozen=True)
class Installed:
    """release: empty where there is none that can be seen, and ``unknown`` says why. options: by its own word, None
    where it did not give it. key: digest of what was asked. noted: this is what the node has noted.
    """

    release: str = ""
    options: Options | None = None
    unknown: str = ""
    key: str = field(default="", repr=False)
    noted: bool = False


def find(reader: Reader) -> Installed:
    """With the rights of who owns the environment: what is in it is read and run."""
    try:
        program = parse_environment(reader.read(PATHS) or "").get("VLLM_BIN", "")
        if not program.startswith("/"):
            return Installed(unknown=f"no vLLM is proven on this node: {PATHS} names none (role launchers)")
        note = _noted(reader)
        places = [program, f"{_root(program)}/lib"]
        seen: Mapping[str, Any] = look(places, lambda: _seen(program, note.key, reader), ASK_SECONDS + 30).value
    except (Unreadable, NodeError) as error:
        return Installed(unknown=one_line(str(error)))
    release, key = str(seen["release"]), str(seen["key"])
    if note.key and key == note.key:
        return Installed(release, note.options, key=key, noted=True)
    if seen["problem"]:
        return Installed(release, unknown=one_line(str(seen["problem"])), key=key)
    return Installed(release, from_data(seen["options"]), key=key)


def keep(found: Installed, writer: Writer) -> None:
    """Beside what is declared, whose folder every real run makes first."""
    note = {"release": found.release, "key": found.key, "options": as_data(found.options or {})}
    writer.write(NOTE, json.dumps(note, indent=1) + "\n", mode=0o644, uid=0, gid=0)


def step() -> Step:
    return Step("note_options", NOTE)


def _noted(reader: Reader) -> Installed:
    """Nothing where others than root could have written it, or it is no such note: then vLLM is asked again."""
    try:
        note = {} if distrust(reader, STATE) else json.loads(reader.read(NOTE) or "{}")
        return Installed(note["release"], from_data(note["options"]), key=str(note["key"]))
    except (Unreadable, ValueError, KeyError, TypeError, AttributeError):
        return Installed()


def _root(program: str) -> str:
    return os.path.dirname(os.path.dirname(program))


def _seen(program: str, known: str, reader: Reader) -> dict[str, object]:
    """As JSON: this is another process."""
    nothing: dict[str, object] = {"release": "", "key": "", "problem": "", "options": {}}
    text = reader.read(program)
    if text is None:
        return {**nothing, "problem": f"there is no {program}: role vllm_venv makes it"}
    release, record = _distribution(_root(program), reader)
    if not release:
        return {**nothing, "problem": f"{_root(program)} holds no package vllm, or several: role vllm_venv mends it"}
    key = hashlib.sha256("\0".join((program, text, release, record)).encode("utf-8", "surrogateescape")).hexdigest()
    found: dict[str, object] = {**nothing, "release": release, "key": key}
    if key == known:
        return found
    try:
        return {**found, "options": as_data(parse(_ask(program, reader)))}
    except (NodeError, ParseError) as error:
        return {**found, "problem": str(error)}


def _distribution(root: str, reader: Reader) -> tuple[str, str]:
    """(release, what its files are) of the one vLLM in it, which a build may say more of after a +."""
    pythons = [name for name in reader.listdir(f"{root}/lib") or () if name.startswith("python3")]
    places = [f"{root}/lib/{name}/site-packages" for name in pythons]
    found = [
        f"{place}/{name}"
        for place in places
        for name in reader.listdir(place) or ()
        if name.startswith(_DISTRIBUTION) and name.endswith(_INFO)
    ]
    if len(found) != 1:
        return "", ""
    release = os.path.basename(found[0])[len(_DISTRIBUTION) : -len(_INFO)].partition("+")[0]
    return release, reader.read(f"{found[0]}/RECORD") or ""


def _ask(program: str, reader: Reader) -> str:
    """It leaves nothing: what an import writes goes into a folder that is removed."""
    with tempfile.TemporaryDirectory(prefix="vllm_options.", ignore_cleanup_errors=True) as scratch:
        env = {
            **{"HOME": scratch, "TMPDIR": scratch, "XDG_CACHE_HOME": scratch, "XDG_CONFIG_HOME": scratch},
            **{"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", "LANG": "C.UTF-8", "COLUMNS": "80"},
            # It runs as who may write beside what it imports.
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        done = reader.run([program, "serve", "--help=all"], timeout=ASK_SECONDS, env=env)
    if not done.ok:
        raise NodeError(
            "vllm.silent",
            wanted="the options of the vLLM that is installed",
            found=f"{program} serve --help=all {done.ending}: {done.said(1)}",
            why="nothing can be held against what it really takes",
            fix="run that by hand as the owner of the environment, and mend what it says (role vllm_venv)",
        )
    return done.out
