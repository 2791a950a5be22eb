# SPDX-License-Identifier: GPL-3.0-or-later
"""The command that repairs, for the run that found it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift import invocation, launcher, places, remedy

FLAGS = ["-i", "my hosts"]
AGAIN = {
    "command": [".venv/bin/ansible-playbook", "site.yml", *FLAGS],
    "flags": FLAGS,
    "tags": ["node"],
    "skip_tags": ["slow"],
}


@pytest.mark.parametrize(
    ("written", "tags", "expected"),
    [
        (
            "ansible-playbook site.yml --tags prereqs --limit {host}",
            {"prereqs", "node"},
            ".venv/bin/ansible-playbook site.yml -i 'my hosts' --skip-tags slow --tags prereqs --limit {host}",
        ),
        (  # somebody's playbook, in which the role has no tag of its own: it would select nothing
            "ansible-playbook site.yml --tags prereqs --limit {host}",
            {"node"},
            ".venv/bin/ansible-playbook site.yml -i 'my hosts' --skip-tags slow --tags node --limit {host}",
        ),
        (  # another playbook: the tags of this one select nothing in it
            "ansible-playbook nusy.dgx_spark.update --limit {host}",
            {"node"},
            ".venv/bin/ansible-playbook nusy.dgx_spark.update -i 'my hosts' --limit {host}",
        ),
        ("systemctl reboot", set(), "systemctl reboot"),
        ("ansible-playbook", set(), "ansible-playbook"),
        ("not 'closed", set(), "not 'closed"),
    ],
)
def test_the_catalogue_says_what_and_the_run_says_where(written: str, tags: set[str], expected: str) -> None:
    assert remedy.complete(written, AGAIN, tags) == expected


def test_events_of_an_older_collection_leave_it_as_written() -> None:
    assert remedy.complete("ansible-playbook site.yml --limit {host}", {}, ()) == (
        "ansible-playbook site.yml --limit {host}"
    )


def cli(**more: Any) -> dict[str, Any]:
    return {"args": ("site.yml",), "inventory": (str(Path.cwd() / "hosts"), "a,b"), "become_method": "sudo", **more}


def test_paths_below_the_working_directory_are_as_one_types_them(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    again = invocation.again(cli(args=("site.yml", "/abs/x.yml", "nusy.dgx_spark.site"), private_key_file="/k"))
    assert again["command"][1:] == [
        *("site.yml", "/abs/x.yml", "nusy.dgx_spark.site"),
        *("-i", "hosts", "-i", "a,b", "--private-key", "/k"),
    ]
    assert again["directory"] == str(tmp_path)


def test_no_value_of_a_variable_is_kept() -> None:
    given = ("a=hunter2 b='x hunter2'", '{"c": "hunter2"}', "@/files/vars.yml", "{broken hunter2")
    again = invocation.again(cli(extra_vars=given))
    assert again["variables"] == ["a", "b", "c"]
    assert "hunter2" not in str(again)
    assert again["command"][-2:] == ["-e", "@/files/vars.yml"]


@pytest.mark.parametrize(
    ("uid", "become", "more"), [(0, False, []), (1000, False, ["--become", "--ask-become-pass"]), (1000, True, [])]
)
def test_this_machine_is_named_and_its_user_asked(monkeypatch: Any, uid: int, become: bool, more: list[str]) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    again = invocation.again(cli(become=become, become_ask_pass=become))
    assert again["local"] == ["-e", f"spark_local_apply={os.uname().nodename}", *more]
    assert ("--ask-become-pass" in again["command"]) == become


def test_from_elsewhere_the_settings_come_along(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.delenv("ANSIBLE_COLLECTIONS_PATH", raising=False)
    theirs = tmp_path / "play.yml"
    monkeypatch.chdir(places.ROOT)
    assert launcher.prefix(launcher.environment(tmp_path / "o", {}), places.ROOT / "site.yml") == []
    monkeypatch.chdir(tmp_path)
    ours = f"ANSIBLE_CONFIG={places.ROOT / 'ansible.cfg'}"
    assert launcher.prefix(launcher.environment(tmp_path / "o", {}), theirs) == ["env", ours]
    (tmp_path / "ansible.cfg").write_text("[defaults]\n")
    env = launcher.environment(tmp_path / "o", {})
    assert launcher.prefix(env, theirs) == ["env", f"ANSIBLE_COLLECTIONS_PATH={env['ANSIBLE_COLLECTIONS_PATH']}"]
    assert launcher.prefix(env, places.ROOT / "site.yml") == []
