# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a snapshot could not be had, and what to do about it.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.command import Completed
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import one_line
from ansible_collections.nusy.dgx_spark.plugins.module_utils._models.model import MIB, Model, Wish

KEPT = "nothing of it is published, and what came is kept for the next run"


def hub(model: Model, wish: Wish, failures: Sequence[Mapping[str, Any]], disk: os.statvfs_result) -> NodeError:
    """The first failure decides; the others are mostly the same one again."""
    first = failures[0]
    kind, status, said = str(first["kind"]), int(first["status"]), one_line(str(first["said"]), 300)
    page = f"{wish.endpoint}/{model.repository}"
    key, why, fix = "models.fetch_failed", KEPT, "see what it says, and run the play again"
    if first["errno"] == 28 or disk.f_bavail * disk.f_frsize < MIB:
        return disk_full(f"{first['path']} of {model.id}", wish.folder(model))
    if kind == "NoLibrary":
        key, fix = "models.no_client", f"install huggingface_hub into the environment of {wish.python} (role vllm_venv)"
    elif kind == "ProxyError" or status == 407:
        key, fix = "models.proxy", "correct models_proxy, or name what needs none in models_no_proxy"
    elif kind == "GatedRepoError" or (status in (401, 403) and model.gated):
        key, why = "models.not_allowed", "the hub gives gated models only to who accepted their licence"
        fix = f"accept the licence at {page} with the account of the token, and give that token as models_token"
    elif kind == "RepositoryNotFoundError" or status in (401, 403):
        key, why = "models.no_repository", f"the hub shows no such repository to this caller; {KEPT}"
        fix = f"see {page}: correct the repository, or declare it gated: true and give models_token"
    elif kind == "RevisionNotFoundError":
        key, fix = "models.no_revision", f"correct the revision: {page}/commits/main lists those that are there"
    elif "EntryNotFound" in kind or status == 404:
        key, fix = "models.no_file", f"correct the path: {page}/tree/{model.revision} lists the files of that commit"
    elif status >= 500 or status == 429:
        key, fix = "models.hub_failed", "try again later, or name a mirror as models_endpoint or a peer in models_peers"
    elif kind == "MoreThanDeclared" or "Consistency check failed" in said:
        return other_bytes(model, wish.endpoint, [str(first["path"])])
    elif kind.startswith(("Connect", "Timeout", "Read", "Remote", "Network")):
        key = "models.unreachable"
        fix = "mend the network, or name a proxy (models_proxy), a mirror (models_endpoint) or a peer (models_peers)"
        fix = "see that models_proxy is there; or name a mirror (models_endpoint) or a peer" if wish.proxy else fix
    more = f" (and {len(failures) - 1} more files)" if len(failures) > 1 else ""
    return NodeError(
        key,
        wanted=f"{first['path']} of {model.repository} at {model.revision} from {wish.endpoint}{more}",
        found=f"{f'{status} ' if status else ''}{kind}: {said}",
        why=why,
        fix=fix,
    )


def other_bytes(model: Model, source: str, paths: Sequence[str]) -> NodeError:
    return NodeError(
        "models.hash",
        wanted=f"the declared bytes of {', '.join(paths[:5])} of {model.id}",
        found=f"{source} has others under that commit",
        why=f"they were tampered with, or the manifest is wrong; {KEPT}, but for these",
        fix="find out which of the two is wrong before you change the manifest",
    )


def offline(model: Model, paths: Sequence[str], passed: Mapping[str, str]) -> NodeError:
    tried = "; ".join(f"{source}: {why}" for source, why in passed.items())
    return NodeError(
        "models.offline",
        wanted=f"{len(paths)} files of {model.id} without asking a hub (models_offline)",
        found=f"not on this node{f', and not from {tried}' if tried else ''}: {', '.join(paths[:5])}",
        why=KEPT,
        fix="name a folder or host that has the snapshot in models_peers, or set models_offline: false",
    )


def disk_full(wanted: str, place: str) -> NodeError:
    return NodeError(
        "models.disk_full",
        wanted=wanted,
        found=f"no space left on the device{f' of {place}' if place else ''}",
        why=f"somebody else has used it up since the room was looked for; {KEPT}",
        fix="free space, or name unused snapshots in models_confirm, and run the play again",
    )


def client(model: Model, python: str, done: Completed) -> NodeError:
    return NodeError(
        # As who starts it says: it cannot be run, or is not there.
        "models.no_client" if done.rc in (None, 126, 127) and not done.out else "models.client",
        wanted=f"{model.repository} fetched by huggingface_hub of {python}",
        found=f"it {done.ending}: {one_line(done.said(2), 300)}",
        why=KEPT,
        fix="see that models_python names the Python of an environment that has huggingface_hub (role vllm_venv)",
    )


def busy(work: str, holder: int, seconds: float) -> NodeError:
    who = f"process {holder}" if holder else "a process that is not seen from here (of another container or node)"
    return NodeError(
        "models.busy",
        wanted=f"{work} for this run alone",
        found=f"{who} has it, or what that has started, and still had it after {seconds:g} s",
        why="two at once would write into the same files, and publish what neither has compared",
        fix=f"see what it does (ps -fp {holder or 'PID'}), wait for it or end it, and run the play again",
    )


def no_folder(work: str) -> NodeError:
    return NodeError(
        "models.no_folder",
        wanted=f"{work}, a folder of its own for what is fetched",
        found="something else is there, a link or a file",
        why="through a link a run would write where somebody else keeps something",
        fix=f"see whose it is (ls -ld {work}), move it away, and run the play again",
    )


def in_use(path: str, user: str) -> NodeError:
    return NodeError(
        "models.in_use",
        wanted=f"{path} removed, since models_confirm has it",
        found=f"{user} has begun to use it since this run has looked",
        why="an engine would lose the model that it serves",
        fix="end it first, or take the path out of models_confirm; then run the play again",
    )
