# SPDX-License-Identifier: GPL-3.0-or-later
"""What is declared about models on a node.

A *snapshot* is the declared files of one commit of a repository at ``<root>/<name>/<revision>/``, complete when its
label, written last, is there. ``<root>/<name>/current`` leads to the declared one.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import ipaddress
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import OPTIONS
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError

ROLE = "models"
CONTROLS = (
    "models/tiers",
    "models/space",
    "models/place",
    "models/snapshots",
    "models/current",
    "models/unused",
)
TIERS, SPACE, PLACE, SNAPSHOTS, CURRENT, UNUSED = CONTROLS
LABEL = ".nusy-snapshot.json"
LINK = "current"
COMMIT = re.compile(r"[0-9a-f]{40}")
# Where a snapshot is worked on.
WORK = re.compile(r"\.([0-9a-f]{40})\.work")
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
# A folder, or one of another machine as ssh names it.
PEER = re.compile(r"(?:(?:[a-z_][a-z0-9_-]{0,31}@)?[A-Za-z0-9][A-Za-z0-9.-]{0,252}:)?/[\w./-]*")
MIB = 1 << 20
GIB = 1 << 30
# A pebibyte, more than any model.
MOST = 1 << 50
# What file systems of Linux take for one name.
MOST_OF_NAME = 255

FILE: dict[str, Any] = {
    "path": {"type": "str", "required": True},
    "size": {"type": "int", "required": True},
    "sha256": {"type": "str", "required": True},
}
MODEL: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "repository": {"type": "str", "required": True},
    "revision": {"type": "str", "required": True},
    "files": {"type": "list", "elements": "dict", "required": True, "options": FILE},
    "licence": {"type": "str", "required": True},
    "gated": {"type": "bool", "default": False},
    "quantisation": {"type": "str", "default": ""},
}
TIER: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "path": {"type": "str", "default": ""},
    "owner": {"type": "str", "default": ""},
    "mode": {"type": "str", "default": ""},
    "free_gib": {"type": "int", "default": 20},
    "file_systems": {"type": "list", "elements": "str", "default": []},
    "mounted": {"type": "bool"},
}
# The places that a storage plan is expected to have, where they are unless it says so. Hot models are at the root.
HOT_MODELS = "hot_models"
COLD_ARCHIVE = "cold_archive"
PLACES = {
    HOT_MODELS: "",
    "checkpoints": "/srv/checkpoints",
    "knowledge_graphs": "/srv/knowledge-graphs",
    "vector_indexes": "/srv/vector-indexes",
    "artifacts": "/srv/artifacts",
    COLD_ARCHIVE: "/srv/archive",
}
# Of the system, with all below them; and folders that everybody shares, of which one below may be somebody's own.
SYSTEM = ("bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "root", "run", "sbin", "sys", "usr")
SHARED = ("/home", "/media", "/mnt", "/opt", "/snap", "/srv", "/tmp", "/var", "/var/*")
OTHERS_LIVE_THERE = "it would be given to an account, and others live in it"
# What is installed is written down there.
SHARED_STATE = ("apt", "dpkg", "systemd", "nusy")
ARGUMENT_SPEC: dict[str, Any] = {
    "models": {"type": "list", "elements": "dict", "default": [], "options": MODEL},
    "root": {"type": "str", "default": "/srv/models"},
    "owner": {"type": "str", "default": "nusy"},
    "python": {"type": "str", "default": "/opt/nusy/venvs/vllm/current/bin/python"},
    "endpoint": {"type": "str", "default": "https://huggingface.co"},
    "token": {"type": "str", "default": "", "no_log": True},
    "proxy": {"type": "str", "default": "", "no_log": True},
    "no_proxy": {"type": "list", "elements": "str", "default": []},
    "offline": {"type": "bool", "default": False},
    "peers": {"type": "list", "elements": "str", "default": []},
    "reserve_gib": {"type": "int", "default": 20},
    "verify": {"type": "str", "default": "stamps", "choices": ["stamps", "everything"]},
    "tiers": {"type": "list", "elements": "dict", "default": [], "options": TIER},
    **OPTIONS,
}


@dataclass(frozen=True)
class File:
    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Model:
    name: str
    repository: str
    revision: str
    files: tuple[File, ...]
    licence: str
    gated: bool = False
    quantisation: str = ""

    @property
    def id(self) -> str:
        return f"{self.name}/{self.revision}"

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    def label(self) -> dict[str, object]:
        """What the snapshot says of itself, beside its files."""
        return {
            "schema": 1,
            "name": self.name,
            "repository": self.repository,
            "revision": self.revision,
            "licence": self.licence,
            "gated": self.gated,
            "quantisation": self.quantisation,
        }


@dataclass(frozen=True)
class Tier:
    """``free``: bytes that must be left. ``mounted``: it must be a file system of its own.

    file_systems: it must be on one of these; any will do when there is none.
    """

    name: str
    path: str
    owner: str
    mode: int
    free: int = 0
    file_systems: tuple[str, ...] = ()
    mounted: bool = False


@dataclass(frozen=True)
class Wish:
    """``delays``: seconds before each further try at a hub that answers with an error of its own.

    no_proxy: hosts that are asked without ``proxy``, beside this machine.
    """

    models: tuple[Model, ...]
    root: str
    owner: str
    python: str = "/usr/bin/python3"
    endpoint: str = ""
    token: str = field(default="", repr=False)
    proxy: str = field(default="", repr=False)
    no_proxy: tuple[str, ...] = ()
    offline: bool = False
    peers: tuple[str, ...] = ()
    reserve: int = 0
    everything: bool = False
    tiers: tuple[Tier, ...] = ()
    confirmed: frozenset[str] = frozenset()
    delays: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 16.0)

    def home(self, model: Model) -> str:
        return f"{self.root}/{model.name}"

    def folder(self, model: Model) -> str:
        return f"{self.root}/{model.id}"

    def work(self, model: Model) -> str:
        return f"{self.root}/{model.name}/.{model.revision}.work"


def wish(params: Mapping[str, Any]) -> Wish:
    """Raises InputError."""
    root = _own_place("root", params["root"])
    models = tuple(_model(f"manifest[{number}]", one) for number, one in enumerate(params["models"]))
    _once("manifest", "name", [model.name for model in models])
    endpoint = str(params["endpoint"])
    if not re.fullmatch(r"https?://[\w.:\[\]-]+(/[\w./%+~-]*)?", endpoint, re.ASCII):
        why = "it would be shown in results, and the client would not find the hub"
        raise _wrong("endpoint", "a URL of http or https without user, password and query", endpoint, why)
    token = str(params["token"] or "")
    if token and endpoint.startswith("http://") and not _is_this_machine(endpoint):
        why = "everybody on the way could read the token"
        raise _wrong("endpoint", "https, since a token is sent to it", endpoint, why)
    if not re.fullmatch(r"[!-~]*", token):
        why = "no header holds it"
        raise _wrong("token", "printable ASCII without blanks and line ends", "something else, not shown", why)
    proxy = _proxy(str(params["proxy"] or ""))
    for number, host in enumerate(params["no_proxy"]):
        if not re.fullmatch(r"[\w.*:/\[\]-]+", host, re.ASCII):
            why = "hosts are divided by commas for the client"
            raise _wrong(f"no_proxy[{number}]", "a host, a domain with a dot before it, or an address", host, why)
    for number, peer in enumerate(params["peers"]):
        if not PEER.fullmatch(peer):
            why = "it is a place that rsync reads"
            raise _wrong(f"peers[{number}]", "a folder, or [user@]host:/folder", peer, why)
    if params["reserve_gib"] < 0:
        raise _wrong("reserve_gib", "0 or more", params["reserve_gib"], "there is nothing less than nothing")
    owner = str(params["owner"])
    return Wish(
        models,
        root,
        owner,
        _path("python", params["python"]),
        endpoint.rstrip("/"),
        token,
        proxy,
        (*params["no_proxy"], *([urlsplit(endpoint).hostname or ""] if _is_this_machine(endpoint) else ())),
        bool(params["offline"]),
        tuple(peer.rstrip("/") for peer in params["peers"]),
        params["reserve_gib"] * GIB,
        params["verify"] == "everything",
        _tiers(params["tiers"], owner, root),
        frozenset(params["confirm"]),
    )


def _model(at: str, given: Mapping[str, Any]) -> Model:
    for name, form, wanted, why in (
        ("name", NAME, "lower-case letters, digits, '.', '_' and '-'", "it is the name of a folder"),
        ("repository", REPOSITORY, "owner/name", "the hub knows repositories by both"),
        ("revision", COMMIT, "a full commit, 40 hexadecimal digits", "a branch or tag is other bytes tomorrow"),
    ):
        if not form.fullmatch(given[name]):
            raise _wrong(f"{at}.{name}", wanted, given[name], why)
    files = tuple(_file(f"{at}.files[{number}]", one) for number, one in enumerate(given["files"]))
    if not files:
        raise _wrong(f"{at}.files", "at least one file", [], "an empty model cannot be served")
    _once(f"{at}.files", "path", [file.path for file in files])
    sizes: dict[str, int] = {}
    for number, file in enumerate(files):
        if sizes.setdefault(file.sha256, file.size) != file.size:
            why = f"an earlier file has the same hash and {sizes[file.sha256]} bytes"
            raise _wrong(f"{at}.files[{number}].size", "one size for one content", file.size, why)
    folders = {part for file in files for part in parents(file.path)}
    for number, file in enumerate(files):
        if file.path in folders:
            raise _wrong(f"{at}.files[{number}].path", "a file", file.path, "another file has it as its folder")
    if not given["licence"].strip():
        raise _wrong(f"{at}.licence", "the name of its licence", given["licence"], "someone has to have read it")
    return Model(
        given["name"],
        given["repository"],
        given["revision"],
        files,
        given["licence"],
        bool(given["gated"]),
        given["quantisation"] or "",
    )


def _file(at: str, given: Mapping[str, Any]) -> File:
    path = given["path"]
    parts = path.split("/")
    if not path.isprintable() or any(part in ("", ".", "..") for part in parts) or LABEL in parts[0]:
        why = "it would lead out of the snapshot, or to its label"
        raise _wrong(f"{at}.path", "a relative path without '.' and '..'", path, why)
    if any(len(part.encode()) > MOST_OF_NAME for part in parts):
        raise _wrong(f"{at}.path", f"names of at most {MOST_OF_NAME} bytes", path, "no file can be called so")
    if not 0 <= given["size"] <= MOST:
        why = "the room for it is looked for before the first byte"
        raise _wrong(f"{at}.size", f"bytes, at most {MOST}", given["size"], why)
    if not re.fullmatch(r"[0-9a-f]{64}", given["sha256"]):
        why = "every byte is compared with it"
        raise _wrong(f"{at}.sha256", "64 hexadecimal digits in lower case", given["sha256"], why)
    return File(path, given["size"], given["sha256"])


def _tiers(given: Sequence[Mapping[str, Any]], owner: str, root: str) -> tuple[Tier, ...]:
    tiers = []
    for number, one in enumerate(given):
        at, name = f"tiers[{number}]", one["name"]
        path = one["path"] or PLACES.get(name, "") or (root if name == HOT_MODELS else "")
        if not path:
            why = "only those have a place of their own"
            raise _wrong(f"{at}.path", f"the folder of a tier that is none of {', '.join(PLACES)}", "", why)
        # Engines of other accounts read models.
        mode = one["mode"] or ("0755" if name == HOT_MODELS else "0750")
        if not re.fullmatch(r"0?[0-7]{3,4}", mode):
            raise _wrong(f"{at}.mode", "octal digits in quotes, such as '0750'", mode, "it is set as it is")
        if int(mode, 8) & 0o002:
            why = "every account, and whoever breaks into one, could replace what others load from it"
            raise _wrong(
                f"{at}.mode", "a mode in which not everybody may write; give it an owner or a group", mode, why
            )
        if one["free_gib"] < 0:
            raise _wrong(f"{at}.free_gib", "0 or more", one["free_gib"], "there is nothing less than nothing")
        mounted = name == COLD_ARCHIVE if one["mounted"] is None else one["mounted"]
        tiers.append(
            Tier(
                name, _own_place(f"{at}.path", path), one["owner"] or owner, int(mode, 8), one["free_gib"] * GIB,
                tuple(one["file_systems"] or ()), bool(mounted),
            )
        )  # fmt: skip
    _once("tiers", "name", [tier.name for tier in tiers])
    _once("tiers", "path", [tier.path for tier in tiers])
    return tuple(tiers)


def parents(path: str) -> list[str]:
    """The folders above it, the outermost first."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[: number + 1]) for number in range(len(parts))]


def _path(at: str, given: str) -> str:
    plain = re.fullmatch(r"(/[\w.+@-]+)+", given) and not re.search(r"/\.{1,2}(/|$)", given)
    if not plain:
        raise _wrong(at, "an absolute path without .., // or a / at its end", given, "nothing is looked up by name")
    return given


def _own_place(at: str, given: str) -> str:
    """A folder that can be given to an account: its owner and mode are set."""
    path = _path(at, given)
    if of_the_system(path):
        wanted = "a folder of its own, such as one below /srv; not one of the system"
        raise _wrong(at, wanted, given, OTHERS_LIVE_THERE)
    return path


def of_the_system(path: str) -> bool:
    above, name = posixpath.split(path)
    shared = path in SHARED or f"{above}/*" in SHARED or (above == "/var/lib" and name in SHARED_STATE)
    return path.split("/")[1] in SYSTEM or shared or path.startswith(tuple(f"/var/lib/{one}/" for one in SHARED_STATE))


def _proxy(given: str) -> str:
    """It may hold a password: what is wrong with it is not shown."""
    wanted = "http:// or https://, [user:password@]host[:port], with %XX for what has a meaning there"
    why = "the client would not find the proxy"
    if not given:
        return ""
    if not re.fullmatch(r"https?://(?:[!-.0-?A-~]+@)?(?:[\w.-]+|\[[0-9a-f:.]+\])(?::\d{1,5})?/?", given, re.ASCII):
        raise _wrong("proxy", wanted, "something else, not shown", why)
    return given.rstrip("/")


def secrets(params: Mapping[str, Any]) -> Iterator[str]:
    """What must be shown nowhere: the token, and what the proxy asks for, in every spelling."""
    yield str(params["token"] or "")
    proxy = str(params["proxy"] or "")
    before, at, _host = proxy.rpartition("@")
    if at:
        user = before.partition("://")[2]
        password = user.partition(":")[2] or user
        yield from (proxy, user, password, unquote(password))


def _is_this_machine(endpoint: str) -> bool:
    """By its address: a name that begins like one may be anybody's."""
    try:
        host = urlsplit(endpoint).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _once(at: str, name: str, given: Sequence[str]) -> None:
    for number, one in enumerate(given):
        if one in given[:number]:
            raise _wrong(f"{at}[{number}].{name}", "another one", one, "an earlier entry has it")


def _wrong(at: str, wanted: str, found: object, why: str) -> InputError:
    return InputError(
        "models.bad_input", wanted=f"{at}: {wanted}", found=repr(found)[:200], why=why, fix=f"correct models_{at}"
    )
