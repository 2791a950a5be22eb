# SPDX-License-Identifier: GPL-3.0-or-later
"""What the two package tools do with our orders, and what their failures are told as."""

from __future__ import annotations

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.redact import Redactor
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import HostWriter
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv import manifest, parse, tree
from venv_bench import Bench, failing


def test_both_tools_install_the_same(bench: Bench) -> None:
    wheels = [bench.wheel("alpha", "1.0", programs={"alpha": "alpha:main"}), bench.wheel("beta", "2.0")]
    contents = []
    for uv in (bench.uv, []):
        bench.root = bench.base / ("with-uv" if uv else "with-pip")
        bench.home = bench.root / "demo"
        plan = bench.apply(*wheels, uv=uv)
        assert plan.facts["venv"]["installer"]["kind"] == ("uv" if uv else "pip")
        found = manifest.read(str(bench.home / bench.current))
        assert found is not None
        site = tree.site_packages(str(bench.home / bench.current))
        # What tools write about themselves differs; what is imported and run does not.
        own = ("INSTALLER", "RECORD", "REQUESTED", "uv_cache.json")
        contents.append(
            {
                path: entry.content
                for path, entry in found.files.items()
                if path.startswith(site) and not path.endswith(own)
            }
        )
        assert (bench.home / "current/bin/alpha").exists()
    assert contents[0] == contents[1] and len(contents[0]) >= 7


def test_a_wrong_hash(bench: Bench, tool: str) -> None:
    alpha = bench.wheel("alpha", "1.0")
    pin = alpha.pin
    bench.wheel("alpha", "1.0", files={"alpha.py": "evil = True\n"})
    failing(bench, "venv.hash", stages=[bench.stage("only", pin)])


def test_a_release_that_is_not_there(bench: Bench, tool: str) -> None:
    bench.wheel("alpha", "1.0")
    lock = f"alpha==2.0 --hash=sha256:{'a' * 64}"
    failing(bench, "venv.unsatisfiable", stages=[bench.stage("only", lock)])


def test_a_wheel_for_another_machine(bench: Bench, tool: str) -> None:
    failing(bench, "venv.unsatisfiable", bench.wheel("alpha", "1.0", tag="cp312-cp312-manylinux_2_28_riscv64"))


def test_an_index_that_cannot_be_reached_and_its_password(bench: Bench, tool: str, monkeypatch) -> None:
    """The password is in no argument, which everybody can read, and in no error."""
    called: list[tuple[list[str], dict[str, str]]] = []
    original = HostWriter.run

    def run(self, argv, *, timeout=60.0, env=None):
        called.append((list(argv), dict(env or {})))
        return original(self, argv, timeout=timeout, env=env)

    monkeypatch.setattr(HostWriter, "run", run)
    url = "http://robot:hunter22@127.0.0.1:9/simple"
    stages = [bench.stage("only", bench.wheel("alpha", "1.0").pin, index_url=url)]
    redact = Redactor(parse.secrets(bench.params(stages=stages), {}))
    error = failing(bench, "venv.index", stages=stages, find_links="", writer=HostWriter(redact.text))
    assert "127.0.0.1" in error.problem.wanted and "hunter22" not in error.problem.text()
    assert not any("hunter22" in word for argv, _env in called for word in argv)
    assert any(url in env.values() for _argv, env in called)
