# SPDX-License-Identifier: GPL-3.0-or-later
"""A language model of 700 KB that a real vLLM loads, and an adapter for it: random weights, one token for each byte.

Written by hand after the formats of safetensors and tokenizers, so that no test has to fetch one. Heads are 64 wide:
vLLM's attention on processors takes nothing smaller.
"""

from __future__ import annotations

import array
import json
import random
import struct
from collections.abc import Mapping
from pathlib import Path

WIDTH, HIDDEN, HEAD, LAYERS, CONTEXT = 128, 256, 64, 2, 1024
HEADS, KEY_HEADS = WIDTH // HEAD, 1
SPECIAL = ("<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
RANK = 4
# bfloat16: a sign, 8 bits of exponent, 7 of fraction. One, and what lies between 2^-5 and 2^-4 with either sign.
ONE, SMALL = 0x3F80, 122 << 7


def model(folder: Path, seed: int = 0) -> Path:
    folder.mkdir(parents=True)
    vocabulary = [*SPECIAL, *_bytes().values()]
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "bfloat16",
        "hidden_act": "silu",
        "hidden_size": WIDTH,
        "intermediate_size": HIDDEN,
        "head_dim": HEAD,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KEY_HEADS,
        "num_hidden_layers": LAYERS,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
        "tie_word_embeddings": False,
        "vocab_size": len(vocabulary),
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    tokenizer = {
        "version": "1.0",
        "added_tokens": [
            {"id": n, "content": text, "special": True, "normalized": False}
            | dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
            for n, text in enumerate(SPECIAL)
        ],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "vocab": {text: n for n, text in enumerate(vocabulary)},
            "merges": [],
        },
    }
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    documents = {
        "config.json": config,
        "tokenizer.json": tokenizer,
        "tokenizer_config.json": {**names, "tokenizer_class": "PreTrainedTokenizerFast", "chat_template": TEMPLATE},
    }
    for name, document in documents.items():
        (folder / name).write_text(json.dumps(document, indent=1) + "\n")
    keys = HEAD * KEY_HEADS
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (len(vocabulary), WIDTH),
        "model.norm.weight": (WIDTH,),
        "lm_head.weight": (len(vocabulary), WIDTH),
    }
    for n in range(LAYERS):
        parts = {
            **{"input_layernorm": (WIDTH,), "post_attention_layernorm": (WIDTH,)},
            **{"self_attn.q_proj": (WIDTH, WIDTH), "self_attn.o_proj": (WIDTH, WIDTH)},
            **{"self_attn.k_proj": (keys, WIDTH), "self_attn.v_proj": (keys, WIDTH)},
            **{"mlp.gate_proj": (HIDDEN, WIDTH), "mlp.up_proj": (HIDDEN, WIDTH), "mlp.down_proj": (WIDTH, HIDDEN)},
        }
        shapes.update({f"model.layers.{n}.{name}.weight": shape for name, shape in parts.items()})
    _safetensors(folder / "model.safetensors", shapes, random.Random(seed))
    return folder


def adapter(folder: Path) -> Path:
    """For the queries and values of each layer."""
    folder.mkdir(parents=True)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "tiny",
        "r": RANK,
        "lora_alpha": 64,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": ["q_proj", "v_proj"],
    }
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=1) + "\n")
    shapes = {
        f"base_model.model.model.layers.{n}.self_attn.{name}.lora_{part}.weight": shape
        for n in range(LAYERS)
        for name, wide in (("q_proj", WIDTH), ("v_proj", HEAD * KEY_HEADS))
        for part, shape in (("A", (RANK, WIDTH)), ("B", (wide, RANK)))
    }
    _safetensors(folder / "adapter_model.safetensors", shapes, random.Random(1))
    return folder


def _bytes() -> dict[int, str]:
    """Each byte as the letter that byte-level tokenizers write for it: itself where it can be seen."""
    seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in seen]
    return {**{byte: chr(byte) for byte in seen}, **{byte: chr(256 + n) for n, byte in enumerate(others)}}


def _safetensors(path: Path, shapes: Mapping[str, tuple[int, ...]], dice: random.Random) -> None:
    """Length of the head, head, data. Norms are one, everything else is chance."""
    head, data = {}, b""
    for name, shape in shapes.items():
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        drawn = array.array("H", dice.randbytes(2 * count))
        words = [ONE] * count if len(shape) == 1 else [(word & 0x807F) | SMALL for word in drawn]
        begin, data = len(data), data + struct.pack(f"<{count}H", *words)
        head[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, len(data)]}
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
