# SPDX-License-Identifier: GPL-3.0-or-later
"""Which container images a node has, held against the scans that were handed in. Changes nothing.

An image is what its digest says, never what its tag says. What no scan covers is unknown, by name.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import one_line, unique
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import Assertion
from ansible_collections.nusy.dgx_spark.plugins.module_utils._updates.scans import Scan

DOCKER, PODMAN = "/usr/bin/docker", "/usr/bin/podman"
SYSTEMCTL = "/usr/bin/systemctl"
# containers-storage.conf(5): the second is the distribution's, used where there is no first.
STORAGE_CONF = ("/etc/containers/storage.conf", "/usr/share/containers/storage.conf")
GRAPH_ROOT = "/var/lib/containers/storage"
_GRAPH_ROOT = re.compile(r"^\s*graphroot\s*=\s*\"([^\"]+)\"", re.MULTILINE)
_ID = re.compile(r"(?:sha256:)?([0-9a-f]{64})\Z")
FIX = "pull or build a newer image, make its containers anew, and remove this one; or scan what has no scan"
TOLD = 4


@dataclass(frozen=True)
class Image:
    """``digests``: of the manifests by which it was pulled; none for one that was built here."""

    id: str
    name: str
    digests: frozenset[str]
    architecture: str


class NoAnswer(Exception):
    """The engine is there and does not say what it has."""


def judged(reader: Reader, scans: Sequence[Scan], max_age: float, now: float) -> tuple[Assertion, ...]:
    """Empty: this node has no engine for containers."""
    truths: list[Assertion] = []
    for engine, look in ((DOCKER, _docker), (PODMAN, _podman)):
        name = f"images of {engine.rpartition('/')[2]}"
        try:
            if reader.stat(engine) is None:
                continue
            images = look(reader)
        except (NoAnswer, Unreadable) as error:
            truths.append(Assertion(name, "unknown", "", "judged", f"{name}: {one_line(str(error))}"))
            continue
        found = [_verdict(image, scans, max_age, now) for image in images]
        truths += found or [Assertion(name, "in_sync", "none", "none")]
    return tuple(truths)


def _docker(reader: Reader) -> tuple[Image, ...]:
    # Its socket would start it.
    if not reader.run([SYSTEMCTL, "is-active", "--quiet", "docker.service"]).ok:
        raise NoAnswer("docker.service does not run")
    return _listed(reader, DOCKER)


def _podman(reader: Reader) -> tuple[Image, ...]:
    """Only where it has been used: to answer it makes the folders that it lacks."""
    texts = (reader.read(path) for path in STORAGE_CONF)
    configured = next((_GRAPH_ROOT.findall(text) for text in texts if text is not None), [])
    root = configured[-1] if configured else GRAPH_ROOT
    return _listed(reader, PODMAN) if reader.stat(root) is not None else ()


def _listed(reader: Reader, engine: str) -> tuple[Image, ...]:
    """Both engines answer both questions in the same words."""
    ids = unique(_asked(reader, engine, "images", "--quiet", "--no-trunc").split())
    if not ids:
        return ()
    try:
        found = tuple(_image(one) for one in json.loads(_asked(reader, engine, "image", "inspect", *ids)))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NoAnswer(f"{engine} image inspect: {error}") from error
    if len(found) != len(ids):
        raise NoAnswer(f"{engine} image inspect tells of {len(found)} images, and {len(ids)} are there")
    return found


def _asked(reader: Reader, *argv: str) -> str:
    done = reader.run([*argv], timeout=60)
    if not done.ok:
        raise NoAnswer(f"{' '.join(argv[:3])} {done.ending}: {done.said()}")
    return done.out


def _image(one: Mapping[str, Any]) -> Image:
    match = _ID.match(str(one["Id"]))
    if match is None:
        raise ValueError(f"{one['Id']!r} is no id of an image")
    pulled = [str(digest) for digest in one.get("RepoDigests") or ()]
    names = [*(str(tag) for tag in one.get("RepoTags") or ()), *pulled, f"sha256:{match[1][:12]}"]
    digests = frozenset(digest.rpartition("@")[2] for digest in pulled)
    return Image(match[1], names[0], digests, str(one.get("Architecture") or ""))


def _covering(image: Image, scans: Sequence[Scan]) -> Iterator[Scan]:
    """By id, which is one image; or by the digest it was pulled by, which may be that of several architectures."""
    for scan in scans:
        if image.id in scan.ids or (image.architecture == scan.architecture and image.digests & scan.digests):
            yield scan


def _verdict(image: Image, scans: Sequence[Scan], max_age: float, now: float) -> Assertion:
    name, wanted = f"image {image.name}", "nothing known"
    newest = max(_covering(image, scans), key=lambda scan: scan.scanned, default=None)
    if newest is None:
        why = f"no scan covers {image.name} (sha256:{image.id})"
        return Assertion(name, "unknown", "", wanted, why, FIX)
    if newest.findings:
        told = ", ".join(finding.told for finding in newest.findings[:TOLD])
        more = f" and {len(newest.findings) - TOLD} more" if len(newest.findings) > TOLD else ""
        return Assertion(
            name, "drifted", f"{len(newest.findings)} known", wanted, f"{image.name}: {told}{more}", FIX,
            awaits="another image",
        )  # fmt: skip
    if now - newest.scanned > max_age:
        why = (
            f"{image.name} was scanned {(now - newest.scanned) / 86400:.0f} days ago: what is known since is not in it"
        )
        return Assertion(name, "unknown", "", wanted, why, FIX)
    return Assertion(name, "in_sync", wanted, wanted)
