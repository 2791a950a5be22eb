# SPDX-License-Identifier: GPL-3.0-or-later
"""A node for launchers, in a folder: programs that answer, files as the roles write them."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._launch.main import main

SMI = '#!/bin/sh\ncase "$1" in --query*) cat {apps};; *) echo "GPU 0: GB10";; esac\n'


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class LaunchNode:
    root: Path
    port: int

    @property
    def paths(self) -> Path:
        return self.root / "paths.env"

    @property
    def vllm_env(self) -> Path:
        return self.root / "vllm.env"

    @property
    def ptxas_env(self) -> Path:
        return self.root / "ptxas.env"

    @property
    def model(self) -> Path:
        return self.root / "a model"

    def program(self, name: str, text: str = "#!/bin/sh\nexit 0\n") -> Path:
        path = self.root / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
        return path

    def words(self, name: str) -> list[str]:
        files = ["--paths", str(self.paths), "--environment", str(self.vllm_env), "--environment", str(self.ptxas_env)]
        given = {
            "vllm-serve": [str(self.model), "--port", str(self.port)],
            "vllm-node": [
                *(str(self.model), "--port", str(self.port), "--nnodes", "2", "--node-rank", "0"),
                *("--tensor-parallel-size", "2"),
                *("--master-addr", "127.0.0.1", "--master-port", str(free_port()), "--node-ip-address", "127.0.0.1"),
            ],
            "ray-head": ["--node-ip-address", "127.0.0.1", "--port-base", "41000", "--dashboard-port", str(self.port)],
            "ray-worker": [
                *("--node-ip-address", "127.0.0.1", "--port-base", "41000"),
                *("--address", f"127.0.0.1:{self.port}"),
            ],
            "llama-serve": [f"{self.root}/tiny.gguf", "--port", str(self.port)],
        }
        return [*files, *given[name]]

    def run(self, name: str, *words: str, **caller: str) -> int:
        return main(name, [*self.words(name)[:6], *words] if words else self.words(name), caller, "/suite.pyz")

    def check(self, name: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str], list[str]]:
        """(exit code, what passed, what failed)."""
        code = main(name, ["--check", *self.words(name)], {}, "/suite.pyz")
        lines = capsys.readouterr().out.splitlines()
        assert all(line.startswith(("PASS ", "FAIL ")) for line in lines)

        def of(word: str) -> list[str]:
            return [line[5:].partition(":")[0] for line in lines if line.startswith(word)]

        return code, of("PASS"), of("FAIL")


def make(root: Path) -> LaunchNode:
    node = LaunchNode(root, free_port())
    (node.model).mkdir()
    (node.model / "config.json").write_text("{}")
    (root / "tiny.gguf").write_bytes(b"GGUF")
    (root / "apps").touch()
    names = {
        "VLLM_BIN": node.program("vllm"),
        "RAY_BIN": node.program("ray"),
        "PY_BIN": node.program("python"),
        "NVIDIA_SMI_BIN": node.program("nvidia-smi", SMI.format(apps=root / "apps")),
    }
    node.paths.write_text("".join(f'{name}="{path}"\n' for name, path in names.items()))
    node.vllm_env.write_text('MAX_JOBS="2"\nNUSY_KV_CACHE_MEMORY_BYTES="1048576"\nHF_HUB_OFFLINE="1"\n')
    node.ptxas_env.write_text('TRITON_PTXAS_PATH="/opt/ptxas"\n')
    for path in (node.paths, node.vllm_env, node.ptxas_env):
        path.chmod(0o644)
    return node
