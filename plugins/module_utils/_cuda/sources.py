# SPDX-License-Identifier: GPL-3.0-or-later
"""The apt repository that CUDA comes from: which there is, which there should be, and its key.

A second source with the same address and another Signed-By stops apt altogether, for every
package. So one that somebody has configured is adopted, and ours is added where there is none.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.aside import ask
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError, Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Step, one_line
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader, Writer
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda import openpgp
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda.model import Repository
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import Unknown

APT = "/etc/apt"
OURS = f"{APT}/sources.list.d/nusy-cuda.sources"
KEYRING = f"{APT}/keyrings/nusy-cuda.asc"
PINS = f"{APT}/preferences.d/nusy-cuda"
# What NVIDIA's own systems have; never to be removed in favour of another.
NVIDIA = f"{APT}/sources.list.d/cuda-compute-repo.sources"
NVIDIA_URL = "https://developer.download.nvidia.com/compute/cuda/repos"
# Its name for a machine is not always that of uname: arm64 there is another, nearly empty repository.
MACHINES = {"aarch64": "sbsa", "x86_64": "x86_64"}
# Systems whose repository NVIDIA signs with the key that is declared by default.
SYSTEMS = {
    ("ubuntu", "22.04"): ("ubuntu2204", ("aarch64", "x86_64")),
    ("ubuntu", "24.04"): ("ubuntu2404", ("aarch64", "x86_64")),
    ("debian", "12"): ("debian12", ("x86_64",)),
}
# That repository has drivers, too, in newer versions than the system's, and an upgrade would mix both.
DRIVERS = (
    *("cuda-drivers*", "nvidia-open*", "nvidia-driver-*", "nvidia-dkms-*", "nvidia-kernel-*", "nvidia-firmware-*"),
    *("nvidia-headless-*", "nvidia-compute-utils*", "nvidia-utils*", "nvidia-settings*", "nvidia-modprobe*"),
    *("nvidia-persistenced*", "nvidia-fabricmanager*", "nvidia-imex*", "xserver-xorg-video-nvidia*", "libxnvctrl*"),
    # Not libnvidia-*: the container toolkit is libnvidia-container.
    *("libnvidia-cfg*", "libnvidia-common*", "libnvidia-compute*", "libnvidia-decode*", "libnvidia-encode*"),
    *("libnvidia-extra*", "libnvidia-fbc*", "libnvidia-gl*", "libnvidia-gpucomp*", "libnvidia-nscq*"),
)
FETCH_SECONDS = 30.0
MAX_KEY = 1 << 20

_LINE = re.compile(r"deb(?:-src)?\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)")
_SIGNED_BY = re.compile(r"(?:^|\s)signed-by=(\S+)", re.IGNORECASE)


@dataclass(frozen=True)
class Entry:
    """One enabled source. ``signed_by``: as written, on one line."""

    file: str
    uri: str
    suite: str
    signed_by: str


@dataclass(frozen=True)
class Seen:
    """entries: those of the wanted address. alone: files that hold nothing else. fingerprints: of our key file.

    pinned: our pins are there.
    """

    entries: tuple[Entry, ...]
    alone: frozenset[str]
    fingerprints: tuple[str, ...]
    key_problem: str = ""
    pinned: bool = False

    @property
    def foreign(self) -> tuple[Entry, ...]:
        return tuple(entry for entry in self.entries if entry.file != OURS)


def nvidia_url(reader: Reader, machine: str) -> str | Unknown:
    """NVIDIA's repository for this system."""
    try:
        text = reader.read("/etc/os-release") or ""
    except Unreadable as error:
        return Unknown(str(error))
    release = {key: value.strip("\"'") for key, _equals, value in (line.partition("=") for line in text.splitlines())}
    system = (release.get("ID", ""), release.get("VERSION_ID", ""))
    name, machines = SYSTEMS.get(system, ("", ()))
    if machine not in machines:
        what = " ".join(part for part in (*system, f"on {machine}") if part)
        return Unknown(f"unsupported platform: no repository of NVIDIA is known for {what}; declare repository_url")
    return f"{NVIDIA_URL}/{name}/{MACHINES[machine]}/"


def observe(reader: Reader, url: str) -> Seen | Unknown:
    wanted = _address(url)
    try:
        entries = [entry for path, text in _files(reader) for entry in parse(path, text)]
        stat, key = reader.stat(KEYRING), reader.read(KEYRING)
        pinned = reader.stat(PINS) is not None
    except Unreadable as error:
        return Unknown(str(error))
    mine = tuple(entry for entry in entries if _address(entry.uri) == wanted)
    others = {entry.file for entry in entries if _address(entry.uri) != wanted}
    alone = frozenset(entry.file for entry in mine) - others
    found: tuple[str, ...] = ()
    problem = "absent"
    if stat is not None and key is not None:
        try:
            found, problem = openpgp.fingerprints(key), ""
        except openpgp.NoKey as error:
            problem = str(error)
        # apt reads it as a user of its own, and what others can write is no key to trust.
        if stat.kind != "file" or stat.uid != 0 or not stat.mode & 0o004 or stat.mode & 0o022:
            problem = problem or f"{stat.kind} of {reader.user_name(stat.uid)} with mode {stat.octal}"
    return Seen(mine, alone, found, problem, pinned)


def _files(reader: Reader) -> Iterator[tuple[str, str]]:
    folder = f"{APT}/sources.list.d"
    names = [f"{folder}/{name}" for name in reader.listdir(folder) or () if name.endswith((".list", ".sources"))]
    for path in (f"{APT}/sources.list", *names):
        yield path, reader.read(path) or ""


def parse(path: str, text: str) -> list[Entry]:
    return list(_stanzas(path, text) if path.endswith(".sources") else _lines(path, text))


def _lines(path: str, text: str) -> Iterator[Entry]:
    """sources.list(5), one-line style."""
    for line in text.splitlines():
        found = _LINE.match(line.strip())
        if found:
            signed = _SIGNED_BY.search(found["options"] or "")
            yield Entry(path, found["uri"], found["suite"], signed[1] if signed else "")


def _stanzas(path: str, text: str) -> Iterator[Entry]:
    """sources.list(5), deb822 style: a field goes on in lines that begin with a blank."""
    for stanza in re.split(r"\n(?:[ \t]*\n)+", text):
        fields: dict[str, str] = {}
        name = ""
        for line in stanza.splitlines():
            if line.startswith("#"):
                continue
            if line[:1] in (" ", "\t") and name:
                fields[name] += f" {line.strip()}"
            elif ":" in line:
                name, _colon, value = line.partition(":")
                name = name.strip().lower()
                fields[name] = value.strip()
        if fields.get("enabled", "yes").lower() in ("no", "false", "without", "off", "disable"):
            continue
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield Entry(path, uri, suite, " ".join(fields.get("signed-by", "").split()))


def _address(uri: str) -> str:
    """What apt takes for the same place."""
    return uri.rstrip("/")


def conflict(entries: tuple[Entry, ...]) -> bool:
    """Whether apt refuses these: one address and suite, and two keys."""
    keys: dict[tuple[str, str], set[str]] = {}
    for entry in entries:
        keys.setdefault((_address(entry.uri), entry.suite), set()).add(entry.signed_by)
    return any(len(found) > 1 for found in keys.values())


def stanza(url: str) -> str:
    return (
        "# NVIDIA's CUDA packages. Written by role cuda_toolchain of nusy.dgx_spark.\n"
        f"Types: deb\nURIs: {url}\nSuites: /\nSigned-By: {KEYRING}\n"
    )


def pins() -> str:
    """By the label of the repository, which a mirror keeps; its host may have the system's packages, too."""
    return (
        "# The driver comes from the system. Written by role cuda_toolchain of nusy.dgx_spark.\n"
        f"Package: {' '.join(DRIVERS)}\nPin: release l=NVIDIA CUDA\nPin-Priority: -1\n"
    )


def write_key(step: Step, _reader: Reader, writer: Writer, *, repository: Repository, key_url: str) -> None:
    """Nothing is written before it is the declared key, and that key alone."""
    text = repository.key or fetch(key_url)
    problem = wrong_key(text, repository.fingerprint)
    if problem:
        raise NodeError(
            "cuda.wrong_key",
            wanted=f"the key {repository.fingerprint}, and no other",
            found=f"{'the declared key' if repository.key else key_url}: {problem}",
            why="whoever has that key could install anything on this node",
            fix="find out which of key and fingerprint is right (NVIDIA publishes both) before you declare another",
        )
    writer.write(step.target, text if text.endswith("\n") else f"{text}\n", mode=0o644, uid=0, gid=0)


def wrong_key(text: str, fingerprint: str) -> str:
    """Why ``text`` is not exactly the key with this fingerprint; empty if it is."""
    if "-----BEGIN PGP PUBLIC KEY BLOCK-----" not in text:
        return "it is no armoured public key"
    try:
        found = openpgp.fingerprints(text)
    except openpgp.NoKey as error:
        return str(error)
    return "" if found == (fingerprint,) else f"it holds {', '.join(found)}"


def fetch(url: str) -> str:
    """Bounded in size and time; the fingerprint is what is trusted, not the server."""
    # Aside: the limit of a socket starts anew with each byte that drips out of it.
    answer = ask(lambda: _fetched(url), FETCH_SECONDS)
    text, problem = answer.value or ("", answer.silence or answer.bug.strip().rpartition("\n")[2])
    if problem:
        raise NodeError(
            "cuda.no_key",
            wanted=f"the repository's key from {url}",
            found=one_line(problem),
            why="apt would refuse the repository",
            fix="let the node reach that address, or declare the key's text (cuda_toolchain_repository_key)",
        )
    return str(text)


def _fetched(url: str) -> tuple[str, str]:
    """The text, or what is wrong."""
    try:
        with urllib.request.build_opener().open(url, timeout=FETCH_SECONDS) as answer:
            data: bytes = answer.read(MAX_KEY + 1)
    except (OSError, ValueError) as error:
        return "", str(error)
    if len(data) > MAX_KEY:
        return "", f"more than {MAX_KEY} bytes, and no key is as large"
    return data.decode("utf-8", "replace"), ""


def dgx_os(reader: Reader) -> bool:
    """NVIDIA's own system: its repositories are adopted, and none is added."""
    try:
        return any(reader.stat(path) is not None for path in ("/etc/dgx-release", f"{APT}/sources.list.d/dgx.sources"))
    except Unreadable:
        return True  # what cannot be seen is not changed
