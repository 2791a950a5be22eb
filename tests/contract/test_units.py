# SPDX-License-Identifier: GPL-3.0-or-later
"""Every service that this collection ships is judged by systemd-analyze security, without installing it.

At most 2.0 of 10 is the aim; what needs more says why here, and its figure can only get better.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.nusy.dgx_spark.plugins.module_utils._access import firewall, guard
from ansible_collections.nusy.dgx_spark.plugins.module_utils._engines import texts as engines
from ansible_collections.nusy.dgx_spark.plugins.module_utils._guard import parse, texts
from ansible_collections.nusy.dgx_spark.plugins.module_utils._llama.subject import program as llama
from ansible_collections.nusy.dgx_spark.plugins.module_utils._vllm.subject import program as vllm

ROOT = Path(__file__).resolve().parents[2]
MOST = 2.0


@dataclass(frozen=True)
class Service:
    """A unit as it is installed with the defaults of its role. ``reason``: why its exposure may be ``most``."""

    name: str
    text: str
    most: float = MOST
    reason: str = ""


UNDOING = (
    "it takes back changes of SSH, of the packet filter and of what else stands in the way, as root, when nobody can"
    " log in any more; it is there for seconds, and a limit could be what it fails for"
)


def memory_guard() -> list[Service]:
    wanted = parse.guard({name: option.get("default") for name, option in parse.ARGUMENT_SPEC.items()})
    return [
        # A drop-in for the unit of the distribution, which limits less.
        Service("earlyoom.service", texts.earlyoom(wanted, 64 << 20)),
        Service("spark-load-guard@main.service", texts.load_guard(wanted)),
        Service("spark-pressure-watch.service", texts.pressure_watch(wanted)),
    ]


def of_engines() -> list[Service]:
    """With a start in the place of the one that each engine brings in its drop-in."""
    started = "\n[Service]\nExecStart=/bin/true\n"
    programs = (llama("nusy"), vllm("nusy", ["/var/lib/nusy/cache", "/opt/nusy/.triton"]))
    return [Service(f"{one.prefix}@main.service", engines.template(one) + started) for one in programs]


# Source that has the text of a service → what it writes.
SHIPPED: Mapping[str, Callable[[], list[Service]]] = {
    "plugins/module_utils/_access/firewall.py": lambda: [Service(firewall.UNIT, firewall.SERVICE)],
    "plugins/module_utils/_guard/texts.py": memory_guard,
    "plugins/module_utils/_engines/texts.py": of_engines,
    "plugins/module_utils/_access/guard.py": lambda: [Service(f"{guard.NAME}.service", guard.SERVICE, 9.6, UNDOING)],
}


def exposure(service: Service, directory: Path) -> float:
    path = directory / service.name
    path.write_text(service.text)
    argv = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(path)]
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
    )
    found = re.search(r"Overall exposure level for .*: ([\d.]+) ", done.stdout)
    assert found, done.stdout[-500:] + done.stderr
    return float(found[1])


def sources() -> set[str]:
    """Files that write a service: a line or text that begins with ExecStart and names a program."""
    files = [
        path for part in ("plugins", "roles") for path in (ROOT / part).rglob("*") if path.suffix not in (".md", ".pyc")
    ]
    texts = {path: path.read_text("utf-8", "replace") for path in files if path.is_file()}
    return {
        str(path.relative_to(ROOT))
        for path, text in texts.items()
        if re.search(r"(?m)(?:^ *|f\")ExecStart=[^\s\"']", text)
    }


def test_every_source_of_a_service_is_judged():
    assert sources() == set(SHIPPED), "name what it ships in SHIPPED"


def test_a_service_is_exposed_no_more_than_it_needs(tmp_path):
    for service in (service for ship in SHIPPED.values() for service in ship()):
        found = exposure(service, tmp_path)
        assert found <= service.most, f"{service.name}: {found}"
        assert service.most <= MOST or service.reason, f"{service.name}: why?"


def test_the_judge_tells_an_open_service_from_a_closed_one(tmp_path):
    bare = Service("bare.service", "[Service]\nExecStart=/bin/true\n")
    closed = Service("closed.service", "[Service]\nExecStart=/bin/true\nDynamicUser=yes\nPrivateNetwork=yes\n")
    assert exposure(bare, tmp_path) > 9 > exposure(closed, tmp_path)
