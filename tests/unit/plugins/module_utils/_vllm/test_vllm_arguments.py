# SPDX-License-Identifier: GPL-3.0-or-later
"""What an engine becomes on the command line, and what is refused, against the options of real releases."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._launch import engines as launchers
from ansible_collections.nusy.dgx_spark.plugins.module_utils._launch import options as words
from ansible_collections.nusy.dgx_spark.plugins.module_utils._vllm import arguments
from ansible_collections.nusy.dgx_spark.plugins.module_utils._vllm import help as texts

SETS = Path(__file__).parents[5] / "roles" / "vllm_venv" / "files"
RELEASES = sorted(path.parent.name.removeprefix("spark-vllm-") for path in SETS.glob("*/options.json"))
LEAST = {"name": "main", "model": "/srv/models/m/abc", "port": 8000}
PROBE = {"client_certificate": "/etc/probe.pem", "client_key": "/etc/probe.key"}
LLAMA_8B = {"num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_size": 4096}


def options(release: str) -> texts.Options:
    return texts.from_data(json.loads((SETS / f"spark-vllm-{release}" / "options.json").read_text(encoding="utf-8")))


def argv(**more: object) -> list[str]:
    return arguments.argv({**LEAST, **more}, options("0.27.1"), "0.27.1")


def refused(**more: object) -> list[str]:
    return [p.text() for p in arguments.problems({**LEAST, **more}, options("0.27.1"), "0.27.1", "vllm_engines[0]")]


def test_every_set_that_locks_vllm_knows_its_options() -> None:
    locked = {}
    for lock in SETS.glob("*/*.lock"):
        found = re.search(r"^vllm==(\S+)", lock.read_text(encoding="utf-8"), re.MULTILINE)
        if found:
            locked[lock.parent.name] = found.group(1)
    assert {name.removeprefix("spark-vllm-"): release for name, release in locked.items()} == {r: r for r in RELEASES}


@pytest.mark.parametrize("release", RELEASES)
def test_every_word_is_an_option_of_every_release(release: str) -> None:
    everything = {
        **LEAST,
        **{"served_name": "chat", "host": "127.0.0.1", "nodes": 2, "context": 32768, "sequences": 12},
        **{"dtype": "bfloat16", "quantization": "fp8", "kv_cache_dtype": "fp8", "kv_cache_gib": 20.5},
        **{"batched_tokens": 4096, "enforce_eager": True, "tool_parser": "mistral", "reasoning_parser": "qwen3"},
        **{"lora": {"sql": "/srv/lora/sql"}, "lora_rank": 16, "process_gib": 6},
        **{"tls": {"certificate": "/etc/c.pem", "key": "/run/k.pem", "client_ca": "/etc/ca.pem", **PROBE}},
        **{"options": {"enable_prefix_caching": False, "hf-overrides": {"b": 1, "a": 2}, "seed": -1}},
    }
    assert arguments.argv(everything, options(release), release) == [
        "/srv/models/m/abc",
        *("--served-model-name", "chat", "--host", "127.0.0.1", "--port", "8000", "--tensor-parallel-size", "2"),
        *("--max-model-len", "32768", "--kv-cache-memory-bytes", str(20 * 2**30 + 2**29), "--"),
        *("--dtype", "bfloat16", "--quantization", "fp8", "--kv-cache-dtype", "fp8", "--max-num-seqs", "12"),
        *("--max-num-batched-tokens", "4096", "--enforce-eager", "--reasoning-parser", "qwen3", "--max-lora-rank"),
        *("16", "--enable-auto-tool-choice", "--tool-call-parser", "mistral", "--enable-lora"),
        *("--lora-modules", "sql=/srv/lora/sql", "--ssl-certfile", "/etc/c.pem", "--ssl-keyfile", "/run/k.pem"),
        *("--ssl-ca-certs", "/etc/ca.pem", "--ssl-cert-reqs", "2", "--no-enable-prefix-caching"),
        *("--hf-overrides", '{"a": 2, "b": 1}', "--seed=-1"),
    ]


def test_the_launcher_takes_what_is_written_for_it() -> None:
    written = argv(served_name="chat", host="::1", context=4096, kv_cache_gib=1, enforce_eager=True)
    launcher = launchers.LAUNCHERS["vllm-serve"]
    parser = words.Parser("vllm-serve", "")
    launcher.add(parser)
    cut = written.index("--")
    assert parser.parse_args(written[:cut]).kv_cache_memory_bytes == 2**30
    assert words.refused(written[cut + 1 :], launcher.reserved) == ""


def test_the_cache_follows_from_the_model() -> None:
    # 32 layers x 2 x 8 heads x 128 x 2 bytes = 131072 bytes a token; 4096 tokens in 64 blocks of 64, and one more.
    assert arguments.kv_cache_bytes({**LEAST, "config": LLAMA_8B, "context": 4096}) == 131072 * 65 * 64
    assert arguments.kv_cache_bytes(LEAST) == 0


def test_a_batch_is_bounded_where_nobody_says_so() -> None:
    assert argv()[-2:] == ["--max-num-batched-tokens", "8192"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"contxt": 4096}, "write context"),
        ({"context": "4k"}, "context: a whole number above 0"),
        ({"context": True}, "context: a whole number above 0"),
        ({"model": "--model"}, "model: a text of one line that does not begin with -"),
        ({"served_name": "a\nb"}, "served_name: a text of one line"),
        ({"port": 65536}, "a port up to 65535"),
        ({"dtype": "int8"}, "one of auto, bfloat16"),
        ({"tool_parser": "mistrall"}, "vllm_engines[0].tool_parser: one of"),
        ({"batched_tokens": 65536}, "hang a Spark"),
        ({"options": {"enable-prefx-caching": True}}, "write enable-prefix-caching"),
        ({"options": {"enable-prefix-caching": "yes"}}, "true or false"),
        ({"options": {"seed": None}}, "a text, a number, a list or a mapping"),
        ({"options": {"seed": "1\n--api-key x"}}, "a text, a number, a list or a mapping"),
        ({"options": {"max_model_len": 5}}, "it as context"),
        ({"options": {"gpu-memory-utilization": 0.9}}, "it as kv_cache_gib"),
        ({"options": {"block-size": 16, "block_size": 16}}, "it with - and with _"),
        ({"options": {"api-key": "hunter2"}}, "becomes a credential"),
        ({"options": {"hf_token": 12345}}, "no secret on a command line"),
        (
            {"options": {"kv_transfer_config": {"extra": [{"redis_password": "hunter2"}]}}},
            "no secret on a command line",
        ),
        ({"options": {"otlp-traces-endpoint": "http://me:hunter2@otlp:4317"}}, "no secret on a command line"),
        ({"options": {"nnodes": 2}}, "vllm-node"),
        ({"options": {"data_parallel_size": 2}}, "one engine on one node"),
        ({"options": {"uds": "/run/vllm.sock"}}, "one engine on one node"),
        ({"options": {"num_gpu_blocks_override": 100_000}}, "it as kv_cache_gib"),
        ({"options": {"compilation-config": {"mode": 0}}, "enforce_eager": True}, "beside enforce_eager"),
        ({"lora": {"a=b": "/x"}}, "names without ="),
        ({"lora_rank": 8}, "adapters in lora"),
        ({"tls": {"certificate": "/c"}}, "certificate and key together"),
        ({"tls": {"certificate": "/c", "key": "k"}}, "as an absolute path"),
        ({"tls": {"certificate": "/c", "key": "/k", "client_ca": "/a"}}, "a certificate for the probe"),
        ({"kv_cache_gib": 1, "config": {}}, "nothing beside kv_cache_gib"),
        ({"config": {"num_hidden_layers": 1, "mamba_d_state": 1}, "context": 1}, "something else than tokens"),
    ],
)
def test_what_vllm_would_refuse_is_refused_before(more: dict[str, object], said: str) -> None:
    assert any(said in text for text in refused(**more)), refused(**more)
    with pytest.raises(InputError):
        argv(**more)


@pytest.mark.parametrize(
    "given",
    [{"api-key": "hunter2"}, {"enable-lora": {"password": "hunter2"}}, {"otlp-traces-endpoint": "http://me:hunter2@o"}],
)
def test_a_secret_is_not_shown_by_its_refusal(given: dict[str, object]) -> None:
    said = refused(options=given, process_gib=5)
    assert said and "hunter2" not in "".join(said)


def test_what_is_of_a_model_and_called_a_token_is_no_secret() -> None:
    told = {"hf_overrides": {"image_token": "<image>", "bos_token_id": 1}, "max_logprobs": 3}
    assert not refused(options=told)


def test_all_that_is_wrong_is_told_at_once() -> None:
    assert len(refused(dtype="int8", batched_tokens=65536, options={"nnodes": 2})) == 3
    assert len(list(arguments.problems({}, {}, "0", "e"))) == 3
    assert len(list(arguments.problems(7, {}, "0", "e"))) == 1
