# SPDX-License-Identifier: GPL-3.0-or-later
"""What apt has configured, and what follows from it."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._apt import entries
from ansible_collections.nusy.dgx_spark.plugins.module_utils._apt.entries import Entry
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda import sources
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import Unknown
from fake_node import FakeNode

FIXTURES = Path(__file__).resolve().parents[1] / "_apt" / "fixtures"
KEY = (FIXTURES / "rsa_with_subkey.asc").read_text()
OTHER = (FIXTURES / "ed25519.asc").read_text()
FINGERPRINT = "759F60F2242DEF5719AD7B839356635CE87B2CC1"
URL = "https://developer.download.nvidia.com/compute/cuda/repos/ubuntu2404/sbsa/"


def entry(line: str, path: str = "/etc/apt/sources.list.d/x.list") -> list[Entry]:
    return entries.parse(path, line)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"deb {URL} /", [(URL, "/", "")]),
        (f"deb [signed-by=/k.gpg] {URL} /\n", [(URL, "/", "/k.gpg")]),
        (f"deb [ arch=arm64 Signed-By=/k.gpg ] {URL} / main", [(URL, "/", "/k.gpg")]),
        (f"  deb {URL} /", [(URL, "/", "")]),
        (f"deb-src {URL} /", [(URL, "/", "")]),
        (f"# deb {URL} /", []),
        ("debian is a nice system", []),
        ("deb", []),
        ("", []),
    ],
)
def test_one_line_sources(text: str, found: list[tuple[str, str, str]]) -> None:
    assert [(e.uri, e.suite, e.signed_by) for e in entry(text)] == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"Types: deb\nURIs: {URL}\nSuites: /\nSigned-By: /k.gpg\n", [(URL, "/", "/k.gpg")]),
        (f"types: deb\nuris: {URL} https://b/\nsuites: a b\n", [
            (URL, "a", ""), (URL, "b", ""), ("https://b/", "a", ""), ("https://b/", "b", ""),
        ]),
        (f"Enabled: no\nTypes: deb\nURIs: {URL}\nSuites: /\n", []),
        (f"# Enabled: no\nTypes: deb\nURIs: {URL}\nSuites: /\n", [(URL, "/", "")]),
        (f"Types: deb\nURIs:\n {URL}\nSuites: /\nSigned-By:\n -----BEGIN-----\n .\n abc\n", [
            (URL, "/", "-----BEGIN----- . abc"),
        ]),
        (f"URIs: https://a/\nSuites: x\n\n\nURIs: {URL}\nSuites: /\n", [("https://a/", "x", ""), (URL, "/", "")]),
        ("garbage without a colon\n", []),
        (" continued before it began\n", []),
    ],
)  # fmt: skip
def test_deb822_sources(text: str, found: list[tuple[str, str, str]]) -> None:
    assert [(e.uri, e.suite, e.signed_by) for e in entries.parse("/etc/apt/sources.list.d/x.sources", text)] == found


@pytest.mark.parametrize(
    ("lines", "refused"),
    [
        ([f"deb [signed-by=/a] {URL} /", f"deb [signed-by=/b] {URL} /"], True),
        ([f"deb [signed-by=/a] {URL} /", f"deb {URL} /"], True),
        ([f"deb [signed-by=/a] {URL} /", f"deb [signed-by=/b] {URL.rstrip('/')} /"], True),
        ([f"deb [signed-by=/a] {URL} /", f"deb [signed-by=/a] {URL} /"], False),
        ([f"deb [signed-by=/a] {URL} /", f"deb [signed-by=/b] {URL} other"], False),
    ],
)
def test_apt_refuses_one_address_with_two_keys(lines: list[str], refused: bool) -> None:
    assert entries.conflict(tuple(e for line in lines for e in entry(line))) is refused


def test_what_is_ours_and_what_is_not_is_told_apart() -> None:
    node = FakeNode()
    node.put("/etc/apt/sources.list", f"deb https://packages.test/debian trixie main\ndeb [signed-by=/a] {URL} /\n")
    node.put("/etc/apt/sources.list.d/cuda.list", f"deb [signed-by=/b] {URL} /\n")
    node.put("/etc/apt/sources.list.d/cuda.list.save", f"deb [signed-by=/c] {URL} /\n")
    node.put(sources.OURS, sources.stanza(URL))
    found = sources.observe(node, URL)
    assert isinstance(found, sources.Seen)
    assert {e.signed_by for e in found.entries} == {"/a", "/b", sources.KEYRING}
    assert {e.file for e in found.foreign} == {"/etc/apt/sources.list", "/etc/apt/sources.list.d/cuda.list"}
    assert found.alone == {sources.OURS, "/etc/apt/sources.list.d/cuda.list"}
    assert found.key_problem == "absent"


@pytest.mark.parametrize(
    ("text", "how", "problem"),
    [
        (KEY, {}, ""),
        (OTHER, {}, ""),
        ("<html>", {}, "no OpenPGP data"),
        (KEY, {"mode": 0o600}, "file of root with mode 0600"),
        (KEY, {"mode": 0o666}, "mode 0666"),
        (KEY, {"uid": 33}, "file of 33"),
    ],
)
def test_a_key_that_apt_cannot_read_or_others_can_write_is_a_problem(text: str, how: dict, problem: str) -> None:
    node = FakeNode()
    node.put(sources.KEYRING, text, **how)
    found = sources.observe(node, URL)
    assert isinstance(found, sources.Seen)
    assert problem in found.key_problem if problem else found.key_problem == ""


def test_what_cannot_be_read_is_unknown() -> None:
    node = FakeNode(unreadable={"/etc/apt/sources.list"})
    assert sources.observe(node, URL) == Unknown("/etc/apt/sources.list: Permission denied")


@pytest.mark.parametrize(
    ("release", "machine", "url"),
    [
        ("ID=ubuntu\nVERSION_ID=\"24.04\"\n", "aarch64", URL),
        ("ID=ubuntu\nVERSION_ID=\"24.04\"\n", "x86_64", URL.replace("sbsa", "x86_64")),
        ("ID=ubuntu\nVERSION_ID='22.04'\n", "aarch64", URL.replace("2404", "2204")),
        ("ID=debian\nVERSION_ID=12\n", "x86_64", URL.replace("ubuntu2404/sbsa", "debian12/x86_64")),
        ("ID=debian\nVERSION_ID=12\n", "aarch64", ""),
        ("ID=debian\nVERSION_ID=13\n", "x86_64", ""),
        ("ID=ubuntu\nVERSION_ID=24.04\n", "riscv64", ""),
        ("", "x86_64", ""),
    ],
)  # fmt: skip
def test_nvidias_repository_is_known_for_few_systems(release: str, machine: str, url: str) -> None:
    node = FakeNode()
    node.put("/etc/os-release", release)
    found = sources.nvidia_url(node, machine)
    assert found == url if url else isinstance(found, Unknown) and "unsupported platform" in found.reason


@pytest.mark.parametrize("path", ["/etc/dgx-release", "/etc/apt/sources.list.d/dgx.sources"])
def test_dgx_os_is_known_by_its_release_or_its_source(path: str) -> None:
    node = FakeNode()
    assert not entries.dgx_os(node)
    node.put(path)
    assert entries.dgx_os(node)
