# SPDX-License-Identifier: GPL-3.0-or-later
"""What is declared about models is taken exactly or refused with its place; what is there is judged by its inodes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._models import problems, store
from ansible_collections.nusy.dgx_spark.plugins.module_utils._models.model import (
    ARGUMENT_SPEC,
    GIB,
    PLACES,
    Model,
    Wish,
    secrets,
    wish,
)

COMMIT = "a" * 40
FILE = {"path": "config.json", "size": 2, "sha256": "b" * 64}
ENTRY: dict[str, Any] = {
    "name": "tiny", "repository": "acme/tiny", "revision": COMMIT, "files": [FILE], "licence": "mit", "gated": False,
    "quantisation": "",
}  # fmt: skip
TIER = {
    "name": "a", "path": "/srv/a", "owner": "", "mode": "", "free_gib": 1, "file_systems": [], "mounted": None,
}  # fmt: skip


def declared(**given: Any) -> Wish:
    return wish({**{name: option.get("default") for name, option in ARGUMENT_SPEC.items()}, **given})


def test_it_is_taken_as_declared() -> None:
    found = declared(models=[ENTRY], peers=["nusy@spark-1:/srv/models/", "/media/disk"], tiers=[TIER], reserve_gib=3)
    (model,) = found.models
    assert found.folder(model) == f"/srv/models/tiny/{COMMIT}" and model.size == 2
    assert found.peers == ("nusy@spark-1:/srv/models", "/media/disk") and found.reserve == 3 * GIB
    assert (found.tiers[0].owner, found.tiers[0].mode, found.tiers[0].free) == ("nusy", 0o750, GIB)


def test_six_places_are_complete_with_their_name() -> None:
    found = declared(root="/srv/raid/models", tiers=[{**TIER, "name": name, "path": ""} for name in PLACES])
    assert {tier.name: (tier.path, tier.mode, tier.mounted) for tier in found.tiers} == {
        "hot_models": ("/srv/raid/models", 0o755, False),
        "checkpoints": ("/srv/checkpoints", 0o750, False),
        "knowledge_graphs": ("/srv/knowledge-graphs", 0o750, False),
        "vector_indexes": ("/srv/vector-indexes", 0o750, False),
        "artifacts": ("/srv/artifacts", 0o750, False),
        "cold_archive": ("/srv/archive", 0o750, True),
    }


def test_what_a_tier_says_counts_before_its_name() -> None:
    said = {"path": "/nas", "mode": "2770", "owner": "qdrant", "file_systems": ["nfs4"], "mounted": False}
    (tier,) = declared(tiers=[{**TIER, "name": "cold_archive", **said}]).tiers
    assert (tier.path, tier.mode, tier.owner, tier.mounted) == ("/nas", 0o2770, "qdrant", False)
    assert tier.file_systems == ("nfs4",)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"models": [{**ENTRY, "name": "../x"}]}, "manifest[0].name"),
        ({"models": [{**ENTRY, "repository": "tiny"}]}, "manifest[0].repository"),
        ({"models": [{**ENTRY, "revision": "main"}]}, "manifest[0].revision"),
        ({"models": [{**ENTRY, "files": []}]}, "manifest[0].files"),
        ({"models": [{**ENTRY, "licence": " "}]}, "manifest[0].licence"),
        ({"models": [ENTRY, ENTRY]}, "manifest[1].name"),
        ({"models": [{**ENTRY, "files": [{**FILE, "path": "../../etc/passwd"}]}]}, "manifest[0].files[0].path"),
        ({"models": [{**ENTRY, "files": [{**FILE, "path": "/etc/passwd"}]}]}, "manifest[0].files[0].path"),
        ({"models": [{**ENTRY, "files": [{**FILE, "path": "a\nb"}]}]}, "manifest[0].files[0].path"),
        ({"models": [{**ENTRY, "files": [{**FILE, "path": ".nusy-snapshot.json"}]}]}, "manifest[0].files[0].path"),
        ({"models": [{**ENTRY, "files": [{**FILE, "path": ".nusy-snapshot.json/x"}]}]}, "manifest[0].files[0].path"),
        ({"models": [{**ENTRY, "files": [{**FILE, "path": "..nusy-snapshot.json.new"}]}]}, "manifest[0].files[0].path"),
        ({"models": [{**ENTRY, "files": [{**FILE, "path": "é" * 128}]}]}, "manifest[0].files[0].path"),
        ({"models": [{**ENTRY, "files": [{**FILE, "size": -1}]}]}, "manifest[0].files[0].size"),
        # No clock counts the seconds that such a file may take.
        ({"models": [{**ENTRY, "files": [{**FILE, "size": 10**18}]}]}, "manifest[0].files[0].size"),
        (
            {"models": [{**ENTRY, "files": [FILE, {**FILE, "path": "b", "size": FILE["size"] + 1}]}]},
            "manifest[0].files[1].size",
        ),
        ({"models": [{**ENTRY, "files": [{**FILE, "sha256": "B" * 64}]}]}, "manifest[0].files[0].sha256"),
        ({"models": [{**ENTRY, "files": [FILE, FILE]}]}, "manifest[0].files[1].path"),
        ({"models": [{**ENTRY, "files": [{**FILE, "path": p} for p in ("a", "a/b")]}]}, "manifest[0].files[0].path"),
        ({"endpoint": "https://user:secret@hub.example.org"}, "endpoint"),
        ({"endpoint": "http://hub.example.org", "token": "hf_x"}, "endpoint"),
        ({"endpoint": "http://127.example.org", "token": "hf_x"}, "endpoint"),
        ({"endpoint": "http://localhost.example.org", "token": "hf_x"}, "endpoint"),
        ({"endpoint": "http://127.0.0.1.example.org", "token": "hf_x"}, "endpoint"),
        ({"endpoint": "https://hub\x00"}, "endpoint"),
        ({"token": "hf_secret\n"}, "token"),
        ({"peers": ["-e sh:/srv"]}, "peers[0]"),
        ({"peers": ["host:relative"]}, "peers[0]"),
        ({"reserve_gib": -1}, "reserve_gib"),
        ({"root": "/srv/../etc"}, "root"),
        ({"python": "python3"}, "python"),
        ({"tiers": [{**TIER, "mode": "rwx"}]}, "tiers[0].mode"),
        *(({"tiers": [{**TIER, "mode": mode}]}, "tiers[0].mode") for mode in ("0777", "1777", "702")),
        *(
            ({"tiers": [{**TIER, "path": path}]}, "tiers[0].path")
            for path in ("/etc", "/etc/x", "/usr/local/models", "/srv", "/home", "/var", "/var/lib", "/var/log")
        ),
        *(
            ({"tiers": [{**TIER, "path": path}]}, "tiers[0].path")
            for path in ("/run/x", "/var/lib/dpkg", "/var/lib/nusy/x", "/root", "/tmp")
        ),
        ({"root": "/etc"}, "root"),
        ({"root": "/opt"}, "root"),
        ({"proxy": "socks5://:secret@proxy"}, "proxy"),
        ({"proxy": "http://u:secret@proxy:port"}, "proxy"),
        ({"proxy": "http://u:se/cret@proxy"}, "proxy"),
        ({"proxy": "http://u:secret\n@proxy"}, "proxy"),
        ({"no_proxy": ["a,b"]}, "no_proxy[0]"),
        ({"tiers": [{**TIER, "free_gib": -1}]}, "tiers[0].free_gib"),
        ({"tiers": [{**TIER, "path": ""}]}, "tiers[0].path"),
        ({"tiers": [TIER, TIER]}, "tiers[1].name"),
        ({"tiers": [{**TIER, "name": "artifacts", "path": ""}, {**TIER, "path": "/srv/artifacts"}]}, "tiers[1].path"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_its_place(change: dict[str, Any], place: str) -> None:
    with pytest.raises(InputError) as caught:
        declared(**change)
    problem = caught.value.problem
    assert "hf_secret" not in str(caught.value)
    assert problem.wanted.startswith(f"{place}: ") and problem.fix == f"correct models_{place}"
    assert "secret" not in problem.found or place not in ("token", "proxy")


@pytest.mark.parametrize(
    "endpoint", ["http://127.0.0.1:8080", "http://localhost/hub", "http://[::1]:1", "https://x.test"]
)
def test_a_token_is_sent_by_tls_or_to_this_machine(endpoint: str) -> None:
    assert declared(endpoint=endpoint, token="hf_x").endpoint == endpoint


@pytest.mark.parametrize("path", ["/srv/a", "/nas", "/home/nusy/models", "/var/lib/models", "/etcetera", "/mnt/disk"])
def test_a_folder_of_its_own_is_taken(path: str) -> None:
    assert declared(root=path, tiers=[{**TIER, "path": path}]).tiers[0].path == path


def test_of_a_proxy_nothing_is_shown_in_any_spelling() -> None:
    given = "http://site:p%40ss%20word@proxy.example.org:3128/"
    found = declared(proxy=given, no_proxy=[".example.org"], endpoint="http://127.0.0.9/hub")
    assert found.proxy == given.rstrip("/") and "p%40ss" not in repr(found)
    # A token may be sent there without TLS, so it is never sent by way of a proxy.
    assert found.no_proxy == (".example.org", "127.0.0.9")
    hidden = set(secrets({"token": "hf_x", "proxy": given}))
    assert hidden == {"hf_x", given, "site:p%40ss%20word", "p%40ss%20word", "p@ss word"}
    assert set(secrets({"token": "", "proxy": "http://proxy.example.org"})) == {""}


@pytest.mark.parametrize(
    ("failure", "key"),
    [
        ({"kind": "GatedRepoError", "status": 403}, "models.not_allowed"),
        ({"kind": "RepositoryNotFoundError", "status": 401}, "models.no_repository"),
        ({"kind": "RevisionNotFoundError", "status": 404}, "models.no_revision"),
        ({"kind": "RemoteEntryNotFoundError", "status": 404}, "models.no_file"),
        ({"kind": "HfHubHTTPError", "status": 503}, "models.hub_failed"),
        ({"kind": "HfHubHTTPError", "status": 429}, "models.hub_failed"),
        ({"kind": "ConnectError", "status": 0}, "models.unreachable"),
        ({"kind": "ReadTimeout", "status": 0}, "models.unreachable"),
        ({"kind": "ProxyError", "status": 0}, "models.proxy"),
        ({"kind": "HfHubHTTPError", "status": 407}, "models.proxy"),
        ({"kind": "OSError", "status": 0, "errno": 28}, "models.disk_full"),
        ({"kind": "OSError", "status": 0, "said": "Consistency check failed: …"}, "models.hash"),
        ({"kind": "MoreThanDeclared", "status": 0}, "models.hash"),
        ({"kind": "NoLibrary", "status": 0}, "models.no_client"),
        ({"kind": "ValueError", "status": 0}, "models.fetch_failed"),
    ],
)
def test_what_a_hub_does_is_told_with_what_to_do(failure: dict[str, Any], key: str) -> None:
    wanted = declared(models=[ENTRY])
    failed = {"path": "config.json", "errno": 0, "said": "it said so", **failure}
    problem = problems.hub(wanted.models[0], wanted, [failed], os.statvfs("/")).problem
    assert problem.key == key and all((problem.wanted, problem.found, problem.why, problem.fix))


def made(folder: Path) -> Model:
    """A snapshot as it would be published, but for its label."""
    (folder / "sub").mkdir(parents=True)
    (folder / "sub/x").write_bytes(b"hello")
    (folder / "sub/x").chmod(0o444)
    for place in (folder / "sub", folder):
        place.chmod(0o555)
    digest = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"  # sha256 of hello
    return declared(models=[{**ENTRY, "files": [{"path": "sub/x", "size": 5, "sha256": digest}]}]).models[0]


def test_a_folder_is_judged_file_by_file(tmp_path: Path) -> None:
    folder = tmp_path / "snapshot"
    model = made(folder)
    found = store.inspect(str(folder), model, os.geteuid())
    assert (found.state, found.label, dict(found.wrong), found.extra, found.open) == ("there", None, {}, (), ())
    folder.chmod(0o755)
    (folder / "y").write_text("")
    (folder / "empty").mkdir()
    (folder / "sub/x").chmod(0o644)
    (folder / "sub/x").write_bytes(b"hullo")
    found = store.inspect(str(folder), model, os.geteuid())
    assert dict(found.wrong) == {"sub/x": "other content"} and set(found.extra) == {"y", "empty"}
    assert set(found.open) == {".", "empty", "sub/x"}
    assert store.inspect(str(tmp_path / "no"), model, 0).wrong == {"sub/x": "absent"}
    (tmp_path / "link").symlink_to(folder)
    assert store.inspect(str(tmp_path / "link"), model, 0).state == "a link"


def test_what_lies_beside_is_somebodys(tmp_path: Path) -> None:
    (tmp_path / "theirs" / COMMIT).mkdir(parents=True)  # without a label
    (tmp_path / "tiny" / f".{COMMIT}.work").mkdir(parents=True)
    (tmp_path / "note").write_text("")
    found = {Path(one.path).relative_to(tmp_path).as_posix(): one.kind for one in store.stored(str(tmp_path))}
    assert found == {"theirs": "somebody's", f"tiny/.{COMMIT}.work": "work", "note": "somebody's"}
