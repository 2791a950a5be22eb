# SPDX-License-Identifier: GPL-3.0-or-later
"""Preconditions of a start beside files and programs: models, ports, memory, the GPU.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.command import run_command
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import one_line
from ansible_collections.nusy.dgx_spark.plugins.module_utils._launch import options
from ansible_collections.nusy.dgx_spark.plugins.module_utils._launch.site import Check, Site
from ansible_collections.nusy.dgx_spark.plugins.module_utils._runtime.model import GIB, MOST_UTILIZATION, UTILIZATION

HUB = re.compile(r"[A-Za-z0-9._-]+/[A-Za-z0-9._-]+")
MEMINFO = "/proc/meminfo"


def model(name: str, site: Site) -> Check:
    why = "an engine takes up to a minute to find that out"
    if HUB.fullmatch(name):
        if site.variables.get("HF_HUB_OFFLINE") not in ("1", "true", "yes", "on"):
            return Check("model", f"{name}, which the engine fetches from the hub if it is not stored")
        home = site.variables.get("HF_HOME", "")
        folder = f"{home}/hub/models--{name.replace('/', '--')}/snapshots"
        problem = (
            "" if home and _listed(folder) else f"{name} is not stored below {home or 'HF_HOME, which is not set'}"
        )
        return Check("model", folder, problem, "the hub is not asked (HF_HUB_OFFLINE)", "fetch it, or correct its name")
    problem = "" if name.startswith("/") else f"{name!r} is neither an absolute path nor <owner>/<name>"
    if name.startswith("/"):
        place = name if name.endswith(".gguf") else f"{name}/config.json"
        problem = "" if os.path.isfile(place) and os.access(place, os.R_OK) else f"{place} cannot be read as a file"
    return Check("model", name, problem, why, "correct the path, or let this user read it")


def port(address: str, number: int, what: str) -> Check:
    """Free now, on an address of this node."""
    problem, fix = "", f"stop what listens there (ss -ltnp 'sport = :{number}'), or choose another one"
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, number))
            probe.listen(1)
        except OSError as error:
            problem = f"{address} port {number}: {error.strerror}"
            if error.errno == errno.EADDRNOTAVAIL:
                problem = f"{address} is no address of this node"
                fix = "name one that `ip -brief address` lists"
    return Check(
        f"port {what}",
        f"{address} port {number}",
        problem,
        "the engine would fail after it has loaded its weights",
        fix,
    )


def answers(address: str, number: int, what: str) -> Check:
    problem = ""
    try:
        socket.create_connection((address, number), timeout=5).close()
    except OSError as error:
        problem = f"{address} port {number}: {error.strerror or error}"
    return Check(
        what, f"{address} port {number} answers", problem, "a worker waits for its head", "start the head first"
    )


def memory(kv_cache_bytes: int, utilization: float, site: Site) -> Check:
    """Whether the budget is allowed, and there. CPU and GPU of a Spark share this memory."""
    name, fix = "memory", "stop what uses it, or declare a smaller budget (role vllm_runtime)"
    allowed = max(MOST_UTILIZATION, options.number(site.variables.get(UTILIZATION, "")))
    if not kv_cache_bytes and not utilization:
        return Check(
            name,
            "",
            "no budget: neither an option nor the environment gives one",
            "vLLM would take 0.9 of all memory, which freezes a machine that has only one",
            "apply role vllm_runtime, or give --kv-cache-memory-bytes",
        )
    if not kv_cache_bytes and utilization > allowed:
        return Check(
            name,
            "",
            f"a utilization of {utilization:g} where {allowed:g} is allowed",
            "GPU and system share one memory: when it is full the machine freezes",
            f"use less, or name gpu_memory_utilization={utilization:g} in vllm_runtime_confirm",
        )
    total, available = _meminfo()
    needed = kv_cache_bytes or int(utilization * total)
    what = "the KV cache" if kv_cache_bytes else f"{utilization:g} of the memory"
    found = f"{available / GIB:.1f} GiB available, {needed / GIB:.1f} GiB for {what}"
    problem = "" if available >= needed else found
    return Check(name, found, problem, "vLLM refuses to start, or the machine runs out of memory", fix)


def loaded(path: str, kv_cache_bytes: int) -> Check:
    """Whether there is room for a file that is kept in memory whole, and for its cache where somebody says its size."""
    _total, available = _meminfo()
    size = os.path.getsize(path)
    cache = f"{kv_cache_bytes / GIB:.1f} for the KV cache" if kv_cache_bytes else "nobody says what for the KV cache"
    found = f"{available / GIB:.1f} GiB available, {size / GIB:.1f} for the model, {cache}"
    problem = "" if available >= size + kv_cache_bytes else found
    why = "the machine runs out of memory, or reads the model from the disk for every token"
    return Check("memory", found, problem, why, "stop what uses it, or declare a smaller model, context or cache")


def gpu(site: Site, *, shared: bool) -> Check:
    """One engine for one GPU, unless somebody says otherwise: two share its memory and do not know of each other."""
    path = site.paths["NVIDIA_SMI_BIN"]
    fix = f"see what runs there ({path}), and stop it; the driver must be loaded"
    done = run_command([path, "--query-compute-apps=pid,process_name", "--format=csv,noheader"], timeout=15)
    if not done.ok:
        return Check("gpu", "", one_line(f"{path} {done.ending}: {done.said(1)}"), "there is no GPU to use", fix)
    running = [line.strip() for line in done.out.splitlines() if line.strip() and line[0].isdigit()]
    found = f"already used by {one_line('; '.join(running), 200)}" if running else "used by nobody"
    problem = found if running and not shared else ""
    return Check("gpu", found, problem, "two engines share its memory, and one of them dies", f"{fix}; or --share-gpu")


def _listed(folder: str) -> bool:
    try:
        return bool(os.listdir(folder))
    except OSError:
        return False


def _meminfo() -> tuple[int, int]:
    with open(MEMINFO, encoding="ascii") as handle:
        found = dict(re.findall(r"^(MemTotal|MemAvailable):\s+(\d+) kB", handle.read(), re.MULTILINE))
    return int(found.get("MemTotal", 0)) * 1024, int(found.get("MemAvailable", 0)) * 1024
