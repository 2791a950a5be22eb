# SPDX-License-Identifier: GPL-3.0-or-later
"""Real scripts and files in the place of ptxas, run for real."""

from __future__ import annotations

import contextlib
import os
import struct
import time
from pathlib import Path

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import HostReader
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda.tools import (
    MAX_STDERR,
    Version,
    arch_of,
    scratch_folder,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._ptxas.model import Ptxas, Request, Setting
from ansible_collections.nusy.dgx_spark.plugins.module_utils._ptxas.observe import (
    _by_release,
    find_triton,
    observe,
    probe,
)

VERSION = 'if [ "$1" = --version ]; then echo "Cuda compilation tools, release 13.0, V13.0.88"; exit 0; fi\n'
# The first 20 bytes of what ptxas 13.0.88 writes.
CUDA_ELF = r"printf '\177ELF\002\001\001A\010\000\000\000\000\000\000\000\002\000\276\000' > \"$out\""
HONEST = VERSION + "out=$(eval echo \\${$#})\n" + CUDA_ELF.replace('\\"', '"') + "\n"


def script(path: Path, body: str, mode: int = 0o755) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + body)
    path.chmod(mode)
    return path


def run(path: Path, tmp_path: Path, timeout: float = 10) -> Ptxas:
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    return probe(str(path), "candidate", [arch_of("sm_121a", "ptxas")], HostReader(), timeout, scratch)


def test_one_that_does_its_work(tmp_path: Path) -> None:
    found = run(script(tmp_path / "ptxas", HONEST), tmp_path)
    assert found == Ptxas(str(tmp_path / "ptxas"), "candidate", Version(13, 0, 88), True, 0)


def test_a_path_with_spaces_and_worse(tmp_path: Path) -> None:
    assert run(script(tmp_path / "a b" / "$(touch x); ptxas'\"", HONEST), tmp_path).assembles
    assert not (tmp_path / "x").exists()


def test_what_it_is_asked_to_assemble(tmp_path: Path) -> None:
    found = run(script(tmp_path / "ptxas", VERSION + 'echo "$1" >&2; cat "$2" >&2; exit 3'), tmp_path)
    assert (found.exit_code, found.assembles) == (3, False)
    assert found.stderr.startswith("--gpu-name=sm_121a\n.version 8.8\n.target sm_121a\n.address_size 64\n\n.visible")


@pytest.mark.parametrize(
    ("body", "exit_code", "stderr"),
    [
        ("exit 1", 1, "sm_121a: exit code 1, and it says nothing"),
        ("echo no >&2; exit 255", 255, "no"),
        # Prints a good version, does nothing, calls it a success.
        ("exit 0", 0, "sm_121a: exit code 0, but no object was written"),
        (
            'for out; do :; done; echo hello > "$out"',
            0,
            "sm_121a: exit code 0, but what was written is no CUDA object",
        ),
        (
            'for out; do :; done; cp /bin/sh "$out"',
            0,
            "sm_121a: exit code 0, but what was written is no CUDA object",
        ),
        ('for out; do :; done; mkdir "$out"', 0, "sm_121a: exit code 0, but what was written is no CUDA object"),
        ('for out; do :; done; mkfifo "$out"', 0, "sm_121a: exit code 0, but what was written is no CUDA object"),
    ],
)
def test_a_liar_prints_a_good_version_and_cannot_assemble(
    body: str, exit_code: int, stderr: str, tmp_path: Path
) -> None:
    found = run(script(tmp_path / "ptxas", VERSION + body), tmp_path)
    assert found.version == Version(13, 0, 88)
    assert not found.assembles
    assert (found.exit_code, found.stderr, found.fault) == (exit_code, stderr, "")


def test_every_target_counts(tmp_path: Path) -> None:
    body = VERSION + 'case "$1" in *f) echo not this one >&2; exit 255;; esac\n' + HONEST
    path = str(script(tmp_path / "ptxas", body))
    targets = [arch_of("sm_121a", "ptxas"), arch_of("sm_121f", "ptxas")]
    assert not probe(path, "candidate", targets, HostReader(), 10, tmp_path).assembles
    assert probe(path, "candidate", targets[:1], HostReader(), 10, tmp_path).assembles
    # An object left from the first target must not stand in for the second.
    silent = str(script(tmp_path / "silent", VERSION + 'case "$1" in *f) exit 0;; esac\n' + HONEST))
    assert not probe(silent, "candidate", targets, HostReader(), 10, tmp_path).assembles


@pytest.mark.parametrize(
    ("body", "mode", "fault", "exit_code"),
    [
        (VERSION, 0o644, "denied", None),
        ("echo broken >&2; exit 1", 0o755, "failing", 1),
        ("echo I am ptxas, believe me", 0o755, "garbage", 0),
        ("head -c 100000 /dev/urandom", 0o755, "garbage", 0),
        ("kill -9 $$", 0o755, "failing", -9),
    ],
)
def test_a_script_that_is_no_ptxas(body: str, mode: int, fault: str, exit_code: int | None, tmp_path: Path) -> None:
    found = run(script(tmp_path / "ptxas", body, mode), tmp_path)
    assert (found.fault, found.version, found.assembles) == (fault, None, False)
    assert found.exit_code == exit_code
    assert len(found.stderr) <= MAX_STDERR


def alive(group: int) -> list[str]:
    """Commands of this process group that still run; zombies wait for whoever reaps here."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            command, _end, rest = stat.read_text().rpartition(")")
            state, _parent, its_group = rest.split()[:3]
            if int(its_group) == group and state not in "ZX":
                found.append(command)
    return found


def test_one_that_hangs_is_stopped_with_its_children(tmp_path: Path) -> None:
    path = script(tmp_path / "ptxas", f"echo $$ > {tmp_path}/pid; sleep 60 & wait")
    begin = time.monotonic()
    found = run(path, tmp_path, timeout=0.5)
    assert time.monotonic() - begin < 5
    assert (found.fault, found.exit_code) == ("hangs", None)
    assert "0.5 s" in found.stderr
    group = int((tmp_path / "pid").read_text())
    # The kernel takes its time to end what was killed; left alone the sleep would outlast this by far.
    while alive(group) and time.monotonic() - begin < 10:
        time.sleep(0.02)
    assert not alive(group)


def test_one_that_hangs_while_assembling(tmp_path: Path) -> None:
    found = run(script(tmp_path / "ptxas", VERSION + "sleep 60"), tmp_path, timeout=0.5)
    assert (found.fault, found.version, found.assembles, found.exit_code) == ("", Version(13, 0, 88), False, None)
    assert "still running" in found.stderr


def test_one_that_never_stops_talking(tmp_path: Path) -> None:
    found = run(script(tmp_path / "ptxas", "exec yes"), tmp_path, timeout=20)
    assert (found.fault, found.assembles) == ("hangs", False)
    assert len(found.stderr) <= MAX_STDERR


def test_a_directory_a_loop_and_nothing(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "file").touch()
    for path, fault in (
        (tmp_path / "directory", "directory"),
        (tmp_path / "loop", "unreachable"),
        (tmp_path / "file" / "ptxas", "unreachable"),
        (tmp_path / "missing", "missing"),
    ):
        found = run(path, tmp_path)
        assert (found.fault, found.assembles, found.exit_code) == (fault, False, None), path
        assert found.stderr


def test_a_program_for_another_machine(tmp_path: Path) -> None:
    machine = {"x86_64": 183, "aarch64": 62}.get(os.uname().machine, 62)  # aarch64, x86-64
    header = struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, 0, 64, 0, 0, 64, 56, 0, 64, 0, 0)
    path = tmp_path / "ptxas"
    path.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + header + bytes(200))
    path.chmod(0o755)
    found = run(path, tmp_path)
    # With emulators registered (binfmt_misc) it starts, and dies of having no code.
    assert found.fault in ("unrunnable", "failing")
    assert not found.assembles and found.version is None


def test_a_script_whose_interpreter_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "ptxas"
    path.write_text("#!/nonexistent/sh\n")
    path.chmod(0o755)
    assert run(path, tmp_path).fault == "uninterpreted"


def test_what_it_prints_cannot_forge_a_terminal_line(tmp_path: Path) -> None:
    found = run(script(tmp_path / "ptxas", VERSION + r"printf '\033[2Jall\rgood\n' >&2; exit 1"), tmp_path)
    assert found.stderr == "?[2Jall?good"


def site(tmp_path: Path, version: str = "3.5.1") -> Path:
    """A virtual environment with a Triton that has its own (script) ptxas."""
    folder = tmp_path / "venv" / "lib" / "python3.12" / "site-packages"
    script(folder / "triton" / "backends" / "nvidia" / "bin" / "ptxas", VERSION.replace("13.0", "12.8") + "exit 255")
    (folder / "triton" / "__init__.py").write_text(f"__version__ = '{version}'\n")
    return folder


def request_for(
    tmp_path: Path,
    candidates: tuple[str, ...] | None = (),
    environment: tuple[Setting, ...] = (),
    environment_files: tuple[str, ...] = (),
) -> Request:
    arch = arch_of("sm_121a", "ptxas")
    return Request(str(tmp_path / "venv"), "", candidates, arch, environment, environment_files, False, 10)


def test_a_whole_environment(tmp_path: Path) -> None:
    folder = site(tmp_path)
    candidate = script(tmp_path / "cuda" / "ptxas", HONEST)
    found = observe(request_for(tmp_path, (str(candidate),)), HostReader())
    assert found.triton and (found.triton.folder, found.triton.text) == (str(folder / "triton"), "3.5.1")
    assert found.python == str(tmp_path / "venv" / "bin" / "python")
    assert [(item.kind, item.assembles) for item in found.ptxas] == [("vendored", False), ("candidate", True)]


def test_the_same_by_the_folder_of_the_package(tmp_path: Path) -> None:
    folder = site(tmp_path)
    script(tmp_path / "venv" / "bin" / "python", "")
    request = Request("", str(folder / "triton"), (), arch_of("sm_121a", "ptxas"), (), (), False, 10)
    found = observe(request, HostReader())
    assert found.triton and found.python == str(tmp_path / "venv" / "bin" / "python")


@pytest.mark.parametrize("make", ["nothing", "empty", "no_version"])
def test_no_triton(make: str, tmp_path: Path) -> None:
    folder = tmp_path / "venv" / "lib" / "python3.12" / "site-packages" / "triton"
    if make != "nothing":
        folder.mkdir(parents=True)
    if make == "no_version":
        (folder / "__init__.py").write_text("__version__ = 'whatever'\n")
    found = observe(request_for(tmp_path, None), HostReader())
    assert found.triton is None and found.why_no_triton
    assert not [item for item in found.ptxas if item.kind != "candidate"]


def test_the_code_that_runs_tells_the_version_and_not_a_leftover(tmp_path: Path) -> None:
    folder = site(tmp_path, "3.6.0")
    (folder / "triton-3.5.1.dist-info").mkdir()
    (folder / "triton-3.5.1.dist-info" / "METADATA").write_text("Name: triton\nVersion: 3.5.1\n\n")
    triton, _why = find_triton(str(folder / "triton"), HostReader())
    assert triton and triton.text == "3.6.0"
    (folder / "triton" / "__init__.py").write_text("")
    triton, _why = find_triton(str(folder / "triton"), HostReader())
    assert triton and triton.text == "3.5.1"


def test_another_distribution_of_the_same_package(tmp_path: Path) -> None:
    folder = site(tmp_path, "")
    (folder / "pytorch_triton-3.5.0+git7416ffcb.dist-info").mkdir()
    (folder / "pytorch_triton-3.5.0+git7416ffcb.dist-info" / "METADATA").write_text("Version: 3.5.0+git7416ffcb\n\n")
    (folder / "tritonclient-9.9.9.dist-info").mkdir()
    (folder / "tritonclient-9.9.9.dist-info" / "METADATA").write_text("Version: 9.9.9\n\n")
    triton, _why = find_triton(str(folder / "triton"), HostReader())
    assert triton and (triton.text, triton.version) == ("3.5.0+git7416ffcb", Version(3, 5))


def test_wheels_beside_triton_are_known_places(tmp_path: Path) -> None:
    folder = site(tmp_path)
    wheel = script(folder / "nvidia" / "cu13" / "bin" / "ptxas", HONEST)
    found = observe(request_for(tmp_path, None), HostReader())
    assert str(wheel) in [item.path for item in found.ptxas if item.kind == "candidate" and item.assembles]


def test_what_is_forced_is_looked_at_last_and_once(tmp_path: Path) -> None:
    site(tmp_path)
    declared, forced = (str(script(tmp_path / name / "ptxas", HONEST)) for name in ("declared", "forced"))
    settings = tuple(Setting(f"TRITON_PTXAS_{n}", path, "x") for n, path in enumerate((forced, declared, "ptxas")))
    found = observe(request_for(tmp_path, (declared,), settings), HostReader())
    assert [item.path for item in found.ptxas if item.kind == "candidate"] == [declared, forced]


def test_files_come_after_the_environment_and_the_last_wins(tmp_path: Path) -> None:
    one, two = tmp_path / "one.env", tmp_path / "two.env"
    one.write_text("TRITON_PTXAS_PATH=/one\nTRITON_PTXAS_BLACKWELL_PATH='/one b'\nTRITON_CACHE_DIR=/c\n")
    two.write_text("TRITON_PTXAS_PATH=/two\n")
    request = request_for(
        tmp_path,
        environment=(Setting("TRITON_PTXAS_PATH", "/zero", "environment"),),
        environment_files=(str(one), str(two), str(tmp_path / "missing.env")),
    )
    found = observe(request, HostReader())
    assert found.settings == (
        Setting("TRITON_PTXAS_BLACKWELL_PATH", "/one b", str(one)),
        Setting("TRITON_PTXAS_PATH", "/two", str(two)),
    )


def test_a_file_that_cannot_be_read_is_an_error_and_not_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(NodeError) as caught:
        observe(request_for(tmp_path, environment_files=(str(tmp_path),)), HostReader())
    assert caught.value.problem.key == "ptxas.environment_file"


def test_the_scratch_folder_is_private_and_goes_even_after_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(RuntimeError), scratch_folder("ptxas") as scratch:
        assert scratch.stat().st_mode & 0o777 == 0o700
        (scratch / "left").mkdir()
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_without_room_for_scratch_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(NodeError) as caught, scratch_folder("ptxas"):
        pass
    assert "TMPDIR" in caught.value.problem.fix


def test_places_with_a_release_come_newest_first(tmp_path: Path) -> None:
    for name in (
        "cuda-9.2",
        "cuda-13.0",
        "cuda-12.10",
        "cuda-12.9",
        "cuda",
        "cuda-13.0.1",
        "cuda-13.0-0123456789abcdef",
    ):
        (tmp_path / name).mkdir()
    assert _by_release(HostReader(), str(tmp_path), "cuda-") == [
        f"{tmp_path}/cuda-{release}/bin/ptxas" for release in ("13.0", "12.10", "12.9", "9.2")
    ]
    assert _by_release(HostReader(), str(tmp_path / "none"), "") == []
