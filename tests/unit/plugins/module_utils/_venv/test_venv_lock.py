# SPDX-License-Identifier: GPL-3.0-or-later
"""What a lock may hold, and that everything else is refused with its line."""

from __future__ import annotations

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv import lock

A, B = "a" * 64, "b" * 64
HASH = f"--hash=sha256:{A}"


@pytest.mark.parametrize(
    ("text", "name", "version", "hashes"),
    [
        (f"torch==2.13.0 {HASH}\n", "torch", "2.13.0", (A,)),
        (f"torch==2.13.0+cu130 \\\n    {HASH} \\\n    --hash=sha256:{B}\n", "torch", "2.13.0+cu130", (A, B)),
        (f"Typing_Extensions==4.1 {HASH}", "typing-extensions", "4.1", (A,)),
        (f"ray[default,serve]==2.60.0 {HASH}  # the launcher's", "ray", "2.60.0", (A,)),
        (f"# head\n\nnvidia.ml-py == 13.615.71 \\\n  {HASH}\n  # via vllm\n", "nvidia-ml-py", "13.615.71", (A,)),
        (f"x==1!2.0 {HASH} --hash=sha256:{A}", "x", "1!2.0", (A,)),
    ],
)
def test_a_pin_is_read(text: str, name: str, version: str, hashes: tuple[str, ...]) -> None:
    (pin,) = lock.parse(text, "lock")
    assert (pin.name, pin.version, pin.hashes) == (name, version, hashes)


@pytest.mark.parametrize(
    ("text", "line", "found"),
    [
        ("torch==2.13.0\n", 1, "torch==2.13.0 has no --hash"),
        (f"a==1 {HASH}\n\ntorch>=2.13.0 {HASH}\n", 3, "not pinned"),
        (f"torch==2.* {HASH}", 1, "not pinned"),
        (f"torch {HASH}", 1, "not pinned"),
        (f"torch===2.0 {HASH}", 1, "not pinned"),
        (f"a==1,<2 {HASH}", 1, "not pinned"),
        (f"a==1 ; python_version < '3.12' {HASH}", 1, "marker"),
        ("-r other.txt", 1, "option -r"),
        ("--index-url=https://user:secret@example.org", 1, "option --index-url"),
        ("-e .", 1, "option -e"),
        (f"torch @ https://example.org/torch.whl {HASH}", 1, "URL or path"),
        ("git+https://example.org/x.git", 1, "URL or path"),
        ("./torch.whl", 1, "URL or path"),
        ("a==1 --hash=md5:abc", 1, "--hash=md5"),
        ("a==1 --hash=sha256:abc", 1, "--hash=sha256"),
        (f"a==1 {HASH} --no-binary=a", 1, "--no-binary"),
        (f"a==1 {HASH}\nA==1 {HASH}", 2, "a is there twice, first in line 1"),
        (f"a==1 {HASH}\nb==1 \\", 2, "cut off"),
        ("# nothing\n", 1, "no distribution"),
        ("", 1, "no distribution"),
    ],
)
def test_everything_else_is_refused_with_its_line(text: str, line: int, found: str) -> None:
    with pytest.raises(InputError) as error:
        lock.parse(text, "stages[0].lock (torch)")
    problem = error.value.problem
    assert problem.key == "venv.lock" and problem.wanted.startswith("stages[0].lock (torch)")
    assert problem.found.startswith(f"line {line}: ") and found in problem.found
    assert "secret" not in str(error.value)


def test_what_is_written_for_the_tools_is_read_again_the_same() -> None:
    (pin,) = lock.parse(f"b==2 {HASH} --hash=sha256:{B}", "lock")
    assert lock.parse(pin.text(), "lock")[0].hashes == pin.hashes


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("1.0", "1.0.0", True),
        ("2024.1.0", "2024.01.0", True),
        ("2.13.0", "2.13.0+cu130", False),
        ("2.13.0+cu130", "2.13.0+cpu", False),
        ("absent", "absent", True),
        ("absent", "1.0", False),
        ("1.0, 2.0", "1.0", False),
    ],
)
def test_versions_are_compared_as_releases(one: str, other: str, same: bool) -> None:
    assert lock.same_version(one, other) is same
