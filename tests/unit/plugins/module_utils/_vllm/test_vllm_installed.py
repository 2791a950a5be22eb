# SPDX-License-Identifier: GPL-3.0-or-later
"""Which options the vLLM of a node takes by its own word, and what follows for the engines of the node."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import HostReader, HostWriter
from ansible_collections.nusy.dgx_spark.plugins.module_utils._vllm import installed, subject
from ansible_collections.nusy.dgx_spark.plugins.module_utils._vllm.help import Option
from test_vllm_help import HELP

LEAST = {"name": "main", "model": "/srv/models/m/abc", "port": 8000}
TAKES = {"max-num-batched-tokens": Option("value"), "swap-space": Option("value")}


class Node:
    """A folder with an environment, whose vLLM counts how often it is asked."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked = folder, folder / "asked"
        self.program, self.info = folder / "venv/bin/vllm", folder / "venv/lib/python3.12/site-packages"
        self.program.parent.mkdir(parents=True)
        self.help(HELP)
        self.release("0.27.1")
        (folder / "paths.env").write_text(f'VLLM_BIN="{self.program}"\n')

    def help(self, text: str, code: int = 0) -> None:
        told = self.folder / "help"
        told.write_text(text)
        self.program.write_text(
            f'#!/bin/sh\nprintf x >> {self.asked}\necho "$COLUMNS $*" > {self.folder}/words\ncat {told}\nexit {code}\n'
        )
        self.program.chmod(0o755)

    def release(self, name: str, record: str = "vllm/a.py,,\n") -> None:
        for old in self.info.glob("vllm-*"):
            (old / "RECORD").unlink()
            old.rmdir()
        place = self.info / f"vllm-{name}.dist-info"
        place.mkdir(parents=True)
        (place / "RECORD").write_text(record)

    def times(self) -> int:
        return len(self.asked.read_text()) if self.asked.exists() else 0

    def find(self) -> installed.Installed:
        return installed.find(HostReader())


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    monkeypatch.setattr(installed, "PATHS", str(tmp_path / "paths.env"))
    monkeypatch.setattr(installed, "STATE", str(tmp_path))
    monkeypatch.setattr(installed, "NOTE", str(tmp_path / "options.json"))
    # The folder of a test belongs to who runs it, below one that everybody may write to.
    monkeypatch.setattr(installed, "distrust", lambda _reader, _place: "")
    monkeypatch.setattr(installed, "look", lambda _paths, question, _seconds: Answer(question()))
    return Node(tmp_path)


class Answer:
    def __init__(self, value: Any) -> None:
        self.value = json.loads(json.dumps(value))


def noted(node: Node) -> installed.Installed:
    found = node.find()

    class Writer(HostWriter):
        def write(self, path: str, content: str, *, mode: int, **_owner: int) -> None:
            super().write(path, content, mode=mode, uid=os.getuid(), gid=os.getgid())

    installed.keep(found, Writer())
    return found


def test_it_is_asked_by_its_own_word_and_once(node: Node) -> None:
    first = noted(node)
    assert (first.release, first.noted, first.unknown) == ("0.27.1", False, "")
    assert first.options is not None and first.options["dtype"] == Option("value", ("auto", "bfloat16", "half"))
    assert (node.folder / "words").read_text() == "80 serve --help=all\n"
    second = node.find()
    assert (second.noted, second.options, node.times()) == (True, first.options, 1)


@pytest.mark.parametrize("change", ["release", "record", "program", "note", "options"])
def test_what_changed_is_asked_again(node: Node, change: str) -> None:
    noted(node)
    note = node.folder / "options.json"
    if change == "release":
        node.release("0.28.0+cu130")
    elif change == "record":
        node.release("0.27.1", "vllm/a.py,sha256=other,\n")
    elif change == "program":
        node.program.write_text(node.program.read_text() + "# another\n")
    elif change == "note":
        note.write_text("[]")
    else:
        note.write_text(json.dumps({**json.loads(note.read_text()), "options": {"dtype": "sometimes"}}))
    found = node.find()
    assert (found.noted, node.times()) == (False, 2)
    assert found.release == ("0.28.0" if change == "release" else "0.27.1")


def test_what_others_than_root_could_have_noted_is_not_believed(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    noted(node)
    monkeypatch.setattr(installed, "distrust", lambda _reader, _place: "somebody may write there")
    assert not node.find().noted


def test_to_be_asked_leaves_nothing_beside_what_is_imported(node: Node) -> None:
    (node.info / "imported.py").write_text(f"TEXT = {HELP!r}\n")
    reach = f"import sys\nsys.path.insert(0, {str(node.info)!r})\n"
    node.program.write_text(f"#!{sys.executable}\n{reach}import imported\nprint(imported.TEXT)\n")
    assert node.find().options
    assert not (node.info / "__pycache__").exists()


def test_what_cannot_be_told_is_unknown_and_says_why(node: Node) -> None:
    node.help("RuntimeError: no platform", 1)
    found = node.find()
    assert (found.release, found.options) == ("0.27.1", None) and "no platform" in found.unknown
    node.help("usage: something else")
    assert "--help=all" in node.find().unknown
    node.release("0.27.1")
    (node.info / "vllm-0.28.0.dist-info").mkdir()
    assert "or several" in node.find().unknown
    node.program.unlink()
    assert "role vllm_venv makes it" in node.find().unknown
    (node.folder / "paths.env").unlink()
    assert "no vLLM is proven on this node" in node.find().unknown


def judged(found: installed.Installed, *engines: dict[str, Any]) -> Any:
    declared = [subject._engine(one, TAKES, "0.27.1") for one in engines]
    return subject._judged(engines, declared, "0.27.1", found)


def states(one: Any) -> dict[str, str]:
    return {assertion.name: assertion.state for assertion in one.control.assertions}


def test_the_declared_release_that_is_noted_is_in_sync_and_decides_how_words_are_written() -> None:
    own = {"max-num-batched-tokens": Option("values")}
    found = judged(installed.Installed("0.27.1", own, noted=True), LEAST)
    assert states(found) == {"release": "in_sync"}
    assert judged(installed.Installed("0.27.1", own), LEAST).control.assertions[-1].steps == (installed.step(),)


def test_an_option_that_only_the_declared_release_takes_is_refused_by_its_name() -> None:
    engine = {**LEAST, "options": {"swap_space": 4}}
    found = judged(installed.Installed("0.28.0", {"max-num-batched-tokens": Option("value")}, noted=True), engine)
    assert states(found)["release"] == "drifted"
    refused = found.control.assertions[-1]
    assert refused.refused and "an option of vLLM 0.28.0" in refused.reason and "--swap-space" in refused.reason
    # Engines are told as they were declared: what is refused changes nothing.
    assert "--swap-space 4" in " ".join(found.engines[0].words)


def test_without_its_word_the_declared_release_is_what_counts_and_nothing_is_called_fine() -> None:
    found = judged(installed.Installed(unknown="no vLLM is proven"), LEAST)
    assert states(found) == {"word": "unknown"}
    assert "engines are held against what vLLM 0.27.1 takes" in found.control.assertions[0].reason
    assert states(judged(installed.Installed("0.28.0", unknown="x"), LEAST)) == {
        "release": "drifted",
        "word": "unknown",
    }


def test_a_control_that_is_skipped_starts_no_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    judges: list[Any] = []
    monkeypatch.setattr(subject, "ensure_engines", lambda *given: judges.append(given[-1]))
    params = {"presets": {}, "options": {}, "release": "0.27.1", "user": "nusy", "writes": [], "engines": []}
    subject.ensure_vllm({**params, "skip_controls": ["vllm/options"]})
    assert judges[0](None).control.asks_nothing
