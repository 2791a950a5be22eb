# SPDX-License-Identifier: GPL-3.0-or-later
"""lynis, which knows nothing of this collection, before and after the roles that harden, on a machine booted anew.

docs/hardening.md has its figures, and of each suggestion that is left why it is left. Both are held against what
it says here. Emulated, all of it takes eleven minutes of two cores, or twenty of busy ones: a layer on demand.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TESTS / name) for name in ("machines", "nodes")]

import machine_testing
import machines as machine_control
import testing

PAGE = (TESTS.parent / "docs" / "hardening.md").read_text("utf-8")
ROLES = ("prereqs", "os_hardening", "access")
PLAY = [{"hosts": "all", "gather_facts": False, "roles": [f"nusy.dgx_spark.{role}" for role in ROLES]}]
# No compiler and no tools of the fabric: of prereqs it is the clock that an auditor looks at.
EXTRA = {"access_confirm": ["firewall"], **{f"prereqs_packages_{kind}": [] for kind in ("tools", "build", "fabric")}}
AUDIT_SECONDS = 1800
# Packages come from a folder of the tests, which no rule of lynis takes for an archive of security updates. It asks
# only where there is a sources.list, and whether python-apt has made an empty one by then is a matter of timers.
PROFILE = "debian-skip-security-repository=yes"


@dataclass(frozen=True)
class Audit:
    index: int
    left: frozenset[str]


def audit(machine: testing.Machine) -> Audit:
    machine.run("lynis", "audit", "system", "--quick", "--quiet", "--no-colors", timeout=AUDIT_SECONDS)
    report = machine.read("/var/log/lynis-report.dat")
    found = re.search(r"(?m)^hardening_index=(\d+)$", report)
    assert found
    return Audit(int(found[1]), frozenset(map(name_of, re.findall(r"(?m)^(?:suggestion|warning)\[\]=(.*)$", report))))


def name_of(line: str) -> str:
    """Of what asks about several things under one number (SSH), the thing as well."""
    test, _text, details, *_rest = line.split("|")
    one = re.match(r"(\w+) \(set ", details)
    return f"{test} {one[1]}" if one else test


@pytest.fixture(scope="module")
def machine() -> Iterator[machine_testing.KernelMachine]:
    assert not machine_control.doctor()
    name = f"m{os.getpid()}"
    made = machine_testing.start(name)
    made.shell(f"apt-get install -qq -y --no-install-recommends lynis && echo {PROFILE} > /etc/lynis/custom.prf")
    yield made
    machine_control.down([name])


def test_what_an_auditor_says_before_and_after_is_what_the_page_says(machine, tmp_path):
    before = audit(machine)
    testing.ansible_playbook(PLAY, [machine], tmp_path, extra=EXTRA, timeout=1200).assert_ok()
    machine.restart()
    # Just booted, and emulated: sudo asks PAM, audit and journal, which all begin at once.
    patient = {"ANSIBLE_TIMEOUT": "60"}
    again = testing.ansible_playbook(PLAY, [machine], tmp_path, check=True, extra=EXTRA, env=patient).assert_ok()
    assert again.changed == [], "a boot undid something"
    after = audit(machine)
    page = re.search(r"(?m)^\| Hardening index \| (\d+) \| (\d+) \|$", PAGE)
    assert page and (before.index, after.index) == (int(page[1]), int(page[2]))
    assert after.left == frozenset(re.findall(r"(?m)^\| `([A-Z]+(?:-\d+)?(?: \w+)?)` \|", PAGE))
