# SPDX-License-Identifier: GPL-3.0-or-later
"""What an entry of ``vllm_engines`` may say, and what each word becomes on the command line.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ansible_collections.nusy.dgx_spark.plugins.module_utils._memory.parse import SUMMANDS

# As _engines.subject names them for every program, behind the one of its own.
OPTIONS = "vllm/options"
CONTROLS = (
    "vllm/options",
    "vllm/credentials",
    "vllm/template",
    "vllm/engines",
    "vllm/answers",
    "vllm/others",
    "vllm/file_extra",
)
# What vLLM computes at a time: 65536 made a Spark hang, and 32768 is the most that operators report to work.
MOST_BATCHED_TOKENS = 32768


@dataclass(frozen=True)
class Word:
    """kind: ``text``, ``whole``, ``flag``, or ``map``. option: of vLLM; empty where it takes more than one.

    launcher: the launcher takes it, before the ``--``.
    """

    kind: str
    option: str = ""
    launcher: bool = False


# In the order of the command line, so that the same declaration is the same text.
WORDS: dict[str, Word] = {
    "name": Word("text"),
    "model": Word("text"),
    "served_name": Word("text", "served-model-name", launcher=True),
    "host": Word("text", "host", launcher=True),
    "port": Word("whole", "port", launcher=True),
    "nodes": Word("whole", "tensor-parallel-size", launcher=True),
    "context": Word("whole", "max-model-len", launcher=True),
    "share_gpu": Word("flag", launcher=True),
    "dtype": Word("text", "dtype"),
    "quantization": Word("text", "quantization"),
    "kv_cache_dtype": Word("text", "kv-cache-dtype"),
    "sequences": Word("whole", "max-num-seqs"),
    "batched_tokens": Word("whole", "max-num-batched-tokens"),
    "enforce_eager": Word("flag", "enforce-eager"),
    "reasoning_parser": Word("text", "reasoning-parser"),
    "tool_parser": Word("text"),
    "lora": Word("map"),
    "lora_rank": Word("whole", "max-lora-rank"),
    "tls": Word("map"),
    "options": Word("map"),
}
TLS = {"certificate": "ssl-certfile", "key": "ssl-keyfile", "client_ca": "ssl-ca-certs"}
# What the words above say, and what the launcher answers for: nobody says it a second time in ``options``.
TAKEN = {
    **{word.option: name for name, word in WORDS.items() if word.option},
    **dict.fromkeys((*TLS.values(), "ssl-cert-reqs"), "tls"),
    "model": "model",
    "tool-call-parser": "tool_parser",
    "enable-auto-tool-choice": "tool_parser",
    "enable-lora": "lora",
    "lora-modules": "lora",
    "kv-cache-memory-bytes": "kv_cache_gib, or config, context and sequences",
    "gpu-memory-utilization": "kv_cache_gib, or config, context and sequences",
    # It counts more than the size in bytes, and the budget would be of another cache.
    "num-gpu-blocks-override": "kv_cache_gib, or config, context and sequences",
}
# Of other things than this node's engine: whole files of options, several nodes or GPUs, another protocol, no port.
NOT_HERE = (
    "config", "headless", "nnodes", "node-rank", "master-addr", "master-port", "distributed-executor-backend", "grpc",
    "uds", "data-parallel-size", "data-parallel-size-local", "pipeline-parallel-size",
)  # fmt: skip
# Of a preset itself; all else in it is of the engine.
ABOUT = ("about", "source", "repository", "sparks")
# What follows from ``options`` (beside.py) nobody says.
MEMORY = tuple(name for name in SUMMANDS if name not in WORDS and name != "options_gib")

Engine = Mapping[str, object]


def dashed(name: object) -> str:
    """As vLLM writes an option, which a declaration may write with _."""
    return str(name).replace("_", "-")
