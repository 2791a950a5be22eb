# SPDX-License-Identifier: GPL-3.0-or-later
"""The key of an apt repository: fetched, judged by its fingerprint, written.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import urllib.request

from ansible_collections.nusy.dgx_spark.plugins.module_utils._apt import openpgp
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.aside import ask
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Step, one_line
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader, Writer

FETCH_SECONDS = 30.0
MAX_KEY = 1 << 20


def observe(reader: Reader, path: str) -> tuple[tuple[str, ...], str]:
    """The fingerprints in a key file, and why apt does not take it as it is. Raises Unreadable."""
    stat, key = reader.stat(path), reader.read(path)
    if stat is None or key is None:
        return (), "absent"
    found: tuple[str, ...] = ()
    problem = ""
    try:
        found = openpgp.fingerprints(key)
    except openpgp.NoKey as error:
        problem = str(error)
    # apt reads it as a user of its own, and what others can write is no key to trust.
    if stat.kind != "file" or stat.uid != 0 or not stat.mode & 0o004 or stat.mode & 0o022:
        problem = problem or f"{stat.kind} of {reader.user_name(stat.uid)} with mode {stat.octal}"
    return found, problem


def write_key(step: Step, _reader: Reader, writer: Writer, *, fingerprint: str, key: str, key_url: str) -> None:
    """Nothing is written before it is the declared key, and that key alone."""
    text = key or fetch(key_url)
    problem = wrong_key(text, fingerprint)
    if problem:
        raise NodeError(
            "apt.wrong_key",
            wanted=f"the key {fingerprint}, and no other",
            found=f"{'the declared key' if key else key_url}: {problem}",
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
            "apt.no_key",
            wanted=f"the repository's key from {url}",
            found=one_line(problem),
            why="apt would refuse the repository",
            fix="let the node reach that address, or declare the text of the key",
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
