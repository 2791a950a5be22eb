# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a medium: what installers read, keys alone, and the same bytes for the same input."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

import jsonschema
import pytest
import yaml
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.install import render
from installs import DGX, KEY, PORT, UBUNTU, install

TEXT, FLAG = {"type": "string", "minLength": 1}, {"type": "boolean"}


def exactly(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {**required, **optional},
        "required": list(required),
        "additionalProperties": False,
    }


def listed(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": 1}


ROUTE = exactly({"to": {"const": "default"}, "via": TEXT})
ETHERNET = exactly(
    {},
    match=exactly({"macaddress": {"pattern": "^([0-9a-f]{2}:){5}[0-9a-f]{2}$"}}),
    dhcp4=FLAG,
    addresses=listed({"pattern": "/[0-9]+$"}),
    routes=listed(ROUTE),
    nameservers=exactly({"addresses": listed(TEXT)}),
    mtu={"type": "integer"},
)
NETWORK = exactly({"version": {"const": 2}, "ethernets": {"type": "object", "additionalProperties": ETHERNET}})
# Stricter than Canonical's own: it lets unknown keys pass, and everything below storage. Written from the "Autoinstall
# configuration reference manual"; nothing in it that its schema refuses.
AUTOINSTALL = exactly(
    {
        "version": {"const": 1},
        "locale": TEXT,
        "keyboard": exactly({"layout": TEXT}),
        "timezone": TEXT,
        "storage": exactly(
            {
                "layout": exactly(
                    {"name": {"enum": ["direct", "lvm"]}, "match": exactly({"serial": {"pattern": r"^[\w.:+-]+$"}})}
                )
            }
        ),
        "ssh": exactly({"install-server": {"const": True}, "allow-pw": {"const": False}}),
        "updates": {"enum": ["security", "all"]},
        "shutdown": {"enum": ["reboot", "poweroff"]},
        "user-data": {"type": "object"},
    },
    network=NETWORK,
    packages=listed(TEXT),
)


def document(tree: render.Tree, name: str) -> Any:
    content = tree[name]
    assert isinstance(content, bytes)
    return yaml.safe_load(content)


@pytest.mark.parametrize(
    "more", [{}, {"network": [PORT, {"name": "enP7s7"}], "packages": ["jq"], "storage_layout": "lvm"}]
)
def test_an_autoinstall_is_what_the_installer_documents(more: dict[str, Any]) -> None:
    tree = render.tree(install(UBUNTU, **more))
    found = document(tree, "seed/user-data")
    jsonschema.validate(found, exactly({"autoinstall": AUTOINSTALL}))
    (account,) = found["autoinstall"]["user-data"]["users"]
    assert account["lock_passwd"] is True and "passwd" not in account
    assert account["ssh_authorized_keys"] == [KEY]
    assert found["autoinstall"]["storage"]["layout"]["match"] == {"serial": UBUNTU["disk_serial"]}
    assert set(tree) == {"SHA256SUMS", "seed/meta-data", "seed/user-data"}


def test_a_seed_of_dgx_os_has_an_account_with_a_password_that_is_none() -> None:
    tree = render.tree(install(DGX))
    found = document(tree, "seed/user-data")
    (account,) = found["users"]
    assert found["ssh_pwauth"] is False and account["ssh_authorized_keys"] == [KEY]
    # The form of SHA-512 crypt: salt, then 86 characters of which the last holds two bits.
    assert re.fullmatch(r"\$6\$[0-9a-f]{16}\$[./0-9A-Za-z]{85}[./01]", account["passwd"])
    assert account["passwd"] != render.no_password("spark-2")
    assert "seed/network-config" not in tree


def test_the_first_boot_runs_the_hook_until_it_has_succeeded() -> None:
    found = document(render.tree(install(DGX)), "seed/user-data")
    (script,) = found["write_files"]
    assert script["path"] == render.FIRST_BOOT and found["runcmd"] == [[render.FIRST_BOOT]]
    assert script["permissions"] == "0700" and script["content"].startswith("#!/bin/sh\n")
    assert b"content: |" in bytes(render.tree(install(DGX))["seed/user-data"]), "nobody can read the script"


def test_the_network_is_the_same_for_both_installers() -> None:
    network = [PORT, {"name": "enP7s7"}]
    of_dgx = document(render.tree(install(DGX, network=network)), "seed/network-config")["network"]
    jsonschema.validate(of_dgx, NETWORK)
    assert of_dgx == document(render.tree(install(UBUNTU, network=network)), "seed/user-data")["autoinstall"]["network"]
    assert of_dgx["ethernets"]["port0"]["match"] == {"macaddress": "4c:bb:47:00:00:01"}
    assert of_dgx["ethernets"]["enP7s7"] == {"dhcp4": True}


def test_oemdata_holds_what_the_hook_reads_and_sums_of_all_of_it(tmp_path) -> None:
    deb, capsule, key = tmp_path / "a_1_arm64.deb", tmp_path / "b.cab", tmp_path / "key.asc"
    deb.write_bytes(b"deb"), capsule.write_bytes(b"cab")
    key.write_text("-----BEGIN PGP PUBLIC KEY BLOCK-----\nx\n\n")
    tree = render.tree(
        install(
            DGX,
            packages=["jq", "tmux"],
            apt_repository="http://mirror/spark/",
            apt_key=str(key),
            firmware_mirror="http://mirror/lvfs",
            debs=[{"path": str(deb), "sha256": hashlib.sha256(b"deb").hexdigest()}],
            firmware=[{"path": str(capsule), "sha256": hashlib.sha256(b"cab").hexdigest()}],
        )
    )
    of_oemdata = {name.removeprefix("oemdata/") for name in tree if name.startswith("oemdata/")}
    assert of_oemdata == {
        "SHA256SUMS", "hook.sh", "apt-repo.url", "apt-repo.asc", "apt-packages.txt", "lvfs-mirror.url",
        "debs/a_1_arm64.deb", "firmware/b.cab",
    }  # fmt: skip
    assert (
        tree["oemdata/apt-packages.txt"] == b"jq\ntmux\n" and tree["oemdata/apt-repo.url"] == b"http://mirror/spark/\n"
    )
    sums = bytes(tree["oemdata/SHA256SUMS"]).decode()
    assert {line.partition("  ")[2] for line in sums.splitlines()} == of_oemdata - {"SHA256SUMS"}
    assert f"{hashlib.sha256(b'deb').hexdigest()}  debs/a_1_arm64.deb\n" in sums


@pytest.mark.parametrize("given", [DGX, UBUNTU])
def test_the_same_input_is_the_same_bytes_and_another_is_another_instance(given: dict[str, Any]) -> None:
    tree = render.tree(install(given))
    assert render.tree(install(json.loads(json.dumps(given)))) == tree
    other = render.tree(install(given, timezone="Europe/Berlin"))
    assert document(other, "seed/meta-data")["instance-id"] != document(tree, "seed/meta-data")["instance-id"]
    assert document(tree, "seed/meta-data")["local-hostname"] == "spark-1"
    assert bytes(tree["seed/user-data"]).startswith(b"#cloud-config\n")


def test_the_commands_name_the_files() -> None:
    assert any("mke2fs -t ext4 -L OEMDATA -d /m/oemdata " in line for line in render.commands(install(DGX), "/m"))
    assert any(line.endswith("/m/seed") for line in render.commands(install(UBUNTU), "/m"))
