# SPDX-License-Identifier: GPL-3.0-or-later
"""What the units of engines say."""

from __future__ import annotations

import shlex

from ansible_collections.nusy.dgx_spark.plugins.module_utils._engines import texts
from ansible_collections.nusy.dgx_spark.plugins.module_utils._engines.model import Engine, Program, Tls
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.dropins import settings

PROGRAM = Program("vllm", "vLLM", "vllm", "vllm-serve", sandbox="PrivateDevices=yes\n")
BARE = Engine("main", ("/srv/models/a b", "--port", "8000"), "main", 8000)


def lines(engine: Engine) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for _section, name, value in settings(texts.dropin(engine, PROGRAM)):
        found.setdefault(name, []).append(value)
    return found


def test_an_engine_is_started_by_its_launcher_and_is_ready_when_it_answers():
    said = lines(BARE)
    assert shlex.split(said["ExecStart"][0]) == ["/usr/local/libexec/nusy/vllm-serve", *BARE.words]
    assert said["ExecStartPost"] == [
        "/usr/local/libexec/nusy/engine-ready --host 127.0.0.1 --port 8000 --model main --seconds 600"
    ]
    assert said["ExecStop"] == ["!/usr/local/libexec/nusy/engine-drain --host 127.0.0.1 --port 8000 --seconds 30"]
    # systemd has to be more patient than what it waits for.
    assert (said["TimeoutStartSec"], said["TimeoutStopSec"]) == (["660"], ["90"])
    assert not {"LoadCredential", "Conflicts"} & set(said)


def test_a_key_is_named_by_its_file_and_never_written():
    keyed = Engine("main", (), "main", 8000, key="open-sesame", credentials={"tls-key": "/etc/tls/key.pem"})
    assert "open-sesame" not in texts.dropin(keyed, PROGRAM) + repr(keyed)
    assert lines(keyed)["LoadCredential"] == [
        "api-key:/etc/nusy/credentials/vllm@main.service/api-key", "tls-key:/etc/tls/key.pem",
    ]  # fmt: skip


def test_over_tls_it_is_asked_by_its_own_certificate():
    tls = Tls("/etc/tls/cert.pem", "/etc/tls/probe.pem", "/etc/tls/probe.key")
    said = lines(Engine("main", (), "main", 8000, tls=tls))
    shown = "--server-certificate /etc/tls/cert.pem --certificate /etc/tls/probe.pem --private-key /etc/tls/probe.key"
    assert shown in said["ExecStartPost"][0] and shown in said["ExecStop"][0]


def test_a_stop_reads_the_files_themselves_since_it_is_handed_no_credential():
    held = "/run/credentials/vllm@main.service"
    tls = Tls(f"{held}/tls-certificate", f"{held}/tls-client-certificate", f"{held}/tls-client-key")
    files = {name: f"/etc/tls/{name}.pem" for name in ("tls-certificate", "tls-client-certificate", "tls-client-key")}
    said = lines(Engine("main", (), "main", 8000, key="open-sesame", tls=tls, credentials=files))
    assert "/run/credentials" in said["ExecStartPost"][0] and "/run/credentials" not in said["ExecStop"][0]
    assert "--private-key /etc/tls/tls-client-key.pem" in said["ExecStop"][0]
    assert "--key-file /etc/nusy/credentials/vllm@main.service/api-key" in said["ExecStop"][0]


def test_two_that_exclude_each_other_are_in_one_order_and_in_no_circle():
    main, small = (Engine(n, (), n, 8000, conflicts=(o,)) for n, o in (("main", "small"), ("small", "main")))
    assert lines(main)["Conflicts"] == ["vllm@small.service"] and lines(main)["Before"] == ["vllm@small.service"]
    assert lines(small)["After"] == ["vllm@main.service"] and "Before" not in lines(small)
    assert "After" not in lines(main)
    other = Engine("main", (), "main", 8000, conflicts=("comfy.service",))
    assert lines(other)["Conflicts"] == ["comfy.service"] and lines(other)["After"] == ["comfy.service"]


def test_the_trial_is_the_same_command_with_the_rights_of_the_unit():
    assert texts.trial(BARE, PROGRAM) == (
        *("/usr/sbin/runuser", "-u", "nusy", "--", "/usr/local/libexec/nusy/vllm-serve", "--check", "--replacing"),
        *BARE.words,
    )


def test_the_template_holds_what_all_have_in_common_and_no_start():
    said = [(section, name) for section, name, _value in settings(texts.template(PROGRAM))]
    assert ("Service", "ExecStart") not in said and ("Install", "WantedBy") in said
    assert len([name for name in said if name != ("Service", "SystemCallFilter")]) == len(set(said)) - 1
