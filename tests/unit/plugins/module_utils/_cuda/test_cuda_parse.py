# SPDX-License-Identifier: GPL-3.0-or-later
"""What may be declared, and how what may not is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda.model import Toolchain
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda.parse import ARGUMENT_SPEC, toolchain

FIXTURES = Path(__file__).resolve().parents[1] / "_apt" / "fixtures"
KEY = (FIXTURES / "ed25519.asc").read_text()
FINGERPRINT = "F9573F4B744348B8375E3593BB6E7610ADD5CB49"
HASH = f"--hash=sha256:{'0' * 64}"


def declared(**params: Any) -> Toolchain:
    return toolchain({**{name: option["default"] for name, option in ARGUMENT_SPEC.items()}, **params})


def wheels(*pins: str, **params: Any) -> Toolchain:
    return declared(source="wheel", lock="".join(f"{pin} {HASH}\n" for pin in pins), **params)


@pytest.mark.parametrize(
    ("source", "version", "prefix"),
    [
        ("existing", "13.0", "/usr/local/cuda-13.0"),
        ("apt", "13.2", "/usr/local/cuda-13.2"),
        ("wheel", "13.0", "/usr/local/lib/nusy/cuda/13.0"),
    ],
)
def test_the_prefix_follows_from_the_source(source: str, version: str, prefix: str) -> None:
    lock = f"nvidia-cuda-nvcc=={version}.88 {HASH}\n"
    assert declared(source=source, version=version, lock=lock).prefix == prefix
    assert declared(source=source, version=version, lock=lock, prefix="/srv/cuda").prefix == "/srv/cuda"


def test_packages_are_those_of_the_release_and_bring_no_driver() -> None:
    assert [package.name for package in declared(source="apt", version="13.1").packages] == [
        "cuda-nvcc-13-1",
        "cuda-cuobjdump-13-1",
        "cuda-nvdisasm-13-1",
        "cuda-cudart-dev-13-1",
        "cuda-cccl-13-1",
        "cuda-nvrtc-dev-13-1",
        "libcurand-dev-13-1",
    ]
    held = declared(source="apt", packages=["cuda-nvcc-13-0=13.0.88-1"], holds=["cuda-nvcc-13-0"]).packages
    assert [(p.name, p.version, p.hold) for p in held] == [("cuda-nvcc-13-0", "13.0.88-1", True)]


def test_a_fingerprint_may_be_written_as_gpg_prints_it() -> None:
    spaced = "f957 3f4b 7443 48b8 375e  3593 bb6e 7610 add5 cb49"
    repository = declared(source="apt", repository_fingerprint=spaced, repository_key=KEY).repository
    assert repository is not None and repository.fingerprint == FINGERPRINT


def test_options_of_another_source_are_not_looked_at() -> None:
    found = declared(source="existing", lock="nonsense", repository_url="nonsense", packages=["cuda"])
    assert (found.wheels, found.repository, found.packages) == (None, None, ())


def test_tools_that_only_read_may_be_newer() -> None:
    found = wheels("nvidia-cuda-nvcc==13.0.88", "nvidia-cuda-cuobjdump==13.2.86", "nvidia-cuda-nvdisasm==13.3.1")
    assert found.wheels is not None and len(found.wheels.pins) == 3


@pytest.mark.parametrize(
    "pin",
    [
        "nvidia-nvvm==13.1.80",
        "nvidia-cuda-runtime==12.9.79",
        "nvidia-cuda-cuobjdump==12.9.82",
        "nvidia-cuda-cuobjdump==14.0.1",
        "nvidia-cuda-crt==13",
        "triton==3.5.1",
    ],
)
def test_wheels_of_two_releases_are_refused(pin: str) -> None:
    with pytest.raises(InputError) as caught:
        wheels("nvidia-cuda-nvcc==13.0.88", pin)
    assert "lock, line 2" in caught.value.problem.wanted and pin in caught.value.problem.found


@pytest.mark.parametrize(
    ("params", "wanted"),
    [
        ({"version": "13"}, "version"),
        ({"version": "13.0.88"}, "version"),
        ({"version": ">=13.0"}, "version"),
        ({"version": "١٣.٠"}, "version"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"prefix": "cuda"}, "prefix"),
        ({"prefix": "/"}, "prefix"),
        ({"prefix": "/usr/local/../x"}, "prefix"),
        ({"prefix": "//usr/local/x"}, "prefix"),
        ({"prefix": "/a\nb"}, "prefix"),
        ({"link": "cuda"}, "link"),
        ({"link": "/usr/local/cuda-13.0"}, "link"),
        ({"link": "/usr/local"}, "link"),
        ({"link": "/usr/local/cuda-13.0/bin"}, "link"),
        ({"arch": "sm_121; reboot"}, "arch"),
        ({"source": "apt", "packages": ["cuda"]}, "packages[0]"),
        ({"source": "apt", "packages": ["cuda-nvcc-13-0", "cuda-13-0"]}, "packages[1]"),
        ({"source": "apt", "packages": ["cuda-drivers-580"]}, "packages[0]"),
        ({"source": "apt", "packages": ["cuda-runtime-13-0"]}, "packages[0]"),
        ({"source": "apt", "packages": ["nvidia-open"]}, "packages[0]"),
        ({"source": "apt", "packages": ["--purge"]}, "packages[0]"),
        ({"source": "apt", "holds": ["cuda-*-13"]}, "holds"),
        ({"source": "apt", "repository_url": "ftp://x/"}, "repository_url"),
        ({"source": "apt", "repository_url": "https://x/ [trusted=yes]"}, "repository_url"),
        ({"source": "apt", "repository_url": "https://me:pw@mirror/cuda/"}, "repository_url"),
        ({"source": "apt", "repository_key_url": "https://me@mirror/key"}, "repository_key_url"),
        ({"source": "apt", "repository_url": "http://mirror/cuda/"}, "repository_key"),
        ({"source": "apt", "repository_key_url": "http://x/key"}, "repository_key_url"),
        ({"source": "apt", "repository_fingerprint": "3BF863CC"}, "repository_fingerprint"),
        ({"source": "apt", "repository_key": KEY}, "repository_key"),
        ({"source": "apt", "repository_key": "no key"}, "repository_key"),
        ({"source": "wheel"}, "lock"),
        ({"source": "wheel", "lock": "nvidia-cuda-nvcc>=13.0"}, "lock"),
        ({"source": "wheel", "lock": f"nvidia-cuda-nvcc==13.0.88 {HASH}", "interpreter": "python3"}, "interpreter"),
        ({"source": "wheel", "lock": f"nvidia-cuda-nvcc==13.0.88 {HASH}", "find_links": "wheels"}, "find_links"),
        ({"source": "wheel", "lock": f"nvidia-cuda-nvcc==13.0.88 {HASH}", "index_url": "pypi"}, "index_url"),
    ],
)
def test_bad_input_names_its_option(params: dict[str, Any], wanted: str) -> None:
    with pytest.raises(InputError) as caught:
        declared(**params)
    problem = caught.value.problem
    assert problem.wanted.startswith(wanted)
    assert all((problem.key, problem.found, problem.why, problem.fix)) and "pw" not in problem.text()


def test_a_mirror_over_http_is_fine_with_the_key_itself() -> None:
    url = "http://mirror/cuda/"
    assert declared(source="apt", repository_url=url, repository_key=KEY, repository_fingerprint=FINGERPRINT).repository
    assert declared(source="apt", repository_url=url, repository_key_url="https://x/3bf863cc.pub").repository


def test_a_password_in_an_index_is_shown_nowhere() -> None:
    found = wheels("nvidia-cuda-nvcc==13.0.88", index_url="https://me:secret@index/simple")
    assert "secret" not in repr(found)
