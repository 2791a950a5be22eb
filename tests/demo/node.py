# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo on a simulated node: from a bare system to an engine that answers, and a report without drift.

What is declared is inventories/demo. The node is a container with systemd and OpenSSH (tests/nodes) that has no way
out: wheels and the hub of models are mounted into it. It is removed at the end, whatever the end is.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import secrets
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from transcript import PLACE, ROOT, Transcript, program

LOCK = ROOT / "roles" / "vllm_venv" / "files" / "llama" / "1-llama.lock"
INVENTORY = "inventories/demo"
NAME = "spark-demo"
MODEL, REPOSITORY, HUB_PORT = "tiny", "demo/tiny", 8410
URL = "http://127.0.0.1:8081/v1"
# The Python of the nodes; glibc is newer than all of these.
PYTHON, PLATFORMS = "3.13", ("manylinux_2_28", "manylinux2014", "manylinux_2_17")
# Of the machine that carries the node, which may have a GPU: the node is to be one without.
NO_DEVICES = "if [ -d /sys/bus/pci/devices ]; then mount -t tmpfs none /sys/bus/pci/devices; fi"
DOWNLOAD_SECONDS, PLAY_SECONDS = 240, 420
DRIFT = PLACE / "drift"

import host
import identity
import nodes
import tiny_gguf


def wheels(say: Transcript) -> Path:
    """Those of the lock, fetched once for each content of it: pip compares the hashes here and on the node."""
    place = PLACE / "wheels"
    mark, made_from = place / "made-from", f"{PYTHON} {PLATFORMS} {platform.machine()}\n{LOCK.read_text('utf-8')}"
    if not mark.exists() or mark.read_text("utf-8") != made_from:
        shutil.rmtree(place, ignore_errors=True)
        argv = [sys.executable, "-m", "pip", "download", "--progress-bar=off", "--dest", place, "-r", LOCK]
        argv += ["--require-hashes", "--no-deps", "--only-binary=:all:", "--python-version", PYTHON]
        for name in PLATFORMS:
            argv += ["--platform", f"{name}_{platform.machine()}"]
        say.run(argv, DOWNLOAD_SECONDS)
        readable(place)
        mark.write_text(made_from, "utf-8")
    return place


def hub(place: Path) -> Path:
    folder = place / REPOSITORY
    folder.mkdir(parents=True, exist_ok=True)
    tiny_gguf.write(folder / "model.gguf")
    readable(place)
    return place


def readable(place: Path) -> None:
    """For the accounts of the node, whatever the umask of who makes it."""
    for path in (place, *place.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


@contextlib.contextmanager
def simulated(mounts: list[str]) -> Iterator[list[str]]:
    """The options that lead ansible-playbook to a fresh node."""
    # Of a run that was killed: nobody else makes one of this name here. Where there is none, nothing is touched: who
    # removes the last node clears up after all of them, and another run may be making the image.
    if NAME in identity.known():
        nodes.down([NAME])
    nodes.up([NAME], mounts=mounts, owner=os.getpid())
    try:
        way = PLACE / "node.json"
        way.write_text(json.dumps(identity.inventory([NAME]), indent=2) + "\n", "utf-8")
        yield [INVENTORY, str(way)]
    finally:
        if not kept():
            nodes.down([NAME])


def kept() -> bool:
    return bool(os.environ.get("NUSY_KEEP_NODES"))


def demo(say: Transcript) -> None:
    say.say(f"a simulated node can run here: {', '.join(f'{n} {v}' for n, v in host.versions().items())}")
    say.say(f"server and client of the hub: wheels by the hashes of {LOCK.relative_to(ROOT)}")
    mounts = [f"{wheels(say)}:/srv/wheels", f"{hub(PLACE / 'hub')}:/srv/hub", f"{ROOT}/tests/tools:/srv/tools"]
    if not nodes.image.exists():
        say.say("the image of nodes is made, once: some minutes, and 470 MB in build/cache")
    with simulated(mounts) as inventory:
        identity.execute(NAME, ["sh", "-c", NO_DEVICES])
        say.say(f"{NAME} is up: {identity.execute(NAME, ['sh', '-c', '. /etc/os-release; echo $PRETTY_NAME']).strip()}"
                f", {identity.get(NAME).address}, no GPU and no way out")  # fmt: skip
        play(say, inventory)
    say.say(f"{NAME} is {'kept, until the next demo' if kept() else 'removed'}")


def play(say: Transcript, inventory: list[str]) -> None:
    key = secrets.token_hex(16)
    skipped = ",".join(host.NEED_A_KERNEL)
    ways = [word for path in inventory for word in ("-i", path)]
    say.say(f"left out, for want of a kernel of its own: {', '.join(host.NEED_A_KERNEL)}")
    serve = ["python3", "/srv/tools/hub.py", "/srv/hub", "--port", str(HUB_PORT)]
    identity.execute(NAME, ["systemd-run", "--unit=demo-hub", "--collect", *serve])
    say.say(f"site.yml -i {INVENTORY}: everything else, from a bare system to an engine that has answered")
    argv = [program("ansible-playbook"), *ways, "site.yml", "--skip-tags", skipped]
    said = say.run(argv, PLAY_SECONDS, DEMO_KEY=key, SPARK_DRIFT_ENABLED="false")
    recap = next(line for line in reversed(said.splitlines()) if line.startswith(NAME))
    say.say(f"provisioned: {' '.join(recap.split()[2:])}")
    # What is on the node from here on is all that it has.
    identity.execute(NAME, ["systemctl", "stop", "demo-hub"])
    say.ask(inventory, {"demo_url": URL, "demo_model": MODEL}, key)
    look = [sys.executable, ROOT / "bin" / "spark-drift", *ways, "--skip-tags", skipped, "--output", DRIFT]
    say.run(look, PLAY_SECONDS, DEMO_KEY=key)
    found = json.loads((DRIFT / "report.json").read_text("utf-8"))["summary"]
    say.say(f"site.yml --check: {found['drifted']} drifted, {found['unknown']} unknown, {found['in_sync']} in sync, "
            f"{found['not_selected']} not selected")  # fmt: skip
    say.hold_back(key)
