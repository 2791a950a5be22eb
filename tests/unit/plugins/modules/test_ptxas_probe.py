# SPDX-License-Identifier: GPL-3.0-or-later
"""The module inside Ansible: arguments in, one result out, the same in check mode."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils import basic
from ansible.module_utils.testing import patch_module_args
from ansible_collections.nusy.dgx_spark.plugins.modules import ptxas_probe

GOOD = """#!/bin/sh
if [ "$1" = --version ]; then echo "Cuda compilation tools, release 13.0, V13.0.88"; exit 0; fi
for out; do :; done
printf '\\177ELF\\002\\001\\001A\\010\\000\\000\\000\\000\\000\\000\\000\\002\\000\\276\\000' > "$out"
"""


def run(capsys: pytest.CaptureFixture[str], check: bool = False, **arguments: Any) -> dict[str, Any]:
    with patch_module_args({**arguments, "_ansible_check_mode": check}):
        basic._ANSIBLE_PROFILE = "legacy"
        with pytest.raises(SystemExit):
            ptxas_probe.main()
    return json.loads(capsys.readouterr().out)  # type: ignore[no-any-return]


@pytest.fixture
def triton(tmp_path: Path) -> Path:
    folder = tmp_path / "lib" / "python3.12" / "site-packages" / "triton"
    (folder / "backends" / "nvidia" / "bin").mkdir(parents=True)
    (folder / "__init__.py").write_text("__version__ = '3.5.1'\n")
    return folder


@pytest.fixture
def good(tmp_path: Path) -> str:
    path = tmp_path / "cuda 13" / "ptxas"
    path.parent.mkdir()
    path.write_text(GOOD)
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("check", [False, True])
def test_a_verdict(check: bool, triton: Path, good: str, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(capsys, check, triton_dir=str(triton), candidates=[good], environment={})
    assert result["changed"] is False and "diff" not in result and "failed" not in result
    assert result["verdict"] == "forced_ok"
    assert result["environment"] == {"TRITON_PTXAS_PATH": good}
    assert (result["chosen"], result["triton_version"], result["arch"]) == (good, "3.5.1", "sm_121a")
    assert "compiled" not in result


def test_every_returned_key_is_documented(triton: Path, good: str, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(capsys, triton_dir=str(triton), candidates=[good], compile=True)
    documented = yaml.safe_load(ptxas_probe.RETURN)
    assert set(result) - {"changed", "invocation"} == set(documented) - {"error"}
    assert set(result["ptxas"][0]) == set(documented["ptxas"]["contains"])
    assert set(result["compiled"]) == set(documented["compiled"]["contains"])


def test_a_compile_that_cannot_run_is_not_called_fine(
    triton: Path, good: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run(capsys, triton_dir=str(triton), candidates=[good], compile=True)
    assert (result["verdict"], result["compiled"]["ok"]) == ("unrepairable", False)
    assert result["explanation"].startswith("A real compile failed")


def test_no_triton_is_a_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(capsys, venv=str(tmp_path / "none"), compile=True)
    assert (result["verdict"], result["triton_version"], result["compiled"]) == ("no_triton", "", None)


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({}, "ptxas.venv_or_triton_dir"),
        ({"venv": "/a", "triton_dir": "/b"}, "ptxas.venv_or_triton_dir"),
        ({"venv": "/a", "candidates": ["bin/ptxas"]}, "ptxas.absolute_path"),
        ({"venv": "/a", "arch": "sm_121a; reboot"}, "ptxas.arch"),
    ],
)
def test_bad_input_is_an_error_in_four_parts(
    arguments: dict[str, Any], key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run(capsys, **arguments)
    assert result["failed"] is True
    assert set(result["error"]) == {"key", "kind", "wanted", "found", "why", "fix"}
    assert (result["error"]["key"], result["error"]["kind"]) == (key, "input")


EVE, BOB = 4321, 4322
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")


class Noted:
    """A ptxas that is given away and notes who runs it."""

    def __init__(self, folder: Path) -> None:
        self._notes = folder / "notes"
        self._notes.touch()
        self._notes.chmod(0o666)

    def ptxas(self, path: Path, user: int, *, folder: int | None = None) -> str:
        path.parent.mkdir(parents=True, exist_ok=True)
        note = f'echo "{path.name} $(id -u)" >> "{self._notes}"\n'
        path.write_text(GOOD.replace("#!/bin/sh\n", f"#!/bin/sh\n{note}"))
        path.chmod(0o755)
        owner = user if folder is None else folder
        os.chown(path.parent, owner, owner)
        os.chown(path, user, user)
        return str(path)

    def ran(self) -> set[str]:
        return set(self._notes.read_text().splitlines())


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Not below pytest's own folder, which is for root only: the users of these tests have to get through."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="nusy-probe-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.fixture
def noted(tmp_path: Path) -> Noted:
    return Noted(tmp_path)


@needs_root
def test_root_runs_each_ptxas_as_who_could_have_put_it_there(
    tmp_path: Path, triton: Path, noted: Noted, capsys: pytest.CaptureFixture[str]
) -> None:
    """However it came into question: declared, forced by a file, or inside the environment."""
    declared, forced = noted.ptxas(tmp_path / "eve/declared", EVE), noted.ptxas(tmp_path / "bob/forced", BOB)
    noted.ptxas(triton / "backends/nvidia/bin/ptxas", EVE)
    (tmp_path / "paths.env").write_text(f"TRITON_PTXAS_PATH={forced}\n")
    files = [str(tmp_path / "paths.env")]
    result = run(capsys, venv=str(tmp_path), candidates=[declared], environment={}, environment_files=files)
    assert (result["verdict"], result["works_now"]) == ("ok", True), result
    assert noted.ran() == {f"declared {EVE}", f"forced {BOB}", f"ptxas {EVE}"}


@needs_root
def test_without_an_environment_a_candidate_is_not_roots_either(
    tmp_path: Path, noted: Noted, capsys: pytest.CaptureFixture[str]
) -> None:
    declared = noted.ptxas(tmp_path / "eve/declared", EVE)
    assert run(capsys, venv=str(tmp_path / "none"), candidates=[declared])["verdict"] == "no_triton"
    assert noted.ran() == {f"declared {EVE}"}


@needs_root
def test_what_only_root_decides_runs_as_the_owner_of_the_environment(
    tmp_path: Path, triton: Path, noted: Noted, capsys: pytest.CaptureFixture[str]
) -> None:
    cuda = noted.ptxas(tmp_path / "cuda/ptxas", 0)
    assert run(capsys, triton_dir=str(triton), candidates=[cuda], environment={})["verdict"] == "forced_ok"
    assert noted.ran() == {"ptxas 0"}
    os.chown(triton, EVE, EVE)
    assert run(capsys, triton_dir=str(triton), candidates=[cuda], environment={})["verdict"] == "forced_ok"
    assert noted.ran() == {"ptxas 0", f"ptxas {EVE}"}


@needs_root
def test_a_ptxas_that_several_could_have_put_there_is_not_run_and_not_judged(
    tmp_path: Path, triton: Path, noted: Noted, good: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = noted.ptxas(tmp_path / "eve/shared", BOB, folder=EVE)
    options: dict[str, Any] = {"triton_dir": str(triton)}
    result = run(capsys, candidates=[shared, good], environment={}, **options)
    assert (result["verdict"], result["chosen"]) == ("forced_ok", good)
    for user in (EVE, BOB):
        assert f"user {user}" in result["ptxas"][0]["stderr"]
    for candidates, environment in (([shared], {}), ([good], {"TRITON_PTXAS_PATH": shared})):
        result = run(capsys, candidates=candidates, environment=environment, **options)
        assert result["error"]["key"] == "ptxas.not_run"
    assert noted.ran() == set()


@needs_root
def test_a_compile_runs_code_of_one_user_only(
    tmp_path: Path, triton: Path, noted: Noted, good: str, capsys: pytest.CaptureFixture[str]
) -> None:
    noted.ptxas(tmp_path / "bin/python", EVE)
    arguments: dict[str, Any] = {"triton_dir": str(triton), "candidates": [good], "environment": {}, "compile": True}
    run(capsys, **arguments)
    assert noted.ran() == {f"python {EVE}"}
    (triton / "deep").mkdir()
    (triton / "deep/code.py").touch()
    os.chown(triton / "deep/code.py", BOB, BOB)
    assert run(capsys, **arguments)["error"]["key"] == "rights.shared"
    assert noted.ran() == {f"python {EVE}"}
