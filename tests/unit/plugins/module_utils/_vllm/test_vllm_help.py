# SPDX-License-Identifier: GPL-3.0-or-later
"""What the help of vLLM says, read from its own words."""

from __future__ import annotations

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import ParseError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._vllm import help as texts
from ansible_collections.nusy.dgx_spark.plugins.module_utils._vllm.help import Option

# Entries as vLLM 0.32.0 prints them.
HELP = """usage: vllm serve [model_tag] [options]

positional arguments:
  model_tag             The model tag to serve (default: None)

options:
  --headless            Run in headless mode. (default: False)
  -h, --help            show this help message and exit

Frontend:
  Arguments for the OpenAI-compatible frontend server.

  --host HOST           Host name. (default: None)
  --lora-modules LORA_MODULES [LORA_MODULES ...]
                        LoRA modules configurations in either 'name=path'
                        - with `--enable-lora` alone nothing is loaded
  --port PORT           Port number. (default: 8000)

ModelConfig:
  --dtype {auto,bfloat16,half}
                        Data type for model weights and activations:
                        - "auto" will use FP16 precision for FP32.
  --enable-expert-parallel, --no-enable-expert-parallel, -ep
                        Use expert parallelism. (default: False)
  --max-model-len MAX_MODEL_LEN
                        Model context length. (default: None)
  --model-impl ['auto', 'terratorch', 'vllm']
                        Which implementation of the model to use:
  --kv-cache-memory-bytes KV_CACHE_MEMORY_BYTES
                        Size of KV Cache per GPU in bytes.
  --collect-detailed-traces {all,model,None} [{all,model,None} ...]
                        It makes sense to set this.
  --tensor-parallel-size TENSOR_PARALLEL_SIZE, -tp TENSOR_PARALLEL_SIZE
                        Number of groups. (default: 1)

When passing JSON CLI arguments, the following sets of arguments are equivalent:
   --json-arg '{"key1": "value1", "key2": {"key3": "value2"}}'
   --json-arg.key1 value1 --json-arg.key2.key3 value2
"""


def test_parse_reads_every_option_and_nothing_else() -> None:
    assert texts.parse(HELP) == {
        "headless": Option("flag"),
        "help": Option("flag"),
        "host": Option("value"),
        "lora-modules": Option("values"),
        "port": Option("value"),
        "dtype": Option("value", ("auto", "bfloat16", "half")),
        "enable-expert-parallel": Option("switch"),
        "max-model-len": Option("value"),
        "model-impl": Option("value"),  # what is in brackets is suggested, not required
        "kv-cache-memory-bytes": Option("value"),
        "collect-detailed-traces": Option("values", ("all", "model", "None")),
        "tensor-parallel-size": Option("value"),
    }


def test_parse_reads_what_python_3_13_prints() -> None:
    newer = HELP.replace("--tensor-parallel-size TENSOR_PARALLEL_SIZE, -tp", "--tensor-parallel-size, -tp")
    assert newer != HELP
    assert texts.parse(newer) == texts.parse(HELP)


@pytest.mark.parametrize("text", ["", "usage: vllm serve [-h]\n", HELP.split("ModelConfig:", maxsplit=1)[0]])
def test_parse_refuses_what_is_half_a_help(text: str) -> None:
    with pytest.raises(ParseError):
        texts.parse(text)


def test_data_brings_back_what_was_parsed() -> None:
    options = texts.parse(HELP)
    assert texts.from_data(texts.as_data(options)) == options


@pytest.mark.parametrize("data", [{"host": "text"}, {"host": 1}, {"--host": "value"}, {"a b": "flag"}])
def test_from_data_refuses_what_it_did_not_write(data: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="is not how an option is written"):
        texts.from_data(data)
