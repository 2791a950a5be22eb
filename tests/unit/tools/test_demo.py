# SPDX-License-Identifier: GPL-3.0-or-later
"""make demo says what it can do here and does no more than it says."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import yaml

TESTS = Path(__file__).resolve().parents[2]
PLACES = ("demo", "nodes", "tools", "integration/nodes")
SLEEP = [sys.executable, "-c", "import time; print('begun', flush=True); time.sleep(60)"]


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", [*(str(TESTS / name) for name in PLACES), *sys.path])
    module = importlib.import_module("demo")
    for name, place in (("PLACE", tmp_path), ("REPORT", tmp_path / "report.json")):
        monkeypatch.setattr(importlib.import_module("transcript"), name, place)
    return module


@pytest.fixture
def say(demo: ModuleType, tmp_path: Path) -> object:
    return demo.Transcript(tmp_path / "transcript.txt")


def test_the_inventory_declares_the_very_bytes_that_the_hub_has(demo: ModuleType, tmp_path: Path) -> None:
    node, hub = demo.node, importlib.import_module("hub")
    folder = node.hub(tmp_path / "hub")
    declared = yaml.safe_load((TESTS.parent / node.INVENTORY / "group_vars" / "spark.yml").read_text("utf-8"))
    (model,) = declared["models_manifest"]
    assert {**hub.Repository.of(folder, folder / node.REPOSITORY).manifest("tiny"), "licence": ""} == {
        **model,
        "licence": "",
    }
    assert declared["models_endpoint"].endswith(f":{node.HUB_PORT}")
    (engine,) = declared["llama_cpp_engines"]
    assert (f":{engine['port']}/" in node.URL, engine["name"]) == (True, node.MODEL)


@pytest.mark.parametrize(
    ("wanted", "missing", "chosen"),
    [("", [], "node"), ("here", [], "here"), ("here", ["x"], "here"), ("", ["x"], "here")],
)
def test_the_node_is_taken_where_it_can_run(
    demo: ModuleType, say: object, wanted: str, missing: list[str], chosen: str
) -> None:
    assert demo.form(wanted, missing, say) == chosen


def test_what_is_missing_is_named_with_the_line_that_installs_it(
    demo: ModuleType, say: object, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo.host, "_which", lambda tool: None if tool in ("podman", "runc") else "/bin/x")
    monkeypatch.setattr(demo.host, "DEBIAN_KEYRING", Path("/nonexistent"))
    monkeypatch.setattr(demo.host, "versions", lambda: {"mmdebstrap": "1.2"})
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(demo.Ended):
        demo.form("node", demo.host.doctor(), say)
    said = capsys.readouterr().out
    for what in ("podman (package podman)", "runc (package runc)", "mmdebstrap 1.3 or newer: this is 1.2", "root: "):
        assert f"missing for a simulated node: {what}" in said
    assert "to do: sudo apt-get install debian-archive-keyring podman runc, then sudo make demo" in said


def test_versions_are_those_that_tools_say(demo: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, says in (("podman", "podman version 3.4.4"), ("runc", "runc version 1.10.0-rc.1\nspec: 1.0.2")):
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{says}'\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr(demo.host, "_which", lambda tool: str(tmp_path / tool) if tool in ("podman", "runc") else None)
    demo.host.versions.cache_clear()
    try:
        assert demo.host.versions() == {"podman": "3.4.4", "runc": "1.10.0"}
        assert any("podman 4.3 or newer: this is 3.4.4" in line for line in demo.host.doctor())
        assert not any("runc 1.1 or newer" in line for line in demo.host.doctor())
    finally:
        demo.host.versions.cache_clear()


def test_a_command_that_fails_is_quoted_and_the_rest_is_in_the_file(demo: ModuleType, say: object) -> None:
    with pytest.raises(demo.Ended, match=r"python\S* ended with 3; its last words:\n(line\n){19}x{300}$"):
        say.run([sys.executable, "-c", "print('line\\n' * 50 + 'x' * 900); raise SystemExit(3)"], 60)
    assert "x" * 900 in say.path.read_text()
    assert say.run([sys.executable, "-c", "print('fine')"], 60) == "fine\n"


def test_a_command_that_hangs_is_ended(demo: ModuleType, say: object) -> None:
    begun = time.monotonic()
    with pytest.raises(demo.Ended, match="still running after 1 s"):
        say.run(SLEEP, 1)
    assert time.monotonic() - begun < 30


def test_a_run_that_is_killed_takes_its_command_along(demo: ModuleType, tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path[:0] = {[str(TESTS / 'demo')]!r}; import transcript; from pathlib import Path\n"
        f"transcript.Transcript(Path({str(tmp_path / 'said')!r})).run({SLEEP!r}, 60)"
    )
    run = subprocess.Popen([sys.executable, "-c", code])
    path = Path(f"/proc/{run.pid}/task/{run.pid}/children")
    wait_until(lambda: "begun" in (tmp_path / "said").read_text() if (tmp_path / "said").exists() else False)
    (child,) = path.read_text().split()
    run.send_signal(signal.SIGKILL)
    run.wait()
    wait_until(lambda: not Path(f"/proc/{child}/cmdline").exists() or not Path(f"/proc/{child}/cmdline").read_bytes())


def wait_until(true: object) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_key_in_what_is_left_is_an_error(demo: ModuleType, say: object, tmp_path: Path) -> None:
    (tmp_path / "drift").mkdir()
    (tmp_path / "drift" / "index.html").write_text("<p>open-sesame</p>")
    say.hold_back("another")
    with pytest.raises(demo.Ended, match=r"drift/index\.html"):
        say.hold_back("open-sesame")


def test_where_a_node_fails_the_other_form_is_named_and_the_run_is_no_success(
    demo: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_say: object) -> None:
        raise demo.host.NodesError("no cgroup for it")

    monkeypatch.setattr(demo, "ROOT", tmp_path)
    monkeypatch.setattr(demo, "PLACE", tmp_path)
    monkeypatch.setattr(demo.host, "doctor", list)
    monkeypatch.setattr(demo.node, "demo", fails)
    assert demo.run("") is False
    said = capsys.readouterr().out
    assert "no cgroup for it" in said and "demo.py --on here" in said


def test_two_at_once_do_not_write_the_same_folder(demo: ModuleType, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(demo, "PLACE", tmp_path)
    monkeypatch.setattr(demo, "REPORT", tmp_path / "report.json")
    monkeypatch.setattr(demo.node, "DRIFT", tmp_path / "drift")
    with demo.alone(), pytest.raises(demo.Ended, match="another demo runs"), demo.alone():
        pass


def test_with_sudo_everything_is_given_back_to_whose_clone_it_is(
    demo: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, tuple[int, int]] = {}
    (tmp_path / "drift").mkdir()
    transcript = importlib.import_module("transcript")
    monkeypatch.setattr(transcript, "ROOT", SimpleNamespace(stat=lambda: SimpleNamespace(st_uid=4711, st_gid=4712)))
    monkeypatch.setattr(os, "chown", lambda path, user, group, **_how: given.update({str(path): (user, group)}))
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    transcript.give_back()
    assert given == {}
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    transcript.give_back()
    assert given == dict.fromkeys(map(str, (tmp_path.parent, tmp_path, tmp_path / "drift")), (4711, 4712))
