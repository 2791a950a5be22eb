# SPDX-License-Identifier: GPL-3.0-or-later
"""Tools that are not what they seem. Real processes; the tools are small scripts."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.command import Completed
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.rights import Shared
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import HostReader
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda import look as looking
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda.look import look
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda.model import (
    TOOLS,
    Look,
    Release,
    Toolchain,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda.tools import Arch

OTHER_MACHINE = 183 if os.uname().machine == "x86_64" else 62
ELF = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00"

# A tool that says a version, and makes a CUDA object for sm_121: ptxas at the path after -o, nvcc where it keeps them.
TOOL = r"""#!/bin/sh
case "$*" in *--version*) echo "Cuda compilation tools, release {release}, V{release}.88"; exit 0;; esac
while [ $# -gt 0 ]; do [ "$1" = -o ] && out=$2; [ "$1" = --keep-dir ] && kept=$2; shift; done
[ -z "$kept" ] || out=$kept/probe.sm_121.cubin
[ -n "$out" ] || {{ printf '\tcode for {target}\n'; exit 0; }}
printf '\177ELF\2\1\1\101\10\0\0\0\0\0\0\0\1\0\276\0\1\0\0\0' > "$out"
head -c 24 /dev/zero >> "$out"
printf '\2\{capability}\0\6' >> "$out"
"""


def tool(release: str = "13.0", target: str = "sm_121", capability: int = 121) -> str:
    return TOOL.format(release=release, target=target, capability=f"{capability:o}")


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    (tmp_path / "cuda/bin").mkdir(parents=True)
    for name in TOOLS:
        put(tmp_path / "cuda", name, tool())
    return tmp_path / "cuda"


@pytest.fixture(autouse=True)
def _a_host_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "host_compiler", lambda _reader: "/usr/bin/g++")


def put(prefix: Path, name: str, content: str | bytes, mode: int = 0o755) -> None:
    path = prefix / "bin" / name
    path.unlink(missing_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)


def wanted(prefix: Path, **options: object) -> Toolchain:
    plain = Toolchain(Release(13, 0), "existing", str(prefix), "", TOOLS, Arch(121), True, 5)
    return replace(plain, **options)


def test_what_another_user_may_run_is_not_judged(prefix, monkeypatch):
    """Root may run all, so the kernel's answer is a stand-in."""
    reader = HostReader()
    plain = reader.run

    def denied(argv, **options):
        if argv[0] == str(prefix / "bin/nvcc"):
            return Completed(tuple(argv), None, "", "", os.strerror(errno.EACCES))
        return plain(argv, **options)

    monkeypatch.setattr(reader, "run", denied)
    found = looking._look(wanted(prefix), reader)
    assert found.tools["nvcc"].fault == "unjudged" and found.tools["ptxas"].fault == ""
    (prefix / "bin/nvcc").chmod(0o644)
    assert looking._look(wanted(prefix), reader).tools["nvcc"].fault == "denied"


def seen(prefix: Path, **options: object) -> Look:
    return look(wanted(prefix, **options), HostReader())


def test_a_good_toolkit_is_seen_with_all_its_tools(prefix: Path) -> None:
    (prefix / "lib").mkdir()
    (prefix / "lib/big").write_bytes(bytes(3 << 20))
    (prefix / "lib/elsewhere").symlink_to("/")
    found = seen(prefix)
    assert {name: (t.path, t.version, t.release, t.fault) for name, t in found.tools.items()} == {
        name: (f"{prefix}/bin/{name}", "13.0.88", "13.0", "") for name in TOOLS
    }
    assert (found.proof.assembled, found.proof.built, found.proof.read_back) == (True, True, "cuobjdump")
    assert found.size_mib == 3


def test_a_prefix_that_is_a_link_is_measured_where_it_leads(prefix: Path, tmp_path: Path) -> None:
    (prefix / "big").write_bytes(bytes(2 << 20))
    (tmp_path / "link").symlink_to(prefix)
    assert seen(tmp_path / "link").size_mib == 2


HOSTILE: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "missing": (lambda path: path.unlink(), "missing", "does not exist"),
    "a loop of links": (lambda path: (path.unlink(), path.symlink_to(path.name)), "unreachable", "leads nowhere"),
    "a link that leads nowhere": (lambda path: (path.unlink(), path.symlink_to("/nowhere")), "missing", "not exist"),
    "a directory": (lambda path: (path.unlink(), path.mkdir()), "directory", "directory"),
    "not executable": (lambda path: path.chmod(0o644), "denied", "may not be executed"),
    "no interpreter": (lambda path: path.write_text("#!/nowhere/sh\n"), "uninterpreted", "interpreter"),
    "another machine": (
        lambda path: path.write_bytes(ELF + OTHER_MACHINE.to_bytes(2, "little") + bytes(44)),
        "unrunnable",
        "it is a program for",
    ),
    "no program": (lambda path: path.write_bytes(b"\x00\x01\x02" * 30), "unrunnable", "cannot execute"),
    "an error": (
        lambda path: path.write_text("#!/bin/sh\necho libx.so not found >&2; exit 127\n"),
        "failing",
        "libx.so",
    ),
    "garbage": (lambda path: path.write_text("#!/bin/sh\nprintf '\\033[31mhello\\n\\377'\n"), "garbage", "hello"),
    "no end of output": (lambda path: path.write_text("#!/bin/sh\nexec yes\n"), "hangs", ""),
    "silence": (lambda path: path.write_text("#!/bin/sh\nsleep 60\n"), "hangs", ""),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_tool_that_is_none_is_named(prefix: Path, what: str) -> None:
    damage, fault, said = HOSTILE[what]
    damage(prefix / "bin/nvlink")
    found = seen(prefix, timeout=1.0, compile=False)
    assert found.tools["nvlink"].fault == fault
    assert said in found.tools["nvlink"].said and found.tools["nvlink"].said.isprintable()
    assert [name for name, t in found.tools.items() if t.fault] == ["nvlink"]


def test_a_tool_of_another_release_tells_it(prefix: Path) -> None:
    put(prefix, "ptxas", tool(release="12.9"))
    assert (seen(prefix).tools["ptxas"].release, seen(prefix).tools["ptxas"].version) == ("12.9", "12.9.88")


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("#!/bin/sh\ncase $1 in --version) echo release 13.0;; *) echo no cicc >&2; exit 1;; esac\n", "no cicc"),
        ("#!/bin/sh\ncase $1 in --version) echo release 13.0;; esac\n", "no object was written"),
        ("#!/bin/sh\ncase $1 in --version) echo release 13.0;; *) echo hi > $5/x.cubin;; esac\n", "no CUDA object"),
        ("#!/bin/sh\ncase $1 in --version) echo release 13.0;; *) sleep 60;; esac\n", "still running"),
    ],
)  # fmt: skip
def test_an_nvcc_that_does_not_build_says_why(prefix: Path, script: str, why: str) -> None:
    put(prefix, "nvcc", script)
    proof = seen(prefix, timeout=1.5).proof
    assert (proof.built, proof.assembled) == (False, True)
    assert why in proof.why and "cuda_probe" not in proof.why


def test_an_object_for_another_target_is_no_proof(prefix: Path) -> None:
    put(prefix, "cuobjdump", tool(target="sm_120"))
    proof = seen(prefix).proof
    assert (proof.built, proof.read_back, proof.why) == (
        False,
        "cuobjdump",
        "cuobjdump finds code for sm_120, not sm_121",
    )


@pytest.mark.parametrize(("capability", "built"), [(121, True), (120, False)])
@pytest.mark.parametrize("missing", ["cuobjdump", "nvdisasm"])
def test_without_both_readers_the_header_is_read(prefix: Path, missing: str, capability: int, built: bool) -> None:
    (prefix / "bin" / missing).unlink()
    put(prefix, "nvcc", tool(capability=capability))
    proof = seen(prefix).proof
    assert (proof.built, proof.read_back) == (built, "elf")
    assert ("sm_120" in proof.why) is not built


def test_a_reader_that_shows_nothing_is_not_believed_over_the_header(prefix: Path) -> None:
    put(prefix, "cuobjdump", "#!/bin/sh\necho release 13.0\n")
    assert seen(prefix).proof.read_back == "elf"


def test_without_a_host_compiler_ptxas_alone_is_asked(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "host_compiler", lambda _reader: "")
    proof = seen(prefix).proof
    assert (proof.assembled, proof.built) == (True, None)
    assert "g++" in proof.why and "build-essential" in proof.why


def test_a_host_compiler_is_looked_for_where_nvcc_looks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(looking, "SYSTEM_PATH", f"{tmp_path}/a:{tmp_path}/b")
    assert looking.host_compiler(HostReader()) == ""
    (tmp_path / "b").mkdir()
    (tmp_path / "b/g++").touch()
    assert looking.host_compiler(HostReader()) == f"{tmp_path}/b/g++"


def test_a_skipped_proof_runs_no_compiler(prefix: Path) -> None:
    for name in ("nvcc", "ptxas"):
        put(prefix, name, f"#!/bin/sh\n[ $1 = --version ] || touch {prefix}/ran\necho release 13.0\n")
    proof = seen(prefix, proven=False).proof
    assert (proof.assembled, proof.built) == (None, None) and not (prefix / "ran").exists()


def test_what_several_users_decide_about_is_not_run(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(paths: list[str], _question: object, _seconds: float) -> None:
        raise Shared(paths[0], "users 1 and 2")

    monkeypatch.setattr(looking, "with_rights", refused)
    found = seen(prefix)
    assert {tool.fault for tool in found.tools.values()} == {"unjudged"}
    assert "users 1 and 2" in found.proof.why and (found.proof.built, found.proof.assembled) == (None, None)


def test_nothing_is_left_behind(prefix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    before = sorted(p for p in prefix.rglob("*"))
    assert seen(prefix).proof.built
    assert list(temporary.iterdir()) == [] and sorted(p for p in prefix.rglob("*")) == before


def test_what_was_seen_survives_the_way_between_processes(prefix: Path) -> None:
    found = seen(prefix)
    assert Look.of_json(found.as_json()) == found
