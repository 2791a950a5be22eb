# SPDX-License-Identifier: GPL-3.0-or-later
"""Quadlets of workers. What Podman makes of them is a test on a node."""

from __future__ import annotations

import configparser
import shlex
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils import quadlet

IMAGE = "quay.io/ramalama/ramalama:0.25"
SWARM = {"name": "swarm", "model": "/srv/models/swarm/1/a.gguf", "port": 8081, "context": 8192}


def one(image: object = IMAGE, devices: object = (), **changes: object) -> dict[str, Any]:
    return quadlet.workers([{**SWARM, **changes}], image, devices)[0]


def section(worker: dict[str, Any], name: str) -> dict[str, list[str]]:
    """As systemd reads it: a key may come twice."""
    parser = configparser.RawConfigParser(strict=False, delimiters=["="], comment_prefixes=["#"])
    parser.optionxform = str  # type: ignore[method-assign, assignment]
    parser.read_string(worker["file"]["content"])
    lines = worker["file"]["content"].split(f"[{name}]\n")[1].split("\n\n")[0].splitlines()
    found: dict[str, list[str]] = {key: [] for key in parser[name]}
    for line in lines:
        key, _equals, value = line.partition("=")
        found[key].append(value)
    return found


def command(worker: dict[str, Any]) -> list[str]:
    return shlex.split(section(worker, "Container")["Exec"][0])


def test_a_worker_is_a_file_and_a_service_that_is_restarted_with_it() -> None:
    worker = one()
    path = "/etc/containers/systemd/ramalama-swarm.container"
    assert worker["file"]["path"] == path
    assert worker["unit"] == {"name": "ramalama-swarm.service", "active": True, "restart_on": [path]}
    assert (worker["name"], worker["port"]) == ("swarm", 8081)


def test_it_serves_that_model_on_loopback_and_may_do_nothing_else() -> None:
    container = section(one(), "Container")
    assert command(one())[:1] == ["llama-server"]
    assert " --model /mnt/models/a.gguf " in container["Exec"][0] + " "
    assert container["Mount"] == ["type=bind,src=/srv/models/swarm/1/a.gguf,target=/mnt/models/a.gguf,ro"]
    assert container["PublishPort"] == ["127.0.0.1:8081:8081"]
    assert container["DropCapability"] == ["all"]
    assert container["NoNewPrivileges"] == container["ReadOnly"] == ["true"]
    assert "AddDevice" not in container


def test_the_context_is_that_of_a_sequence() -> None:
    # llama.cpp shares --ctx-size out among its slots.
    words = command(one(context=4096, sequences=3))
    assert words[words.index("--ctx-size") + 1] == "12288"
    assert words[words.index("--parallel") + 1] == "3"


def test_a_model_that_sees_has_its_projector() -> None:
    worker = one(projector="/srv/models/swarm/1/mmproj.gguf")
    assert len(section(worker, "Container")["Mount"]) == 2
    assert command(worker)[-2:] == ["--mmproj", "/mnt/models/mmproj.gguf"]


def test_devices_and_image_are_of_the_worker_or_of_all() -> None:
    assert section(one(devices=["nvidia.com/gpu=all"]), "Container")["AddDevice"] == ["nvidia.com/gpu=all"]
    assert "AddDevice" not in section(
        quadlet.workers([{**SWARM, "devices": []}], IMAGE, ["nvidia.com/gpu=all"])[0], "Container"
    )
    digest = "example.org/llama@sha256:" + "a" * 64
    assert section(one(image=digest), "Container")["Image"] == [digest]


def test_words_for_the_server_reach_it_as_they_are() -> None:
    worker = one(arguments=["--chat-template", "{{ 100% of $HOME }}", "--threads", 4])
    line = section(worker, "Container")["Exec"][0]
    assert line.endswith(' --chat-template "{{ 100%% of $$HOME }}" --threads 4')


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "Swarm"}, "workers[0].name: up to 40 lower-case"),
        ({"name": "a/../b"}, "workers[0].name"),
        ({"model": "models/a.gguf"}, "workers[0].model: an absolute path"),
        ({"model": "/srv/a,ro=false.gguf"}, "workers[0].model"),
        ({"model": "/srv/../etc/shadow"}, "workers[0].model"),
        ({"model": "/srv/%h.gguf"}, "workers[0].model"),
        ({"model": "/srv/models/"}, "workers[0].model: an absolute path of a .gguf file"),
        ({"served_model_name": "--jinja"}, "workers[0].served_model_name: a text of one line"),
        ({"served_model_name": "a\nb"}, "workers[0].served_model_name"),
        ({"port": 80}, "workers[0].port: a whole number from 1024 to 65535"),
        ({"port": True}, "workers[0].port"),
        ({"context": "8192"}, "workers[0].context"),
        ({"image": "quay.io/ramalama/ramalama"}, "workers[0].image: an image with a tag other than latest"),
        ({"image": "quay.io/ramalama/ramalama:latest"}, "workers[0].image"),
        ({"image": "a:1\nExec=sh"}, "workers[0].image"),
        ({"devices": "nvidia.com/gpu=all"}, "workers[0].devices: a list"),
        ({"devices": ["gpu"]}, "workers[0].devices[0]"),
        ({"devices": ["/dev/../etc"]}, "workers[0].devices[0]"),
        ({"arguments": ["--host", "0.0.0.0"]}, "workers[0].arguments[0]"),
        ({"arguments": ["--hf-token", "hunter22"]}, "workers[0].arguments[0]: an option that the declaration"),
        ({"arguments": ["--api-key=hunter22\n"]}, "Found: '--api-key'."),
        ({"arguments": [None]}, "workers[0].arguments[0]: text or a number"),
        ({"arguments": ["-n", "a\0"]}, "workers[0].arguments[1]: a word of one line"),
        ({"projector": "/other/a.gguf"}, "workers[0].projector: a file of another name"),
        ({"modle": "/srv/a.gguf"}, "workers[0].modle: one of name, model"),
    ],
)
def test_what_cannot_be_is_refused_by_its_place(changes: dict[str, object], said: str) -> None:
    with pytest.raises(InputError) as caught:
        one(**changes)
    assert "hunter22" not in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize(("second", "at"), [({"name": "other"}, "port"), ({"port": 8082}, "name")])
def test_two_workers_share_neither_name_nor_port(second: dict[str, object], at: str) -> None:
    with pytest.raises(InputError, match=rf"workers\[1\].{at}: one that no other worker has"):
        quadlet.workers([SWARM, {**SWARM, **second}], IMAGE, ())


@pytest.mark.parametrize("given", [None, "x", {"a": 1}, [1]])
def test_something_else_than_a_list_of_workers_is_refused(given: object) -> None:
    with pytest.raises(InputError):
        quadlet.workers(given, IMAGE, ())


# Recorded: ramalama 0.25.0, `ramalama serve --generate quadlet -n architect -p 8080 -c 4096 --image … file:///srv/tiny.gguf`.
RECORDED = Path(__file__).parents[3] / "fixtures" / "ramalama" / "architect.container"


def test_it_is_the_container_that_ramalama_writes_but_for_what_is_said() -> None:
    theirs = section({"file": {"content": RECORDED.read_text()}}, "Container")
    ours = section(
        one(name="architect", model="/srv/tiny.gguf", port=8080, context=4096, image="quay.io/ramalama/cuda:0.25"),
        "Container",
    )
    assert ours.pop("ContainerName") == ["ramalama-architect"] and theirs.pop("ContainerName") == ["architect"]
    # A path of its own store, relabelled for SELinux; the model is read there under the same name.
    assert ours.pop("Mount") == ["type=bind,src=/srv/tiny.gguf,target=/mnt/models/tiny.gguf,ro"]
    assert ",target=/mnt/models/tiny.gguf,ro" in theirs.pop("Mount")[0]
    assert set(ours.pop("Exec")[0].split()) - set(theirs.pop("Exec")[0].split()) == {
        *("0.0.0.0", "architect"),  # an address that is there without IPv6; a name instead of a path
        *("--parallel", "1"),
    }
    # Devices of other GPUs, where there are some.
    assert theirs.pop("AddDevice") == ["-/dev/accel", "-/dev/dri", "-/dev/kfd"]
    assert {key: ours.pop(key) for key in ("Pull", "ReadOnly")} == {"Pull": ["missing"], "ReadOnly": ["true"]}
    assert ours == theirs
