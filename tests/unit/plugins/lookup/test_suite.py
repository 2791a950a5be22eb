# SPDX-License-Identifier: GPL-3.0-or-later
"""The archive: the same bytes every time, only what it needs, and it runs on nothing but Python."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import zipfile
import zlib
from io import BytesIO
from pathlib import Path

import pytest
from ansible.errors import AnsibleLookupError
from ansible_collections.nusy.dgx_spark.plugins.lookup.suite import LookupModule
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils import suite


def test_the_text_is_the_archive():
    (text,) = LookupModule().run([])
    assert zlib.decompress(base64.b64decode(text)) == suite.archive()


def test_it_takes_no_terms():
    with pytest.raises(AnsibleLookupError, match="takes no terms"):
        LookupModule().run(["x"])


def test_the_same_release_is_the_same_bytes(monkeypatch):
    first = suite.archive.__wrapped__()
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert suite.archive.__wrapped__() == first
    other = subprocess.run(
        [sys.executable, "-c", f"from {suite.__name__} import archive; import sys; sys.stdout.buffer.write(archive())"],
        env={**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        check=True,
    )
    assert other.stdout == first


def test_nothing_in_it_depends_on_who_made_it():
    with zipfile.ZipFile(BytesIO(suite.archive())) as archive:
        entries = archive.infolist()
    assert [entry.filename for entry in entries] == sorted(entry.filename for entry in entries)
    assert {entry.date_time for entry in entries} == {suite.NO_TIME}
    assert {entry.compress_type for entry in entries} == {zipfile.ZIP_STORED}
    # Nothing of Ansible, and nothing that only the controller has.
    names = {entry.filename for entry in entries}
    assert not [name for name in names if "plugin_utils" in name or "/modules/" in name or name.startswith("ansible/")]


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    path = tmp_path / "spark.pyz"
    path.write_bytes(f"#!{sys.executable} -IS\n".encode() + suite.archive())
    path.chmod(0o755)
    return path


def run(*argv: object, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(part) for part in argv], env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", ["vllm-serve", "vllm-node", "ray-head", "ray-worker", "llama-serve"])
def test_every_entry_runs_in_a_hostile_environment(name: str, installed: Path, tmp_path: Path) -> None:
    entry = tmp_path / name
    entry.symlink_to("spark.pyz")
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "argparse.py").write_text("raise SystemExit('loaded')")
    evil = {"PATH": str(tmp_path / "evil"), "PYTHONPATH": str(tmp_path / "evil"), "PYTHONHOME": "/nonexistent"}
    done = run(entry, "--check", *(["/m"] if name[0] in "vl" else []), **evil)
    # Not installed here, so paths.env is missing or the options are; either way it is our own program that says so.
    assert done.returncode in (1, 64) and "loaded" not in done.stdout + done.stderr
    assert run(entry, "--version").stdout.startswith("nusy.dgx_spark ")


def test_an_unknown_name_is_wrong_usage(installed: Path) -> None:
    assert run(installed, "nonsense").returncode == 64
    assert run(installed, "vllm-serve", "--version").returncode == 0


def test_what_cannot_be_written_is_an_error_and_who_stops_reading_makes_none(installed: Path) -> None:
    def ended(output: int) -> tuple[int, str]:
        argv = [installed, "spark-ensure-state", "--json"]
        done = subprocess.run(argv, stdout=output, stderr=subprocess.PIPE, text=True, check=False)
        os.close(output)
        return done.returncode, done.stderr

    code, said = ended(os.open("/dev/full", os.O_WRONLY))
    assert code == 1 and "cannot be written: No space left on device. Why it matters" in said
    assert "Traceback" not in said
    reading, writing = os.pipe()
    os.close(reading)
    assert ended(writing) == (1, "")


def test_the_tool_judges_without_ansible(installed: Path) -> None:
    done = run(installed, "spark-ensure-state", "--json")
    assert done.returncode in (0, 2, 3) and '"schema": "nusy.dgx_spark.ensure-state/1"' in done.stdout
