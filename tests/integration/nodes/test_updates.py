# SPDX-License-Identifier: GPL-3.0-or-later
"""playbooks/update.yml on three real nodes in three rings, with a real apt: named hosts only, one after the other,
and the first that is not well ends it."""

from __future__ import annotations

import datetime
import json
import os
import shutil
import subprocess
import tempfile

import calls
import pytest
import testing
from apt_repo import AptRepo, Package

ROLES = ("updates",)
PLAY = "playbooks/update.yml"
ROLE = [{"hosts": "all", "gather_facts": False, "roles": ["nusy.dgx_spark.updates"]}]
FILTER = "nusy.dgx_spark.trivy_images"
# A package whose new version cannot be configured on a node that has this file.
BROKEN = "/srv/broken"
NEW = Package(
    "demo", "2.0", postinst=f"#!/bin/sh\nset -e\ntest ! -e {BROKEN}\n", files={"/usr/share/demo/version": "2.0\n"}
)


@pytest.fixture(scope="module")
def rings(make_node):
    """By the names of their rings. The one of the second ring is going to break."""
    return {ring: make_node() for ring in ("broad", "pilot", "wave1")}


@pytest.fixture(scope="module")
def site(rings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("updates")
    groups = {ring: {"hosts": {machine.name: {}}} for ring, machine in rings.items()}
    (folder / "rings.json").write_text(json.dumps({"all": {"children": groups}}))
    for what in ("drained", "returned"):
        task = {"name": what, "ansible.builtin.command": f"touch /srv/{what}", "changed_when": True}
        (folder / f"{what}.yml").write_text(json.dumps([task]))
    repository = AptRepo(f"updates-{os.getpid()}")
    repository.publish([Package("demo", "1.0")])
    for machine in rings.values():
        machine.use(repository)
        machine.run("apt-get", "install", "-q", "-y", "demo")
    repository.publish([NEW])
    for machine in rings.values():
        machine.run("apt-get", "update", "-q")
    yield folder
    repository.remove()


@pytest.fixture
def update(site, rings, ansible_playbook):
    def run(*named, engines=(), **options):
        extra = {
            "llama_cpp_engines": list(engines),
            "updates_engines_wait": 1,
            "updates_confirm": [rings[ring].name for ring in named],
            # A container has no kernel of its own to boot: tests/integration/machines.
            "updates_skip_controls": ["updates/booted"],
            "updates_drain_tasks": str(site / "drained.yml"),
            "updates_return_tasks": str(site / "returned.yml"),
        }
        given = ("-i", str(site / "rings.json"))
        return ansible_playbook(PLAY, list(rings.values()), *given, extra=extra, report=True, **options)

    return run


def version(machine):
    return machine.run("dpkg-query", "--show", "--showformat=${Version}", "demo")


def control(done, machine, name="packages"):
    (host,) = [host for host in done.report["hosts"] if host["name"] == machine.name]
    (found,) = [one for one in host["controls"] if one["id"] == f"updates/{name}"]
    return found


def drifted(done, machine):
    (host,) = [host for host in done.report["hosts"] if host["name"] == machine.name]
    return {one["id"] for one in host["controls"] if one["state"] == "drifted"}


def test_a_check_names_what_is_pending_and_whom_to_name(update, rings):
    done = update(check=True).assert_ok()
    for machine in rings.values():
        found = control(done, machine)
        assert (found["state"], found["blocked_by"]) == ("drifted", f"updates_confirm: [{machine.name}]")
        assert (found["before"]["package demo"], found["after"]["package demo"]) == ("1.0", "2.0")


def test_a_run_that_names_nobody_changes_nothing(update, rings):
    assert update().assert_ok().changed == []
    assert {version(machine) for machine in rings.values()} == {"1.0"}


def test_the_first_host_that_fails_ends_it_and_stays_out_of_service(update, rings):
    rings["wave1"].run("touch", BROKEN)
    done = update("pilot", "wave1", "broad")
    assert done.rc != 0
    # The order of the rings, not that of the inventory.
    assert (version(rings["pilot"]), version(rings["broad"])) == ("2.0", "1.0")
    assert rings["pilot"].ok("test", "-e", "/srv/returned")
    assert rings["wave1"].ok("test", "-e", "/srv/drained") and not rings["wave1"].ok("test", "-e", "/srv/returned")
    assert not rings["broad"].ok("test", "-e", "/srv/drained")
    assert control(done, rings["pilot"])["state"] == "in_sync" and control(done, rings["pilot"])["repaired"]
    assert "dpkg --configure -a" in done.stdout


@pytest.mark.breaks("updates/dpkg", "updates/packages")
def test_what_was_cut_off_is_finished_and_the_rest_follows(update, rings):
    rings["wave1"].run("rm", BROKEN)
    done = update(check=True).assert_ok()
    assert drifted(done, rings["wave1"]) == {"updates/dpkg"} and drifted(done, rings["pilot"]) == set()
    assert "demo" in control(done, rings["wave1"], "dpkg")["before"]["what dpkg has begun"]
    assert drifted(done, rings["broad"]) == {"updates/packages"}
    # Upgraded, and of no use to anybody: it stays out of service, and no other host is touched.
    silent = update("pilot", "wave1", "broad", engines=[{"name": "swarm", "model": "/srv/m.gguf", "port": 8081}])
    assert silent.rc and "http://127.0.0.1:8081/v1" in silent.stdout and version(rings["wave1"]) == "2.0"
    assert not rings["wave1"].ok("test", "-e", "/srv/returned") and version(rings["broad"]) == "1.0"
    update("pilot", "wave1", "broad").assert_ok()
    assert {version(machine) for machine in rings.values()} == {"2.0"}
    assert update("pilot", "wave1", "broad").assert_ok().changed == []


def test_what_nobody_can_tell_of_a_named_host_ends_it(update, rings):
    rings["pilot"].write("/etc/apt/sources.list.d/bad.list", "deb nonsense\n")
    done = update("pilot", "wave1")
    rings["pilot"].run("rm", "/etc/apt/sources.list.d/bad.list")
    assert done.rc != 0 and f"{rings['pilot'].name} is not well: updates/security" in done.stdout
    assert not done.of(host=rings["wave1"].name, action="updates")


@pytest.fixture(scope="module")
def podman(tmp_path_factory):
    """The real podman of the machine that carries the nodes, with a store of its own and one image that was built."""
    folder = tmp_path_factory.mktemp("podman")
    # Podman refuses a folder for what runs whose name has more than 50 characters.
    running = tempfile.mkdtemp(dir="/run")
    asked = ["podman", "--root", f"{folder}/root", "--runroot", running, "--storage-driver", "vfs"]
    (folder / "file").write_text("demo")
    subprocess.run(["tar", "-C", folder, "-cf", folder / "image.tar", "file"], check=True)

    def said(*arguments):
        return subprocess.run([*asked, *arguments], check=True, capture_output=True, text=True).stdout

    said("import", str(folder / "image.tar"), "localhost/demo:1")
    ids = said("images", "--quiet", "--no-trunc")
    yield ids, said("image", "inspect", *ids.split())
    said("rmi", "--all", "--force")
    shutil.rmtree(running)


@pytest.mark.names("updates/images")
def test_what_is_vulnerable_is_told_alone_and_images_by_the_scans_that_are_given(rings, podman, tmp_path):
    """On the node podman is a stand-in that says what the real one said. Nothing is changed, check or not."""
    ids, about = podman
    machine = rings["pilot"]
    machine.shell("mkdir -p /srv/podman /var/lib/containers/storage")
    for name, text in (("images", ids), ("image", about)):
        machine.write(f"/srv/podman/{name}", text)
    machine.write("/usr/bin/podman", '#!/bin/sh\nexec cat "/srv/podman/$1"\n')
    machine.shell("chmod 755 /usr/bin/podman")

    def judged(identity, *found):
        report = {
            "SchemaVersion": 2,
            "CreatedAt": datetime.datetime.now(datetime.UTC).isoformat(),
            "ArtifactName": "demo",
            "ArtifactType": "container_image",
            "Metadata": {"ImageID": identity},
            "Results": [{"Vulnerabilities": [*found]}],
        }
        (tmp_path / "scan.json").write_text(json.dumps(report))
        scans = f"{{{{ [lookup('ansible.builtin.file', '{tmp_path}/scan.json') | from_json] | {FILTER} }}}}"
        play = "playbooks/vulnerabilities.yml"
        done = testing.ansible_playbook(play, [machine], tmp_path, extra={"updates_images": scans}, report=True)
        assert done.assert_ok().changed == []
        (host,) = done.report["hosts"]
        selected = {one["id"] for one in host["controls"] if one["state"] != "not_selected"}
        assert selected == {"updates/security", "updates/images"}
        return control(done, machine, "images")

    bad = {"VulnerabilityID": "CVE-2026-1", "PkgName": "demo", "Severity": "CRITICAL"}
    assert judged("sha256:" + "0" * 64)["state"] == "unknown"
    found = judged(ids.strip(), bad)
    assert found["state"] == "drifted" and found["before"] == {"image localhost/demo:1": "1 known"}
    assert "CVE-2026-1" in found["reason"]
    assert judged(ids.strip())["state"] == "in_sync"


def test_a_report_of_the_site_says_it_in_one_call(rings, tmp_path):
    machine = rings["pilot"]
    before = calls.as_root(machine.name)
    done = testing.ansible_playbook("site.yml", [machine], tmp_path, "--tags", "updates", check=True).assert_ok()
    calls.keep_the_promise(done, machine, ROLES, calls.as_root(machine.name) - before)


# --- what no new package shows -------------------------------------------------------------------

GUID = "3f4b2c1e-0000-4000-8000-00000000c0de"
# Stand-ins, since no node has fwupd or the Dashboard. The level is new as soon as the package is.
FWUPDMGR = f"""#!/bin/sh
[ "$1" = update ] && test "$2" = {GUID} && echo 2 > /srv/firmware
version=$(cat /srv/firmware)
test "$version" = 2 || newer='"Releases": [{{"Version": "2", "Flags": ["is-upgrade"]}}],'
echo '{{"Devices": [{{"Name": "demo",' "$newer" '"Version": "'$version'", "Guid": ["{GUID}"]}}]}}'
"""
BUSCTL = """#!/bin/sh
case "$(dpkg-query -W demo)" in *$(cat /srv/level)) behind=false name= ;; *) behind=true name=OTA3 ;; esac
echo "ssbbs \\"ready\\" \\"2026-01-01T00:00:00Z\\" true $behind \\"$name\\""
"""


@pytest.fixture(scope="module")
def adopted(rings, site):
    """A node with a Dashboard and fwupd, all of it up to date."""
    machine = rings["pilot"]
    machine.write("/etc/dgx-release", 'DGX_NAME="DGX Spark"\n')
    machine.write("/srv/firmware", "2\n")
    machine.write("/usr/bin/fwupdmgr", FWUPDMGR, "0755")
    machine.write("/srv/busctl", BUSCTL, "0755")
    machine.shell("echo 2.0 > /srv/level; mount --bind /srv/busctl /usr/bin/busctl")
    return machine


def looked_at(machine, folder, *, check, **extra):
    """The role alone. State → controls."""
    given = {"updates_skip_controls": ["updates/booted"], "updates_firmware": True, **extra}
    done = testing.ansible_playbook(ROLE, [machine], folder, check=check, extra=given).assert_ok()
    (entry,) = done.of(action="updates")
    found = {}
    for one in entry["result"]["controls"]:
        found.setdefault(one["state"], set()).add(one["id"].removeprefix("updates/"))
    return found


SECURITY = AptRepo(f"security-{os.getpid()}", label="Debian-Security")
DAMAGE = {
    "security": f"echo '{SECURITY.source}' > /etc/apt/sources.list.d/security.list; apt-get update -q",
    "firmware": "echo 1 > /srv/firmware",
    "ota_level": "echo 3.0 > /srv/level",
    "lists": "touch -d '-3 days' /var/lib/apt/lists; rm -f /var/lib/apt/periodic/update-success-stamp",
}


@pytest.mark.breaks(*DAMAGE, role="updates")
def test_what_is_behind_in_another_way_is_named_and_made(adopted, tmp_path):
    SECURITY.publish([Package("demo", "3.0")])
    try:
        # Also where somebody has held it, and then it waits for them.
        adopted.shell(f"{DAMAGE['security']}; apt-mark hold demo")
        assert looked_at(adopted, tmp_path, check=True)["drifted"] == {"security"}
        adopted.shell("; ".join(["apt-mark unhold demo", *DAMAGE.values()]))
        found = looked_at(adopted, tmp_path, check=True)
        # Old lists still say what is pending, and no longer that nothing else is.
        assert (found["drifted"], found["unknown"]) == ({*DAMAGE}, {"packages"})
        looked_at(adopted, tmp_path, check=False, updates_confirm=[adopted.name, GUID])
        assert looked_at(adopted, tmp_path, check=True).keys() == {"in_sync", "not_selected"}
        assert (version(adopted), adopted.read("/srv/firmware")) == ("3.0", "2\n")
    finally:
        SECURITY.remove()


def test_a_refresh_that_no_server_answered_is_none(adopted, tmp_path):
    """By itself apt-get ends with 0 then, and nothing would ever be pending on a node that lost its mirror."""
    sources = "/etc/apt/sources.list.d"
    adopted.shell(f"rm -f {sources}/security.list; mv {sources} /srv/sources; mkdir {sources}")
    adopted.write(f"{sources}/gone.list", "deb [trusted=yes] http://127.0.0.1:1/ ./\n")
    adopted.shell(f"{DAMAGE['lists']}; apt-get update -q")
    found = looked_at(adopted, tmp_path, check=True)
    assert (found["drifted"], found["unknown"]) == ({"lists"}, {"security", "packages"})
    extra = {"updates_confirm": [adopted.name]}
    done = testing.ansible_playbook(ROLE, [adopted], tmp_path, extra=extra)
    (entry,) = done.of(action="updates")
    assert done.rc != 0 and "Unable to connect" in entry["result"]["error"]["found"]
    adopted.shell(f"rm -r {sources}; mv /srv/sources {sources}")
    looked_at(adopted, tmp_path, check=False, **extra)
    assert looked_at(adopted, tmp_path, check=True).keys() == {"in_sync", "not_selected"}
