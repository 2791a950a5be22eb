# SPDX-License-Identifier: GPL-3.0-or-later
"""GPU, CUDA toolkits, processors, memory.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.gpus import PCI, is_gpu
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.look import Look
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.model import Node, NotKnown, Unknown, learn
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.parse import cpu as parse_cpu
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.parse import memory as parse_memory
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.parse import nvidia as parse_nvidia
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.parse.text import cpu_list, cpu_ranges, integer

DRIVER = "/proc/driver/nvidia"
CPUS = "/sys/devices/system/cpu"


def gpu(look: Look) -> dict[str, Node]:
    """Never allocates GPU memory, and starts nvidia-smi only when it has nothing to set up.

    Without a loaded module or without device nodes the tool would call the set-uid helper
    nvidia-modprobe, which loads the one and makes the other. So then it is not started.
    """
    addresses = learn(_nvidia_gpus, look)
    if addresses == []:
        nothing = Unknown("this machine has no NVIDIA GPU on its PCI bus")
        versions = ("driver_version", "cuda_driver_version", "module_version", "module_is_open")
        return {"pci_addresses": [], "devices": [], "processes": [], **dict.fromkeys(versions, nothing)}
    module = learn(lambda: parse_nvidia.module_version(look.text(f"{DRIVER}/version")))
    rows = learn(_query, look)
    picture = learn(_table, look)
    unseen = picture if isinstance(picture, Unknown) else Unknown("not in the output of nvidia-smi")
    table = picture if isinstance(picture, Mapping) else {}
    version = module["version"] if isinstance(module, Mapping) else module
    return {
        "pci_addresses": addresses,
        "module_version": version,
        "module_is_open": module["open"] if isinstance(module, Mapping) else module,
        "driver_version": rows[0]["driver_version"] if isinstance(rows, list) else table.get("driver_version", version),
        "cuda_driver_version": table.get("cuda_driver_version", unseen),
        "devices": _devices(look, rows, table.get("devices")),
        "processes": _processes(table.get("processes", unseen), learn(_apps, look)),
    }


DEVICE_FACTS = tuple(column.fact for column in parse_nvidia.COLUMNS if column.fact != "driver_version")


def _devices(look: Look, rows: list[dict[str, Node]] | Unknown, drawn: Node) -> Node:
    """From the query; failing that from the drawn table; failing that from the kernel driver."""
    if isinstance(rows, list):
        return [{fact: row[fact] for fact in DEVICE_FACTS} for row in rows]
    found = drawn if isinstance(drawn, list) and drawn else learn(_proc_gpus, look, rows)
    if isinstance(found, Unknown):
        return found
    return [{**dict.fromkeys(DEVICE_FACTS, rows), **device} for device in found if isinstance(device, dict)]


def _nvidia_gpus(look: Look) -> list[str]:
    return [address for address in look.names(PCI) if is_gpu(f"{PCI}/{address}", look.maybe)]


def _smi(look: Look) -> str:
    if not look.exists(f"{DRIVER}/version"):
        raise NotKnown("the NVIDIA kernel driver is not loaded")
    nodes = look.names("/dev")
    if "nvidiactl" not in nodes or not any(re.fullmatch(r"nvidia[0-9]+", name) for name in nodes):
        raise NotKnown("there are no NVIDIA device nodes in /dev, so nvidia-smi was not started")
    return look.tool("nvidia-smi")


def _ask(look: Look, *arguments: str) -> str:
    done = look.attempt((_smi(look), *arguments))
    complaint = parse_nvidia.complaint(done.out + "\n" + done.err)
    if complaint:
        raise NotKnown(f"nvidia-smi (exit {done.rc}): {complaint}")
    if done.rc != 0:
        raise NotKnown(f"nvidia-smi ended with {done.rc}: {done.said()}")
    return done.out


def _query(look: Look) -> list[dict[str, Node]]:
    fields = ",".join(column.query for column in parse_nvidia.COLUMNS)
    return parse_nvidia.query_gpu(_ask(look, f"--query-gpu={fields}", "--format=csv,noheader"))


def _table(look: Look) -> Mapping[str, Node]:
    return parse_nvidia.table(_ask(look))


def _apps(look: Look) -> list[dict[str, Node]]:
    return parse_nvidia.compute_apps(
        _ask(look, "--query-compute-apps=pid,process_name,used_memory", "--format=csv,noheader")
    )


def _processes(drawn: Node, apps: list[dict[str, Node]] | Unknown) -> Node:
    """The drawn table knows graphics processes too; the CSV has whole names and uncut figures."""
    if not isinstance(apps, list):
        return drawn
    whole = {app["pid"]: app for app in apps}
    if not isinstance(drawn, list):
        return [{**app, "type": "C"} for app in apps]
    return [{**row, **whole.get(row["pid"], {})} for row in drawn if isinstance(row, dict)]


def _proc_gpus(look: Look, why: Unknown) -> list[dict[str, Node]]:
    """The GPUs as the kernel driver lists them: names without any tool."""
    names = look.names_if_any(f"{DRIVER}/gpus")
    if not names:
        raise NotKnown(why.reason)
    return [{"pci_address": name, **_proc_gpu(look, f"{DRIVER}/gpus/{name}/information")} for name in names]


def _proc_gpu(look: Look, path: str) -> dict[str, str]:
    return parse_nvidia.gpu_information(look.text(path))


def cuda(look: Look) -> dict[str, Node]:
    return {"toolkits": learn(_toolkits, look), "default_path": learn(_default_toolkit, look)}


def _toolkits(look: Look) -> list[Node]:
    toolkits: list[Node] = []
    for folder in ("/usr/local", "/opt"):
        for name in look.names_if_any(folder) or ():
            path = f"{folder}/{name}"
            # Links (/usr/local/cuda) are only names of the folders beside them.
            found = look.stat(path)
            if re.fullmatch(r"cuda(-[0-9.]+)?", name) and found is not None and found.kind == "directory":
                toolkits.append(_toolkit(look, path))
    return toolkits


def _toolkit(look: Look, path: str) -> dict[str, Node]:
    return {
        "path": path,
        "version": learn(lambda: parse_nvidia.cuda_version_json(look.text(f"{path}/version.json"))),
        "nvcc_version": learn(lambda: parse_nvidia.nvcc_version(look.run((f"{path}/bin/nvcc", "--version")))),
    }


def _default_toolkit(look: Look) -> str | None:
    """Where /usr/local/cuda leads, through /etc/alternatives; None if it is not there."""
    path = "/usr/local/cuda"
    for _hop in range(8):
        found = look.stat(path)
        if found is None:
            return None
        if found.kind != "link":
            return path
        target = look.target(path)
        path = target if target.startswith("/") else path.rpartition("/")[0] + "/" + target
    raise NotKnown("/usr/local/cuda is a link that leads nowhere")


def cpu(look: Look) -> dict[str, Node]:
    models = learn(lambda: parse_cpu.models(look.text("/proc/cpuinfo")))
    online = learn(lambda: cpu_list("online processors", look.text(f"{CPUS}/online")))
    facts: dict[str, Node] = {
        "online_count": len(online) if isinstance(online, list) else online,
        "online": cpu_ranges(online) if isinstance(online, list) else online,
        "models": models
        if isinstance(models, Unknown)
        else [{"name": name, "count": len(cpus), "cpus": cpu_ranges(cpus)} for name, cpus in models.items()],
        "numa_nodes": learn(lambda: len(cpu_list("NUMA nodes", look.text("/sys/devices/system/node/online")))),
        "frequency_policies": learn(_policies, look),
    }
    if isinstance(online, list):
        facts["packages"] = learn(lambda: _groups(look, online, "package_cpus_list"))
        facts["clusters"] = learn(lambda: _groups(look, online, "cluster_cpus_list"))
        facts["cores"] = learn(lambda: _groups(look, online, "core_cpus_list"))
    else:
        facts.update(dict.fromkeys(("packages", "clusters", "cores"), online))
    return facts


def _groups(look: Look, cpus: list[int], name: str) -> list[str]:
    """The distinct groups that share a package, cluster or core, as processor ranges."""
    found = {
        cpu_ranges(cpu_list("CPU topology", look.text(f"{CPUS}/cpu{number}/topology/{name}"))): None for number in cpus
    }
    return list(found)


def _policies(look: Look) -> list[dict[str, Node]]:
    base = f"{CPUS}/cpufreq"
    policies = [name for name in look.names_if_any(base) or () if re.fullmatch(r"policy[0-9]+", name)]
    if not policies:
        raise NotKnown("the kernel offers no CPU frequency control")
    policies.sort(key=lambda name: int(name[6:12]))
    return [
        {
            "cpus": learn(_related, look, f"{base}/{name}/related_cpus"),
            "driver": learn(look.line, f"{base}/{name}/scaling_driver"),
            "governor": learn(look.line, f"{base}/{name}/scaling_governor"),
            "max_mhz": learn(_max_mhz, look, f"{base}/{name}/cpuinfo_max_freq"),
        }
        for name in policies
    ]


def _related(look: Look, path: str) -> str:
    # This one file separates by blanks where all others use commas.
    return cpu_ranges(cpu_list("related_cpus", ",".join(look.text(path).split())))


def _max_mhz(look: Look, path: str) -> int:
    return integer("cpuinfo_max_freq", look.text(path)) // 1000


# fact → key of /proc/meminfo
MEMINFO = {
    "total_bytes": "MemTotal",
    "free_bytes": "MemFree",
    "available_bytes": "MemAvailable",
    "cached_bytes": "Cached",
    "swap_total_bytes": "SwapTotal",
    "swap_free_bytes": "SwapFree",
    "cma_total_bytes": "CmaTotal",
    "cma_free_bytes": "CmaFree",
    "huge_pages_total": "HugePages_Total",
    "huge_pages_free": "HugePages_Free",
    "huge_page_size_bytes": "Hugepagesize",
}


def memory(look: Look) -> dict[str, Node]:
    table = learn(lambda: parse_memory.meminfo(look.text("/proc/meminfo")))
    facts: dict[str, Node] = {}
    for fact, key in MEMINFO.items():
        facts[fact] = (
            table if isinstance(table, Unknown) else table.get(key, Unknown(f"/proc/meminfo has no line {key}"))
        )
    page_size = learn(lambda: parse_memory.page_size(look.text("/proc/self/auxv")))
    facts["page_size_bytes"] = page_size
    facts["pressure"] = learn(lambda: parse_memory.pressure(look.text("/proc/pressure/memory")))
    facts["swap_devices"] = learn(lambda: parse_memory.swaps(look.text("/proc/swaps")))
    orders = learn(lambda: parse_memory.buddyinfo(look.text("/proc/buddyinfo")))
    facts["buddy"] = orders if isinstance(orders, Unknown) else _buddy(orders, page_size)
    return facts


def _buddy(orders: list[int], page_size: int | Unknown) -> dict[str, Node]:
    """Fragmentation: large allocations of the GPU driver need blocks of the high orders."""
    filled = [order for order, count in enumerate(orders) if count]
    largest = filled[-1] if filled else None
    size: Node = page_size if isinstance(page_size, Unknown) or largest is None else page_size << largest
    return {
        "free_blocks_by_order": orders,
        "free_blocks_order_8_and_up": sum(orders[8:]),
        "free_blocks_order_10_and_up": sum(orders[10:]),
        "largest_free_block_bytes": size,
    }
