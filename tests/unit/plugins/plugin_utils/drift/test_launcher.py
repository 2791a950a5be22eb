# SPDX-License-Identifier: GPL-3.0-or-later
"""The wrapper's arguments, environment and exit codes."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift import launcher, places, process, refusal


def environment(folder: Path, **outer: str) -> dict[str, str]:
    return launcher.environment(folder / "drift", outer)


def test_from_elsewhere_everything_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    env = environment(tmp_path)
    assert env["ANSIBLE_CONFIG"] == str(places.ROOT / "ansible.cfg")
    first, *others = env["ANSIBLE_COLLECTIONS_PATH"].split(":")
    assert Path(first, "ansible_collections/nusy/dgx_spark/galaxy.yml").exists()
    assert all(Path(path).is_absolute() for path in others)
    assert env["ANSIBLE_CALLBACKS_ENABLED"] == launcher.CALLBACK
    for name in ("ANSIBLE_HOME", "ANSIBLE_LOCAL_TEMP"):
        assert env[name].startswith(str(tmp_path / "drift")), name


def test_a_site_with_its_own_settings_keeps_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ansible.cfg").write_text("[defaults]\ncollections_path = mine:/abs%x\n")
    monkeypatch.chdir(tmp_path)
    env = environment(tmp_path, ANSIBLE_CALLBACKS_ENABLED="timer,nusy.dgx_spark.drift", ANSIBLE_HOME="/theirs")
    assert env["ANSIBLE_CONFIG"] == str(tmp_path / "ansible.cfg")
    assert env["ANSIBLE_COLLECTIONS_PATH"].split(":")[1:] == [str(tmp_path / "mine"), "/abs%x"]
    assert env["ANSIBLE_CALLBACKS_ENABLED"] == "timer,nusy.dgx_spark.drift"
    assert env["ANSIBLE_HOME"] == "/theirs"


def test_what_the_report_depends_on_cannot_be_overruled(tmp_path: Path) -> None:
    env = environment(tmp_path, SPARK_DRIFT_ENABLED="false", SPARK_DRIFT_DIR="/x", ANSIBLE_STDOUT_CALLBACK="oneline")
    assert env["SPARK_DRIFT_ENABLED"] == "true"
    assert env["SPARK_DRIFT_DIR"] == str(tmp_path / "drift")
    assert env["ANSIBLE_STDOUT_CALLBACK"] == "default"


def test_a_broken_ansible_cfg_is_left_to_ansible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ansible.cfg").write_bytes(b"\xff no section")
    monkeypatch.chdir(tmp_path)
    assert environment(tmp_path)["ANSIBLE_CONFIG"] == str(tmp_path / "ansible.cfg")


def test_a_file_that_everybody_could_have_put_there_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As with ansible-playbook itself."""
    (tmp_path / "ansible.cfg").write_text("[defaults]\ncallback_plugins = plugins\n")
    monkeypatch.chdir(tmp_path)
    tmp_path.chmod(0o1777)
    assert environment(tmp_path)["ANSIBLE_CONFIG"] == str(places.ROOT / "ansible.cfg")
    assert f"{tmp_path}/ansible.cfg does not count" in capsys.readouterr().err
    named = environment(tmp_path, ANSIBLE_CONFIG="ansible.cfg")
    assert named["ANSIBLE_CONFIG"] == str(tmp_path / "ansible.cfg")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("link", [False, True])
def test_settings_of_somebody_else_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, link: bool) -> None:
    config = tmp_path / "ansible.cfg"
    config.symlink_to(places.ROOT / "ansible.cfg") if link else config.write_text("[defaults]\n")
    monkeypatch.chdir(tmp_path)
    assert environment(tmp_path)["ANSIBLE_CONFIG"] == str(config)
    os.lchown(config, 65534, 65534)
    with pytest.raises(refusal.Refusal, match="config_foreign"):
        environment(tmp_path)
    assert environment(tmp_path, ANSIBLE_CONFIG=str(config))["ANSIBLE_CONFIG"] == str(config)


def test_sockets_get_a_path_that_fits(tmp_path: Path) -> None:
    """107 bytes, names of SSH and of multiprocessing included."""
    deep = environment(tmp_path / ("x" * 80))
    assert deep["ANSIBLE_SSH_CONTROL_PATH_DIR"] == "~/.ansible/cp"
    assert "TMPDIR" not in deep
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="d") as short:
        assert environment(Path(short))["TMPDIR"] == f"{short}/drift/.ansible/tmp"


def test_the_command_only_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "_sudo_asks", lambda: True)
    options = launcher.parser().parse_args(["-i", "a", "-i", "b", "-l", "h", "-t", "x", "--skip-tags", "y", "-b"])
    found = launcher.command(options, ["-v"], "ansible-playbook", Path("site.yml"))
    assert found == [
        *("ansible-playbook", "--check", "--diff", "site.yml", "--inventory", "a", "--inventory", "b"),
        *("--limit", "h", "--tags", "x", "--skip-tags", "y", "--become", "--ask-become-pass", "-v"),
    ]


def test_a_family_is_found_across_sessions() -> None:
    parent = subprocess.Popen(
        ["sh", "-c", "setsid sleep 30 & echo $!; wait"], stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert process._family(parent.pid)[0] == parent.pid
        assert child in process._family(parent.pid)
        assert parent.pid in process._family(os.getpid())
    finally:
        process._kill(process._family(parent.pid))
        parent.wait()
        assert parent.stdout is not None
        parent.stdout.close()


@pytest.mark.parametrize(
    ("clone", "configured", "expected"),
    [(True, None, "ROOT/build/drift"), (False, None, "CWD/build/drift"), (False, "there", "CWD/there")],
)
def test_default_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clone: bool, configured: str | None, expected: str
) -> None:
    """Never beside an installed collection."""
    monkeypatch.setattr(places, "is_clone", lambda: clone)
    monkeypatch.chdir(tmp_path)
    wanted = expected.replace("ROOT", str(places.ROOT)).replace("CWD", str(tmp_path))
    assert str(places.directory(configured)) == wanted


def test_a_full_disk_keeps_nobody_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be logged is still read: a full pipe would stop ansible-playbook for ever."""
    # Opened, and never named as the log: what has the log's name is replaced.
    monkeypatch.setattr(process.private, "fresh", lambda _path: os.open("/dev/full", os.O_WRONLY))
    run = process.Run(["seq", "200000"], dict(os.environ), tmp_path / "log", verbose=False)
    assert run.wait() == 0
    assert not run.stopped
