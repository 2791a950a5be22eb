# SPDX-License-Identifier: GPL-3.0-or-later
"""What an engine needs around it: its environment, its caches, and a bound on what it compiles.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

ROLE = "vllm_runtime"
CONTROLS = (
    "vllm_runtime/caches",
    "vllm_runtime/cache_size",
    "vllm_runtime/environment",
    "vllm_runtime/jit_limits",
    "vllm_runtime/memory",
    "vllm_runtime/imports",
    "vllm_runtime/compiles",
    "vllm_runtime/file_extra",
)
CACHES, CACHE_SIZE, ENVIRONMENT, JIT_LIMITS, MEMORY, IMPORTS, COMPILES, _EXTRA = CONTROLS

# What the launchers read of the memory budget: vLLM itself takes it from its command line only.
KV_CACHE_BYTES = "NUSY_KV_CACHE_MEMORY_BYTES"
UTILIZATION = "NUSY_GPU_MEMORY_UTILIZATION"
# GPU and system share one memory: above this a Spark does not fail, it freezes.
MOST_UTILIZATION = 0.85
GIB = 1 << 30


@dataclass(frozen=True)
class Cache:
    """variable: that leads the engine to it, empty where it is found by itself."""

    path: str
    limit_gib: float
    variable: str = ""


@dataclass(frozen=True)
class Runtime:
    """The declaration. ``environment``, ``jit_limits``: variables, without those of caches and memory."""

    venv: str
    environment_file: str
    ptxas_file: str
    owner: str
    caches: tuple[Cache, ...]
    environment: Mapping[str, str]
    jit_limits: Mapping[str, str]
    kv_cache_bytes: int
    utilization: float
    confirmed: bool  # that the utilization may be more than MOST_UTILIZATION
    imports: tuple[str, ...]
    compile: bool
    arch: str
    timeout: float
    measure_seconds: float

    @property
    def memory(self) -> dict[str, str]:
        if self.kv_cache_bytes:
            return {KV_CACHE_BYTES: str(self.kv_cache_bytes)}
        allowed = self.utilization if self.confirmed else min(self.utilization, MOST_UTILIZATION)
        return {UTILIZATION: f"{allowed:g}"}

    @property
    def victim(self) -> str:
        """How the operator names a utilization that may freeze the machine."""
        return f"gpu_memory_utilization={self.utilization:g}"

    @property
    def cache_variables(self) -> dict[str, str]:
        return {cache.variable: cache.path for cache in self.caches if cache.variable}

    @property
    def variables(self) -> dict[str, str]:
        """All that the file holds."""
        return {**self.environment, **self.cache_variables, **self.jit_limits, **self.memory}
