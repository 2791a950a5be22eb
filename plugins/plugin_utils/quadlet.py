# SPDX-License-Identifier: GPL-3.0-or-later
"""Quadlets of workers: what Podman's generator makes a service of.

The container is the one that RamaLama 0.25 writes (``ramalama serve --generate quadlet``), but for what
tests/unit/plugins/plugin_utils/test_quadlet.py names, which compares the two.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._text.systemd import command_line

FOLDER = "/etc/containers/systemd"
# In the container. A file keeps its name there, so that the log tells which one it is.
MODELS = "/mnt/models"
# systemd and Podman take both; no other character means anything to either.
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}\Z")
# A tag that somebody chose, or a digest. What follows "latest" changes by itself.
_IMAGE = re.compile(r"(?!.*:latest\Z)[a-z0-9][a-z0-9._/:-]*(?::[A-Za-z0-9_][A-Za-z0-9._-]*|@sha256:[0-9a-f]{64})\Z")
# Podman splits Mount= at commas, and systemd expands %.
_PATH = re.compile(r"(?!.*/\.\.?(?:/|\Z))/[A-Za-z0-9._/+@=-]+\.gguf\Z")
_DEVICE = re.compile(r"[A-Za-z0-9./_-]+=[A-Za-z0-9:._-]+\Z|(?!.*/\.\.?(?:/|\Z))/dev/[A-Za-z0-9._/-]+\Z")
# Its port, address, model and key are answered for by the declaration.
_OWN = (
    "--model",
    "-m",
    "--host",
    "--port",
    "--alias",
    "-a",
    "--ctx-size",
    "-c",
    "--mmproj",
    "--parallel",
    "-np",
    "--api-key",
    "--hf-token",
    "-hft",
)
_KNOWN = (
    "name",
    "model",
    "port",
    "context",
    "sequences",
    "projector",
    "served_model_name",
    "image",
    "devices",
    "arguments",
    # Of the budget of memory alone: meta/engines.yml.
    "weights_gib",
    "config",
    "kv_cache_gib",
    "activation_gib",
    "process_gib",
)
# As many as a unit may take to have its image fetched and its weights read from a slow disk.
START_SECONDS = 1800


def workers(given: object, image: object, devices: object) -> list[dict[str, Any]]:
    """Of each its name, port, quadlet and service, the last two as ``ensure_state`` takes them. Raises InputError."""
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Sequence):
        raise _wrong("workers", "a list of workers", given)
    found: list[dict[str, Any]] = []
    for number, worker in enumerate(given):
        at = f"workers[{number}]"
        if not isinstance(worker, Mapping):
            raise _wrong(at, "a mapping", worker)
        one = _worker(at, {"image": image, "devices": devices, **worker})
        for other in found:
            for key in ("name", "port"):
                if other[key] == one[key]:
                    raise _wrong(f"{at}.{key}", f"one that no other worker has ({other['name']} has it)", one[key])
        found.append(one)
    return found


def _worker(at: str, worker: Mapping[str, Any]) -> dict[str, Any]:
    if unknown := sorted(set(map(str, worker)) - set(_KNOWN)):
        raise _wrong(f"{at}.{unknown[0]}", f"one of {', '.join(_KNOWN)}", unknown[0])
    name = _text(at, worker, "name", _NAME, "up to 40 lower-case letters, digits and hyphens")
    model = _text(at, worker, "model", _PATH, "an absolute path of a .gguf file, without commas and blanks")
    port = _number(at, worker, "port", 1024, 65535)
    image = _text(at, worker, "image", _IMAGE, "an image with a tag other than latest, or with its digest")
    argv = ["llama-server", "--host", "0.0.0.0", "--port", str(port), "--model", _inside(model)]
    # A first answer of a minute is worse than a start of a minute: the warm-up, which RamaLama leaves out, stays.
    alias = str(worker.get("served_model_name") or name)
    if not alias.isprintable() or alias.startswith("-"):
        raise _wrong(f"{at}.served_model_name", "a text of one line that does not begin with -", alias)
    argv += ["--alias", alias]
    argv += ["--ctx-size", str(_number(at, worker, "context", 256, 1 << 20) * _sequences(at, worker))]
    argv += ["--parallel", str(_sequences(at, worker))]
    mounts = [model]
    if worker.get("projector"):
        mounts.append(_text(at, worker, "projector", _PATH, "an absolute path of a .gguf file"))
        argv += ["--mmproj", _inside(mounts[1])]
        if _inside(mounts[0]) == _inside(mounts[1]):
            raise _wrong(f"{at}.projector", "a file of another name than the model", mounts[1])
    lines = [f"Mount=type=bind,src={path},target={_inside(path)},ro" for path in mounts]
    lines += [f"AddDevice={device}" for device in _devices(at, worker)]
    content = _TEXT.format(
        name=name,
        image=image,
        port=port,
        mounts="\n".join(lines),
        # Podman splits the line as systemd does, and systemd expands what is left: written for both.
        command=command_line(["/" + argv[0], *argv[1:], *_arguments(at, worker)])[1:],
        seconds=START_SECONDS,
    )
    unit, path = f"ramalama-{name}.service", f"{FOLDER}/ramalama-{name}.container"
    return {
        "name": name,
        "port": port,
        "file": {"path": path, "content": content},
        "unit": {"name": unit, "active": True, "restart_on": [path]},
    }


_TEXT = """\
# A worker of role ramalama of nusy.dgx_spark. Changes here are drift.
[Unit]
Description=Language model {name} (llama.cpp in the container of RamaLama)
After=local-fs.target
StartLimitIntervalSec=3600
StartLimitBurst=5

[Container]
ContainerName=ramalama-{name}
Image={image}
Pull=missing
RunInit=true
ReadOnly=true
Environment=HOME=/tmp
Exec={command}
DropCapability=all
NoNewPrivileges=true
SecurityLabelDisable=true
PublishPort=127.0.0.1:{port}:{port}
{mounts}

[Service]
Slice=nusy-engines.slice
OOMScoreAdjust=500
Restart=on-failure
RestartSec=10
TimeoutStartSec={seconds}

[Install]
WantedBy=multi-user.target
"""


def _inside(path: str) -> str:
    return f"{MODELS}/{posixpath.basename(path)}"


def _sequences(at: str, worker: Mapping[str, Any]) -> int:
    return _number(at, {"sequences": 1, **worker}, "sequences", 1, 256)


def _devices(at: str, worker: Mapping[str, Any]) -> list[str]:
    found = worker["devices"]
    if isinstance(found, (str, bytes)) or not isinstance(found, Sequence):
        raise _wrong(f"{at}.devices", "a list such as [nvidia.com/gpu=all]", found)
    for number, device in enumerate(found):
        if not isinstance(device, str) or not _DEVICE.match(device):
            raise _wrong(
                f"{at}.devices[{number}]", "a CDI name such as nvidia.com/gpu=all, or a path below /dev", device
            )
    return list(map(str, found))


def _arguments(at: str, worker: Mapping[str, Any]) -> list[str]:
    found = worker.get("arguments", [])
    if isinstance(found, (str, bytes)) or not isinstance(found, Sequence):
        raise _wrong(f"{at}.arguments", "a list of words", found)
    words = []
    for number, word in enumerate(found):
        if isinstance(word, bool) or not isinstance(word, (str, int, float)):
            raise _wrong(f"{at}.arguments[{number}]", "text or a number", word)
        if str(word).partition("=")[0] in _OWN:
            # Not what is behind it: of some it is a secret.
            option = str(word).partition("=")[0]
            raise _wrong(f"{at}.arguments[{number}]", "an option that the declaration does not answer for", option)
        if not str(word).isprintable():
            raise _wrong(f"{at}.arguments[{number}]", "a word of one line", word)
        words.append(str(word))
    return words


def _text(at: str, worker: Mapping[str, Any], key: str, wanted: re.Pattern[str], words: str) -> str:
    value = worker.get(key)
    if not isinstance(value, str) or not wanted.match(value):
        raise _wrong(f"{at}.{key}", words, value)
    return str(value)


def _number(at: str, worker: Mapping[str, Any], key: str, least: int, most: int) -> int:
    value = worker.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise _wrong(f"{at}.{key}", f"a whole number from {least} to {most}", value)
    return int(value)


def _wrong(at: str, wanted: str, found: object) -> InputError:
    return InputError(
        "ramalama.bad_input",
        wanted=f"{at}: {wanted}",
        found="nothing" if found is None else repr(found)[:200],
        why="the container would not start, or serve something else than was declared",
        fix=f"correct {at}",
    )
