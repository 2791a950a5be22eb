# SPDX-License-Identifier: GPL-3.0-or-later
"""Which images are known to be vulnerable, which are known not to be, and which nobody knows anything of."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._updates import images, scans
from ansible_collections.nusy.dgx_spark.plugins.module_utils._updates.subject import ARGUMENT_SPEC, ensure_updates

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "_state"))

from fake_node import FakeNode

SERVED, BUILT = "a" * 64, "b" * 64
INDEX = "sha256:" + "c" * 64
NOW = time.time()
TODAY = time.strftime("%Y-%m-%dT%H:%M:%S.123456789+00:00", time.gmtime(NOW))
# As podman 4.3.1 prints it; Docker's has "sha256:" before the id, and no digest for an image that was built.
PULLED = {"Id": SERVED, "RepoTags": ["nvcr.io/nvidia/vllm:26.05-py3"], "Architecture": "arm64",
          "RepoDigests": [f"nvcr.io/nvidia/vllm@{INDEX}"]}  # fmt: skip
LOCAL = {"Id": f"sha256:{BUILT}", "RepoTags": [], "RepoDigests": [], "Architecture": "arm64"}
FOUND = {"VulnerabilityID": "CVE-2026-1", "PkgName": "openssl", "InstalledVersion": "3.0.2", "FixedVersion": "3.0.3",
         "Severity": "HIGH"}  # fmt: skip


def report(*found: dict[str, Any], identity: str = SERVED, **given: Any) -> dict[str, Any]:
    about = {"ImageID": f"sha256:{identity}", "RepoDigests": [], "ImageConfig": {"architecture": "arm64"}}
    results = [{"Target": "x", "Class": "os-pkgs", "Vulnerabilities": [*found]}, {"Target": "no findings"}]
    return {"SchemaVersion": 2, "CreatedAt": TODAY, "ArtifactName": "vllm", "ArtifactType": "container_image",
            "Metadata": about, "Results": results, **given}  # fmt: skip


class Node(FakeNode):
    def __post_init__(self) -> None:
        super().__post_init__()
        self.held: dict[str, list[dict[str, Any]]] = {}
        self.asked: list[str] = []
        self.runs = True

    def engine(self, name: str, *held: dict[str, Any]) -> Node:
        self.put(f"/usr/bin/{name}", mode=0o755)
        self.held[name] = [*held]
        if name == "podman":
            self.put("/var/lib/containers/storage", kind="directory", mode=0o700)
        return self

    def _answer(self, name: str, args: list[str]) -> tuple[int, str, str]:
        self.asked.append(name)
        if args[0] == "images":
            return 0, "".join(f"sha256:{one['Id'][-64:]}\n" for one in self.held[name]), ""
        return 0, json.dumps([one for one in self.held[name] if f"sha256:{one['Id'][-64:]}" in args]), ""

    def tool_docker(self, args: list[str]) -> tuple[int, str, str]:
        return self._answer("docker", args)

    def tool_podman(self, args: list[str]) -> tuple[int, str, str]:
        return self._answer("podman", args)

    def tool_systemctl(self, args: list[str]) -> tuple[int, str, str]:
        return (0 if self.runs else 3), "", ""


def verdicts(node: Node, *reports: dict[str, Any], severity: str = "HIGH", age: float = 14.0) -> dict[str, Any]:
    given = [scans.scan(one, "x") for one in scans.short(reports, severity)]
    return {one.name: one for one in images.judged(node, given, age * 86400, NOW)}


NAME, OTHER = "image nvcr.io/nvidia/vllm:26.05-py3", f"image sha256:{BUILT[:12]}"


@pytest.mark.parametrize("engine", ["docker", "podman"])
def test_an_image_is_judged_by_its_digest_and_one_without_a_scan_is_unknown_by_name(engine: str) -> None:
    node = Node().engine(engine, PULLED, LOCAL)
    found = verdicts(node, report(FOUND))
    assert {name: one.state for name, one in found.items()} == {NAME: "drifted", OTHER: "unknown"}
    assert found[NAME].reason.endswith("CVE-2026-1 (HIGH, openssl 3.0.2, fixed in 3.0.3)")
    assert BUILT in found[OTHER].reason
    clean = verdicts(node, report(), report(identity=BUILT))
    assert {name: one.state for name, one in clean.items()} == {NAME: "in_sync", OTHER: "in_sync"}


def test_a_tag_says_nothing_and_a_digest_only_with_its_architecture() -> None:
    node = Node().engine("docker", PULLED)
    same = {"ImageID": "sha256:" + "d" * 64, "RepoTags": PULLED["RepoTags"]}
    assert verdicts(node, report(Metadata=same))[NAME].state == "unknown"
    by_digest = {**same, "RepoDigests": [f"mirror.test/vllm@{INDEX}"], "ImageConfig": {"architecture": "arm64"}}
    assert verdicts(node, report(FOUND, Metadata=by_digest))[NAME].state == "drifted"
    by_digest["ImageConfig"] = {"architecture": "amd64"}
    assert verdicts(node, report(Metadata=by_digest))[NAME].state == "unknown"


def test_the_newest_scan_counts_and_an_old_clean_one_says_nothing() -> None:
    node = Node().engine("docker", PULLED)
    old = "2026-01-02T03:04:05Z"
    assert verdicts(node, report(FOUND, CreatedAt=old), report())[NAME].state == "in_sync"
    assert verdicts(node, report(CreatedAt=old))[NAME].state == "unknown"
    # What an old one has found has not gone since.
    assert verdicts(node, report(FOUND, CreatedAt=old))[NAME].state == "drifted"


@pytest.mark.parametrize(
    ("severity", "threshold", "counts"),
    [("HIGH", "HIGH", True), ("MEDIUM", "HIGH", False), ("HIGH", "CRITICAL", False), ("UNKNOWN", "CRITICAL", True),
     ("LOW", "LOW", True)],
)  # fmt: skip
def test_what_counts_is_chosen_and_what_nobody_rated_counts(severity: str, threshold: str, counts: bool) -> None:
    node = Node().engine("docker", PULLED)
    state = verdicts(node, report({**FOUND, "Severity": severity}), severity=threshold)[NAME].state
    assert state == ("drifted" if counts else "in_sync")


def test_the_worst_is_told_first_and_the_same_once() -> None:
    many = [{**FOUND, "VulnerabilityID": f"CVE-2026-{n}"} for n in range(6)]
    found = scans.short(
        [report(*many, *many, {**FOUND, "Severity": "CRITICAL", "VulnerabilityID": "CVE-2026-9"})], "HIGH"
    )
    assert [one["id"] for one in found[0]["findings"]][:2] == ["CVE-2026-9", "CVE-2026-0"]
    node = Node().engine("docker", PULLED)
    one = verdicts(node, report(*many))[NAME]
    assert one.found == "6 known" and one.reason.endswith("and 2 more")


def test_an_engine_that_does_not_answer_is_unknown_and_one_that_never_ran_is_not_asked() -> None:
    node = Node().engine("docker", PULLED)
    node.runs = False
    assert verdicts(node, report())["images of docker"].state == "unknown" and node.asked == []
    node = Node().engine("podman", PULLED)
    del node.files["/var/lib/containers/storage"]
    assert verdicts(node, report())["images of podman"].state == "in_sync" and node.asked == []
    node.put("/etc/containers/storage.conf", '[storage]\ngraphroot = "/data/images"\n')
    node.put("/data/images", kind="directory")
    assert verdicts(node, report())[NAME].state == "in_sync"
    node.held["podman"] = [{**PULLED, "Id": "no id"}]
    assert verdicts(node, report())["images of podman"].state == "unknown"
    assert verdicts(Node(), report()) == {}


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        [],
        report(SchemaVersion=1),
        report(ArtifactType="filesystem"),
        report(CreatedAt=""),
        report(CreatedAt="yesterday"),
        report(Metadata={}),
    ],
)
def test_what_is_no_report_of_an_image_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="entry 1"):
        scans.short([report(), wrong], "HIGH")


def subject(**given: Any) -> Any:
    defaults = {name: option.get("default") for name, option in ARGUMENT_SPEC.items()}
    return ensure_updates({**defaults, "host": "spark-1", **given})


def test_without_scans_images_are_not_asked_for_and_with_them_a_run_does_not_fail() -> None:
    node = Node().engine("docker", PULLED)
    node.put("/usr/bin/apt-get", mode=0o755)

    def control(**given: Any) -> Any:
        (found,) = [one for one in subject(**given).plan(node).controls if one.id == "updates/images"]
        return found

    assert control().state == "not_selected" and "docker" not in node.asked
    found = control(images=scans.short([report(FOUND)], "HIGH"))
    # Another image makes it true, and nothing of a run of this role.
    assert (found.state, found.unmet) == ("drifted", ())


@pytest.mark.parametrize(
    "given",
    [
        {"images": [{"name": "x", "ids": [], "digests": [], "architecture": "", "scanned": "never", "findings": []}]},
        {"images_max_age_days": 0},
    ],
)
def test_a_scan_that_makes_no_sense_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        subject(**given)
