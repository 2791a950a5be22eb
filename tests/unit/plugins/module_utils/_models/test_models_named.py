# SPDX-License-Identifier: GPL-3.0-or-later
"""A model by its name: the path that role models gives it, and the bytes that an engine loads."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._models import named

ROOT = "/srv/models"
REVISION = "a" * 40


def model(name: str, **files: int) -> dict[str, Any]:
    return {"name": name, "revision": REVISION, "files": [{"path": path, "size": size} for path, size in files.items()]}


MISTRAL = model("mistral-7b", **{"config.json": 1, "model-1.safetensors": 70, "model-2.safetensors": 65,
                                 "consolidated.safetensors": 136, "original/model.safetensors": 999})  # fmt: skip
SWARM = model("swarm", **{"q4/model.gguf": 40, "mmproj-f16.gguf": 7})
SEVERAL = model("several", **{"q4.gguf": 40, "q8.gguf": 80})
BIN = model("old", **{"pytorch_model.bin": 12, "tokenizer.model": 3})
MANIFEST: list[object] = [MISTRAL, SWARM, SEVERAL, BIN, "no model at all"]


def test_a_name_is_the_folder_of_its_revision() -> None:
    assert named.folder("mistral-7b", MANIFEST, ROOT, "x") == f"/srv/models/mistral-7b/{REVISION}"
    assert named.gguf("swarm", MANIFEST, "/data", "x") == f"/data/swarm/{REVISION}/q4/model.gguf"
    assert named.gguf("several/q8.gguf", MANIFEST, ROOT, "x").endswith("/q8.gguf")
    # What is loaded beside a model is no model, and can be asked for.
    assert named.gguf("swarm/mmproj-f16.gguf", MANIFEST, ROOT, "x").endswith("/mmproj-f16.gguf")


@pytest.mark.parametrize(
    ("name", "found", "fix"),
    [
        ("mistral-7", "'mistral-7'; the manifest has mistral-7b, swarm", "write mistral-7b"),
        ("qwen", "'qwen'; the manifest has", "declare qwen in models_manifest, or write its path"),
    ],
)
def test_a_name_that_is_nowhere_is_refused_with_what_was_meant(name: str, found: str, fix: str) -> None:
    with pytest.raises(InputError) as error:
        named.folder(name, MANIFEST, ROOT, "engines[0].model")
    problem = error.value.problem
    assert problem.wanted == "engines[0].model: a name in models_manifest, or a path" and problem.why
    assert problem.found.startswith(found) and problem.fix == fix
    with pytest.raises(InputError, match="models_manifest is empty"):
        named.gguf(name, [], ROOT, "engines[0].model")


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("several", "write several/q4.gguf"),
        ("several/q5.gguf", "write several/q4.gguf"),
        ("old", "add it to the files"),
    ],
)
def test_which_of_several_files_is_not_guessed(name: str, fix: str) -> None:
    with pytest.raises(InputError, match=r"one file of the model (several|old) that ends with \.gguf") as error:
        named.gguf(name, MANIFEST, ROOT, "engines[0].model")
    assert error.value.problem.fix.startswith(fix)


@pytest.mark.parametrize(
    ("path", "size"),
    [
        # The same weights in two forms are loaded once, and of other folders nothing.
        (f"{ROOT}/mistral-7b/{REVISION}", 136),
        (f"{ROOT}/swarm/{REVISION}/q4/model.gguf", 40),
        (f"{ROOT}/old/{REVISION}", 12),
        (f"{ROOT}/swarm/{REVISION}/gone.gguf", 0),
        (f"{ROOT}/mistral-7b/current", 0),
        ("/elsewhere", 0),
    ],
)
def test_the_weights_of_a_path_are_those_of_its_files(path: str, size: int) -> None:
    assert named.weights(path, MANIFEST, ROOT) == size


@pytest.mark.parametrize(
    "files", [5, "x", [5], [{"size": 5}], [{"path": "model.safetensors", "size": "²"}], [{"path": "x", "size": True}]]
)
def test_of_files_that_are_none_nothing_is_known(files: object) -> None:
    manifest = [{**model("odd"), "files": files}]
    assert named.weights(f"{ROOT}/odd/{REVISION}", manifest, ROOT) == 0


@pytest.mark.parametrize("manifest", [None, 5, "x", {"a": 1}, [5], [{}]])
def test_a_manifest_that_is_none_has_no_names(manifest: object) -> None:
    with pytest.raises(InputError, match="models_manifest is empty"):
        named.folder("m", manifest, ROOT, "engines[0].model")  # type: ignore[arg-type]
