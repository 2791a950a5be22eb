# SPDX-License-Identifier: GPL-3.0-or-later
"""The packages of several controls in one transaction of apt, on a real node, and whose fault it is when that fails."""

from __future__ import annotations

from collections.abc import Iterator

import apt_repo
import pytest
import testing

REPOSITORY = apt_repo.AptRepo("together")
BAD = "#!/bin/sh\n[ ! -e /run/t-bad ] || { echo t-bad has its reasons >&2; exit 1; }\n"
NAMES = ("t-one", "t-two", "t-bad", "t-three")
# Everybody's apt-get from now on: notes what it was called with.
NOTE = '#!/bin/sh\necho "$*" >> /run/apt-get.log\nexec /usr/bin/apt-get.distrib "$@"\n'
CONTROLS = [
    {"id": "together/first", "packages": ["t-one", "t-two"]},
    {"id": "together/bad", "packages": ["t-bad"]},
    {"id": "together/last", "packages": ["t-three"]},
]


@pytest.fixture(scope="module")
def apart(make_node) -> Iterator[testing.Machine]:
    REPOSITORY.publish([apt_repo.Package(name, postinst=BAD if name == "t-bad" else "") for name in NAMES])
    machine = make_node()
    machine.use(REPOSITORY)
    machine.shell("dpkg-divert --quiet --local --rename /usr/bin/apt-get")
    machine.write("/usr/bin/apt-get", NOTE)
    machine.run("chmod", "755", "/usr/bin/apt-get")
    yield machine
    REPOSITORY.remove()


@pytest.fixture
def bare(apart) -> testing.Machine:
    apart.shell(f"rm -f /run/t-bad; apt-get purge -qy {' '.join(NAMES)}; : > /run/apt-get.log")
    return apart


def play(*controls: dict[str, object], **options: object) -> list[dict[str, object]]:
    task = {"name": "Run", "nusy.dgx_spark.ensure_state": {"role": "together", "controls": list(controls), **options}}
    return [{"hosts": "all", "gather_facts": False, "tasks": [task]}]


def calls(node: testing.Machine) -> list[str]:
    """What apt-get was asked since the last time: the verb, and the names."""
    noted = [line.split() for line in node.read("/run/apt-get.log").splitlines()]
    node.write("/run/apt-get.log", "")
    found = []
    for words in noted:
        verb = "look" if "--simulate" in words else next(v for v in ("install", "update") if v in words)
        found.append(" ".join([verb, *(words[words.index("--") + 1 :] if "--" in words else ())]))
    return found


def there(node: testing.Machine) -> set[str]:
    shown = node.shell("dpkg-query --show --showformat='${Package} ${db:Status-Abbrev}\\n' 't-*'", check=False)
    return {line.split()[0] for line in shown.splitlines() if line.split()[1] == "ii"}


def test_one_look_and_one_installation_for_all_controls(bare, ansible_playbook):
    look = ansible_playbook(play(*CONTROLS), [bare], check=True).assert_ok()
    assert calls(bare) == ["look t-one t-two t-bad t-three"]
    assert look.of(task="Run")[0]["result"]["plan"] == ["install_packages t-one t-two t-bad t-three"]
    run = ansible_playbook(play(*CONTROLS), [bare]).assert_ok()
    assert calls(bare) == [
        "look t-one t-two t-bad t-three",
        "look t-one t-two t-bad t-three",
        "install t-one t-two t-bad t-three",
    ]
    (looked,), (ran,) = look.of(task="Run"), run.of(task="Run")
    for key in ("controls", "plan", "diff"):
        assert looked["result"][key] == ran["result"][key]
    assert there(bare) == {*NAMES}


def test_the_error_is_of_the_control_whose_package_breaks(bare, ansible_playbook):
    bare.write("/run/t-bad", "")
    run = ansible_playbook(play(*CONTROLS), [bare])
    (failed,) = run.of(task="Run")
    assert failed["result"]["error"]["wanted"] == "To install t-bad", failed["result"]["msg"]
    left = {control["id"]: control["state"] for control in failed["result"]["left"]}
    assert left == {"together/first": "in_sync", "together/bad": "drifted", "together/last": "in_sync"}
    bare.run("rm", "/run/t-bad")
    ansible_playbook(play(*CONTROLS), [bare]).assert_ok()
    assert there(bare) == {*NAMES}


def test_a_name_that_nobody_has_keeps_no_earlier_control_from_its_packages(bare, ansible_playbook):
    unknown = {"id": "together/unknown", "packages": ["t-nobody"]}
    controls = (CONTROLS[0], unknown, CONTROLS[2])
    look = ansible_playbook(play(*controls), [bare], check=True).assert_ok()
    reasons = {control["id"]: control["reason"] for control in look.of(task="Run")[0]["result"]["controls"]}
    assert reasons.pop("together/unknown").startswith("no repository has t-nobody; a run refreshes the package lists")
    assert set(reasons.values()) == {""}
    (failed,) = ansible_playbook(play(*controls), [bare]).of(task="Run")
    assert "no repository has t-nobody" in failed["result"]["error"]["found"]
    assert there(bare) == {"t-one", "t-two"}


def test_packages_first_makes_one_of_what_files_stand_between(bare, ansible_playbook):
    between = {"id": "together/file", "files": [{"path": "/etc/t.conf", "content": "x"}]}
    controls = (CONTROLS[0], between, CONTROLS[1], CONTROLS[2])
    ansible_playbook(play(*controls), [bare]).assert_ok()
    assert calls(bare)[-1] == "install t-bad t-three" and there(bare) == {*NAMES}
    bare.shell(f"apt-get purge -qy {' '.join(NAMES)}; rm /etc/t.conf; : > /run/apt-get.log")
    ansible_playbook(play(*controls, packages_first=True), [bare]).assert_ok()
    assert [call for call in calls(bare) if call.startswith("install")] == ["install t-one t-two t-bad t-three"]
    assert there(bare) == {*NAMES} and bare.read("/etc/t.conf") == "x\n"
