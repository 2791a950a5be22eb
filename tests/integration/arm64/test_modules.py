# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules under the processor of a Spark, with NVIDIA's and everybody's own aarch64 binaries."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import wheels
from conftest import Spark

# Compiled, and small.
DISTRIBUTIONS = ("pyyaml==6.0.3", "msgpack==1.2.4")


def task(module: str, /, **options: Any) -> dict[str, Any]:
    return {"name": module, f"nusy.dgx_spark.{module}": options}


def states(result: dict[str, Any]) -> dict[str, str]:
    return {control["id"]: control["state"] for control in result["controls"]}


def test_it_is_the_processor_of_a_spark(spark: Spark) -> None:
    (result,) = spark.play([task("spark_facts")], check=True)
    facts = result["ansible_facts"]["spark"]
    assert spark.run("uname", "-m").strip() == "aarch64"
    assert facts["kernel"]["architecture"] == "aarch64", facts["kernel"]


def test_a_document_is_predicted_applied_and_kept(spark: Spark) -> None:
    control = {
        "id": "arm/base",
        "packages": ["jq"],  # emulated, apt thinks for 20 s, of the 60 that it is given
        "groups": [{"name": "arm"}],
        "users": [{"name": "arm", "group": "arm", "home": "/opt/arm", "shell": "/usr/sbin/nologin", "system": True}],
        "directories": [{"path": "/opt/arm", "owner": "arm", "group": "arm", "mode": "0750"}],
        "files": [{"path": "/opt/arm/it.conf", "content": "a=1\n", "owner": "arm", "mode": "0640"}],
        "links": [{"path": "/opt/arm/now", "target": "it.conf"}],
    }
    document = task("ensure_state", role="arm", controls=[control])
    (predicted,) = spark.play([document], check=True)
    assert states(predicted)["arm/base"] == "drifted" and not (spark.root / "opt/arm").exists()
    (applied,) = spark.play([document], check=False)
    assert applied["plan"] == predicted["plan"] and applied["changed"]
    (again,) = spark.play([document], check=True)
    assert set(states(again).values()) == {"in_sync"} and not again["changed"]
    assert spark.run("jq", "--version").startswith("jq")
    (spark.root / "opt/arm/it.conf").write_text("a=2\n")
    (broken,) = spark.play([document], check=True)
    assert states(broken)["arm/base"] == "drifted"


@pytest.mark.parametrize(("version", "verdict"), [("3.5.1", "forced_ok"), ("3.6.0", "ok")])
def test_what_triton_needs_is_what_it_needs_on_x86(spark: Spark, version: str, verdict: str) -> None:
    """With the ptxas of the aarch64 wheels."""
    site, cuda = f"srv/triton-{version}", "srv/cuda"
    shutil.copytree(wheels.binaries("triton", version, "aarch64"), spark.root / site)
    if not (spark.root / cuda).exists():
        (nvidia,) = wheels.binaries("nvidia-cuda-nvcc", "13.0.88", "aarch64").glob("nvidia/*")
        shutil.copytree(nvidia, spark.root / cuda)
    candidate = f"/{cuda}/bin/ptxas"
    (result,) = spark.play([task("ptxas_probe", triton_dir=f"/{site}/triton", candidates=[candidate])], check=True)
    assert result["verdict"] == verdict, result
    forced = {"TRITON_PTXAS_PATH": candidate} if verdict == "forced_ok" else {}
    assert result["environment"] == forced
    kinds = {one["kind"]: one["assembles"] for one in result["ptxas"]}
    assert kinds["candidate"] is True and kinds["vendored"] is False


def test_an_environment_of_compiled_wheels(spark: Spark, tmp_path: Path) -> None:
    """Locked for this processor, installed, verified, and imported by it."""
    lock = _lock(*DISTRIBUTIONS)
    place = spark.root / "srv/wheels"
    place.mkdir(exist_ok=True)
    requirements = tmp_path / "lock.txt"
    requirements.write_text(lock)
    argv = [sys.executable, "-m", "pip", "download", "-q", "--require-hashes", "--no-deps", "--only-binary=:all:"]
    argv += ["--platform=manylinux2014_aarch64", "--platform=manylinux_2_28_aarch64", "--python-version=3.13"]
    subprocess.run([*argv, "-d", place, "-r", requirements], check=True, capture_output=True)
    options = {
        "name": "arm",
        "interpreter": "/usr/bin/python3.13",
        "python": "3.13",
        "stages": [{"name": "all", "lock": lock}],
        "find_links": "/srv/wheels",
        "imports": ["yaml._yaml", "msgpack._cmsgpack"],
        "owner": "root",
        "cuda": False,
        "size_mib": 50,
    }
    (predicted,) = spark.play([task("vllm_venv", **options)], check=True)
    assert predicted["changed"]
    (applied,) = spark.play([task("vllm_venv", **options)], check=False)
    assert states(applied) == states(predicted)
    (again,) = spark.play([task("vllm_venv", **options)], check=True)
    assert not again["changed"] and set(states(again).values()) == {"in_sync"}, states(again)


def _lock(*pins: str) -> str:
    """With every hash that the index has for them: for this processor and Python, too."""
    argv = [Path(sys.executable).parent / "uv", "pip", "compile", "--quiet", "--no-deps", "--generate-hashes"]
    argv += ["--no-annotate", "--no-header", "--no-emit-index-url", "--python-version=3.13", "-"]
    return subprocess.run(argv, input="\n".join(pins), check=True, capture_output=True, text=True).stdout
