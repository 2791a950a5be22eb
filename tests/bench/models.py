# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast a model is published, beside plain ``hf download`` of the same library from the same hub on loopback.

usage: models.py [--runs N] [--mib N]     prints the medians and their ratio

Both download the same eight files, in turn, each time into an empty folder. ``hf download`` compares sizes; ours also
reads every byte again and compares it with its SHA-256, and brings it to the disk before it publishes.
"""

from __future__ import annotations

import argparse
import os
import pwd
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "tools"), str(TESTS.parents[0] / "collections")]

import hub_client
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import HostReader
from ansible_collections.nusy.dgx_spark.plugins.module_utils._models.fetch import Fetch
from ansible_collections.nusy.dgx_spark.plugins.module_utils._models.model import ARGUMENT_SPEC, Wish, wish
from ansible_collections.nusy.dgx_spark.plugins.module_utils._models.observe import look
from hub import Repository
from report import OURS, PLAIN

FILES = 8


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--mib", type=int, default=512)
    given = parser.parse_args(arguments)
    seconds = measure(given.runs, given.mib)
    looked = seconds.pop("look")[0]
    medians = {way: statistics.median(found) for way, found in seconds.items()}
    for way, found in medians.items():
        print(f"{way}: {found:.2f} s, {given.mib / found:.0f} MiB/s (of {', '.join(f'{s:.2f}' for s in seconds[way])})")
    print(f"throughput of model_snapshot to hf download: {medians[PLAIN] / medians[OURS]:.2f}")
    print(f"a look at it afterwards: {looked * 1000:.0f} ms")
    return 0


def measure(runs: int, mib: int) -> dict[str, list[float]]:
    """Seconds of each way, and those of one look at what is there afterwards."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        place = Path(name)
        folder = place / "hub" / "acme" / "big"
        folder.mkdir(parents=True)
        for number in range(FILES):
            data = random.Random(number).randbytes(mib // FILES << 20)
            (folder / f"model-{number}.safetensors").write_bytes(data)
        repository = Repository.of(place / "hub", folder)
        argv = [sys.executable, str(TESTS / "tools" / "hub.py"), str(place / "hub")]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as server:
            try:
                url = (server.stdout.readline() if server.stdout else "").strip()
                return _in_turn(place, repository, url, runs)
            finally:
                server.kill()


def _in_turn(place: Path, repository: Repository, url: str, runs: int) -> dict[str, list[float]]:
    entry = {**repository.manifest("big"), "gated": False, "quantisation": ""}
    defaults = {name: option.get("default") for name, option in ARGUMENT_SPEC.items()}
    python = hub_client.python()
    given = {"models": [entry], "root": str(place / "ours"), "endpoint": url, "python": python}
    # Who runs this: the account of a node is not here.
    wanted = wish({**defaults, **given, "owner": pwd.getpwuid(os.getuid()).pw_name})
    seconds: dict[str, list[float]] = {PLAIN: [], OURS: []}
    for _ in range(runs):
        for way, function in ((PLAIN, plain), (OURS, ours)):
            for name in ("ours", "plain"):
                shutil.rmtree(place / name, ignore_errors=True)
            begin = time.monotonic()
            function(place, repository, wanted)
            seconds[way].append(time.monotonic() - begin)
    begin = time.monotonic()
    look(wanted, HostReader())
    return {**seconds, "look": [time.monotonic() - begin]}


def plain(place: Path, repository: Repository, wanted: Wish) -> None:
    program = [str(Path(wanted.python).parent / "hf"), "download", "--quiet", repository.name]
    env = {
        **os.environ,
        "HF_ENDPOINT": wanted.endpoint,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(place / "plain/home"),
    }
    argv = [*program, "--revision", repository.commit, "--local-dir", str(place / "plain/model")]
    subprocess.run(argv, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def ours(_place: Path, _repository: Repository, wanted: Wish) -> None:
    os.makedirs(wanted.home(wanted.models[0]))
    Fetch(wanted, wanted.models[0], "/").run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
