# SPDX-License-Identifier: GPL-3.0-or-later
"""Engines of a node: what their units say, and what is refused before anything is looked at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._engines import texts
from ansible_collections.nusy.dgx_spark.plugins.module_utils._vllm import subject

OPTIONS = json.loads(
    (Path(__file__).parents[5] / "roles/vllm_venv/files/spark-vllm-0.27.1/options.json").read_text(encoding="utf-8")
)
PRESETS = {"small": {"about": "x", "source": "y", "repository": "z", "sparks": 1, "context": 4096, "dtype": "bfloat16"}}
LEAST = {"name": "main", "model": "/srv/models/m/abc", "port": 8000}
ALL = {"certificate": "/c", "key": "/k", "client_ca": "/a", "client_certificate": "/p", "client_key": "/q"}


def ensured(*engines: dict[str, Any], **more: Any) -> list[Any]:
    """The engines that ``_engines`` is told of."""
    told: list[Any] = []

    def ensure(_program: Any, _controls: Any, found: Any, _params: Any, _judge: Any) -> None:
        told.extend(found)

    params = {"presets": PRESETS, "options": OPTIONS, "release": "0.27.1", "user": "nusy", "writes": []}
    params |= {"models": [], "models_root": "/srv/models", **more}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subject, "ensure_engines", ensure)
        # As Ansible hands them over: every word is there, most of them without a value.
        subject.ensure_vllm({**params, "engines": [{**dict.fromkeys(subject.ENGINE), **one} for one in engines]})
    return told


def test_an_engine_is_called_by_its_name_and_has_time_to_load() -> None:
    (engine,) = ensured(LEAST)
    words = "/srv/models/m/abc --served-model-name main --port 8000 -- --max-num-batched-tokens 8192"
    assert engine.words == tuple(words.split())
    assert (engine.served, engine.host, engine.start_seconds, engine.drain_seconds) == ("main", "127.0.0.1", 1800, 60)
    assert engine.enabled and engine.key == "" and engine.tls is None


def test_the_bounds_of_its_times_are_within_them() -> None:
    (shortest,) = ensured({**LEAST, "start_seconds": 1, "drain_seconds": 0})
    (longest,) = ensured({**LEAST, "start_seconds": 7200, "drain_seconds": 600})
    assert (shortest.start_seconds, longest.start_seconds, longest.drain_seconds) == (1, 7200, 600)


def test_a_stop_may_wait_for_nobody() -> None:
    """0 has the meaning that it has for llama.cpp: the unit has no ExecStop, and its engine is told to end at once."""
    (engine,) = ensured({**LEAST, "drain_seconds": 0})
    dropin = texts.dropin(engine, subject.program("nusy", []))
    assert "ExecStop=" not in dropin and "TimeoutStopSec=60" in dropin
    with pytest.raises(InputError, match=r"drain_seconds: 0 to 600"):
        ensured({**LEAST, "drain_seconds": -1})


def test_a_preset_is_what_an_engine_does_not_say_itself() -> None:
    (engine,) = ensured({**LEAST, "preset": "small", "context": 1024})
    assert " ".join(engine.words).endswith("--max-model-len 1024 -- --dtype bfloat16 --max-num-batched-tokens 8192")


def test_a_size_of_the_cache_takes_the_place_of_what_a_preset_would_make_of_it() -> None:
    presets = {"small": {**PRESETS["small"], "config": {"num_hidden_layers": 1}}}
    (engine,) = ensured({**LEAST, "preset": "small", "kv_cache_gib": 1}, presets=presets)
    assert "--kv-cache-memory-bytes 1073741824" in " ".join(engine.words)


def test_a_name_of_the_manifest_becomes_its_path() -> None:
    models = [{"name": "m", "revision": "b" * 40, "files": []}]
    (engine,) = ensured({**LEAST, "model": "m"}, models=models, models_root="/data")
    assert engine.words[0] == f"/data/m/{'b' * 40}"
    # A name of the hub has a slash.
    assert ensured({**LEAST, "model": "me/m"}, models=models)[0].words[0] == "me/m"
    with pytest.raises(InputError, match=r"engines\[0\]\.model: a name in models_manifest, or a path"):
        ensured({**LEAST, "model": "mm"}, models=models)


def test_certificates_reach_the_unit_as_credentials() -> None:
    (engine,) = ensured({**LEAST, "tls": ALL})
    place = "/run/credentials/vllm@main.service/tls-"
    assert f"--ssl-keyfile {place}key --ssl-ca-certs {place}client-ca --ssl-cert-reqs 2" in " ".join(engine.words)
    assert engine.credentials["tls-key"] == "/k" and engine.credentials["tls-client-certificate"] == "/p"
    assert engine.tls.certificate == f"{place}certificate" and engine.tls.client_key == f"{place}client-key"
    text = texts.dropin(engine, subject.program("nusy", []))
    assert f"--certificate {place}client-certificate --private-key {place}client-key" in text


def test_a_key_is_on_no_command_line() -> None:
    (engine,) = ensured({**LEAST, "api_key": "open-sesame"})
    text = texts.dropin(engine, subject.program("nusy", []))
    assert "LoadCredential=api-key:/etc/nusy/credentials/vllm@main.service/api-key" in text and "sesame" not in text


def test_the_unit_has_the_gpu_and_its_caches_and_no_other_place() -> None:
    text = texts.template(subject.program("nusy", ["/var/lib/nusy/cache", "/opt/nusy/.triton"]))
    assert "DevicePolicy=closed\nDeviceAllow=char-nvidia rw\n" in text
    assert "ReadWritePaths=-/var/lib/nusy/cache -/opt/nusy/.triton\n" in text


@pytest.mark.parametrize(
    ("engines", "said"),
    [
        ([LEAST, {**LEAST, "port": 8001}], "engines[1].name: a name of its own"),
        ([LEAST, {**LEAST, "name": "b"}], "engines[1].port: a port of its own"),
        ([{**LEAST, "name": "Main"}], "engines[0].name: small letters"),
        ([{**LEAST, "preset": "smal"}], "write small"),
        ([{**LEAST, "nodes": 2}], "a unit is of one node"),
        ([{**LEAST, "conflicts": ["other"]}], "engines[0].conflicts"),
        ([{**LEAST, "start_seconds": 0}], "engines[0].start_seconds: 1 to 7200"),
        ([{**LEAST, "start_seconds": 7201}], "engines[0].start_seconds: 1 to 7200"),
        ([{**LEAST, "drain_seconds": 601}], "engines[0].drain_seconds: 0 to 600"),
        ([{**LEAST, "api_key": "two\nlines"}], "engines[0].api_key: 4 or more characters"),
        ([{**LEAST, "tls": {**ALL, "key": "/a b"}}], "paths that a unit can name"),
        ([{**LEAST, "dtype": "int3"}], "engines[0].dtype: one of auto"),
    ],
)
def test_what_no_unit_could_be_made_of_is_refused(engines: list[dict[str, Any]], said: str) -> None:
    params = {"presets": PRESETS, "options": OPTIONS, "release": "0.27.1", "user": "nusy", "writes": []}
    params |= {"models": [], "models_root": "/srv/models"}
    with pytest.raises(InputError) as caught:
        subject.ensure_vllm({**params, "engines": [{**dict.fromkeys(subject.ENGINE), **one} for one in engines]})
    assert said in str(caught.value)
    assert "two\nlines" not in str(caught.value)


def test_without_the_options_of_a_release_nothing_is_held_against_nothing() -> None:
    with pytest.raises(InputError, match="vllm_options_file"):
        ensured(LEAST, options={})
    assert ensured(options={}) == []


def test_what_is_not_written_by_the_tool_is_refused() -> None:
    with pytest.raises(InputError):
        ensured(LEAST, options={"host": 1})
    with pytest.raises(InputError):
        ensured(LEAST, writes=["relative"])
    assert ensured({**LEAST, "conflicts": ["llama@x.service"]})[0].conflicts == ("llama@x.service",)
