# SPDX-License-Identifier: GPL-3.0-or-later
"""The launchers, each as data and two functions: its command line, and what must hold for it.

Sources: vLLM without Ray, pull request 23691 of vLLM; the ports of Ray, its own documentation of
``ray start`` (GCS, raylet and agents bind every address, whatever is asked: the firewall is their guard).

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from ansible_collections.nusy.dgx_spark.plugins.module_utils._launch import conditions, options
from ansible_collections.nusy.dgx_spark.plugins.module_utils._launch.site import Check, Site
from ansible_collections.nusy.dgx_spark.plugins.module_utils._runtime.model import KV_CACHE_BYTES, UTILIZATION


@dataclass(frozen=True)
class Launcher:
    """program: the name in paths.env of what is executed; own_program: instead of it, where that is there.
    needs: others that must be there for it.

    reserved: options of the engine that may not be given after ``--``, since the launcher answers for them.
    key: the variable in which it takes the API key of its unit.
    """

    name: str
    summary: str
    program: str
    needs: tuple[str, ...]
    add: Callable[[ArgumentParser], None]
    command: Callable[[Namespace, Site], list[str]]
    checks: Callable[[Namespace, Site], Iterator[Check]]
    own: Callable[[Namespace], Mapping[str, str]] = field(default=lambda _given: {})
    reserved: tuple[str, ...] = ()
    key: str = ""
    own_program: str = ""

    def executed(self, site: Site) -> str:
        return self.own_program if self.own_program in site.paths else self.program


# --- vLLM -------------------------------------------------------------------------------------


def _budget(given: Namespace, site: Site) -> tuple[int, float]:
    """(bytes of the KV cache, share of the memory): what is asked for, else what the node declares."""
    if given.kv_cache_memory_bytes or given.gpu_memory_utilization:
        return given.kv_cache_memory_bytes or 0, given.gpu_memory_utilization or 0.0
    size, share = site.variables.get(KV_CACHE_BYTES, ""), site.variables.get(UTILIZATION, "")
    return int(size) if size.isdigit() else 0, options.number(share)


def _vllm(given: Namespace, site: Site) -> list[str]:
    size, share = _budget(given, site)
    command = [site.paths["VLLM_BIN"], "serve", given.model]
    command += ["--served-model-name", given.served_model_name] if given.served_model_name else []
    command += ["--tensor-parallel-size", str(given.tensor_parallel_size)]
    command += ["--max-model-len", str(given.max_model_len)] if given.max_model_len else []
    command += ["--kv-cache-memory-bytes", str(size)] if size else ["--gpu-memory-utilization", f"{share:g}"]
    return command


def _vllm_serve(given: Namespace, site: Site) -> list[str]:
    return [*_vllm(given, site), "--host", given.host, "--port", str(given.port), *given.engine]


def _vllm_node(given: Namespace, site: Site) -> list[str]:
    return [
        *_vllm(given, site),
        *("--pipeline-parallel-size", str(given.pipeline_parallel_size)),
        *("--distributed-executor-backend", "mp"),
        *("--nnodes", str(given.nnodes)),
        *("--node-rank", str(given.node_rank)),
        *("--master-addr", given.master_addr),
        *("--master-port", str(given.master_port)),
        # Only the first node answers requests.
        *(["--headless"] if given.node_rank else ["--host", given.host, "--port", str(given.port)]),
        *given.engine,
    ]


def _vllm_checks(given: Namespace, site: Site) -> Iterator[Check]:
    yield conditions.model(given.model, site)
    if not given.replacing:
        yield conditions.memory(*_budget(given, site), site)
        yield conditions.gpu(site, shared=given.share_gpu)


def _vllm_serve_checks(given: Namespace, site: Site) -> Iterator[Check]:
    yield from _vllm_checks(given, site)
    if not given.replacing:
        yield conditions.port(given.host, given.port, "--port")


def _vllm_node_checks(given: Namespace, site: Site) -> Iterator[Check]:
    yield from _vllm_checks(given, site)
    found = f"rank {given.node_rank} of {given.nnodes}"
    problem = "" if 0 <= given.node_rank < given.nnodes else f"{found}: ranks go from 0 to {given.nnodes - 1}"
    yield Check("rank", found, problem, "the others would wait for it for ever", "give each node a rank of its own")
    parts = given.tensor_parallel_size * given.pipeline_parallel_size
    found = f"{parts} on {given.nnodes} nodes"
    problem = "" if parts % given.nnodes == 0 else f"{found}: each node must have as many"
    fix = "choose --tensor-parallel-size and --pipeline-parallel-size, whose product is the number of GPUs"
    yield Check("parts of the model", found, problem, "vLLM would refuse it after it has started on some nodes", fix)
    if given.node_rank == 0:
        yield conditions.port(given.host, given.port, "--port")
        yield conditions.port(given.master_addr, given.master_port, "--master-port")
    # Its own address must be of this node; workers start first, so the master need not answer yet.
    yield conditions.port(given.node_ip_address, 0, "--node-ip-address")


def _add_vllm(parser: ArgumentParser) -> None:
    parser.add_argument("model", type=options.text, help="folder with config.json, or <owner>/<name> of the hub")
    parser.add_argument("--served-model-name", type=options.text, help="name that clients use")
    parser.add_argument("--host", type=options.address, default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=options.port, default=8000, help="port to listen on")
    parser.add_argument("--tensor-parallel-size", type=options.positive, default=1, help="GPUs to share the model")
    parser.add_argument("--max-model-len", type=options.positive, help="longest context, in tokens")
    parser.add_argument("--share-gpu", action="store_true", help="another engine may hold the GPU; mind both budgets")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--kv-cache-memory-bytes", type=options.positive, help="size of the KV cache (preferred)")
    budget.add_argument("--gpu-memory-utilization", type=options.share, help="share of the memory to take")


def _add_vllm_node(parser: ArgumentParser) -> None:
    _add_vllm(parser)
    parser.add_argument("--pipeline-parallel-size", type=options.positive, default=1, help="stages of the model")
    parser.add_argument("--nnodes", type=options.positive, required=True, help="number of nodes")
    parser.add_argument("--node-rank", type=options.count, required=True, help="0 on the node that answers requests")
    parser.add_argument("--master-addr", type=options.address, required=True, help="fabric address of rank 0")
    parser.add_argument("--master-port", type=options.port, default=29510, help="the same on every node")
    parser.add_argument("--node-ip-address", type=options.address, required=True, help="fabric address of this node")


_OF_VLLM = (
    "--model", "--served-model-name", "--host", "--port", "--tensor-parallel-size", "-tp", "--max-model-len",
    "--kv-cache-memory-bytes", "--gpu-memory-utilization", "--distributed-executor-backend", "--nnodes", "--node-rank",
    "--master-addr", "--master-port", "--headless", "--config", "--api-key", "--hf-token",
)  # fmt: skip

# --- Ray --------------------------------------------------------------------------------------

# Ray picks ports at random unless told: counted from the base, so that a firewall can name them.
_FIXED = (
    "node-manager-port",
    "object-manager-port",
    "runtime-env-agent-port",
    "dashboard-agent-listen-port",
    "dashboard-agent-grpc-port",
    "metrics-export-port",
)


def _ray(given: Namespace) -> list[str]:
    fixed = [word for n, name in enumerate(_FIXED, 1) for word in (f"--{name}", str(given.port_base + n))]
    return [
        *("--node-ip-address", given.node_ip_address),
        *fixed,
        *("--min-worker-port", str(given.port_base + 20), "--max-worker-port", str(given.port_base + 99)),
        *("--num-gpus", str(given.num_gpus)),
        *("--object-store-memory", str(given.object_store_memory)),
        "--disable-usage-stats",
        # Not into the background: signals and limits of the unit are for Ray.
        "--block",
        *given.engine,
    ]


def _ray_head(given: Namespace, site: Site) -> list[str]:
    return [
        *(site.paths["RAY_BIN"], "start", "--head"),
        *("--port", str(given.port_base)),
        # Without a password: whoever reaches it runs programs here.
        *("--dashboard-host", "127.0.0.1", "--dashboard-port", str(given.dashboard_port)),
        *("--ray-client-server-port", str(given.port_base + 7)),
        *_ray(given),
    ]


def _ray_worker(given: Namespace, site: Site) -> list[str]:
    return [site.paths["RAY_BIN"], "start", "--address", ":".join(map(str, given.address)), *_ray(given)]


def _ray_ports(given: Namespace, *more: tuple[int, str]) -> Iterator[Check]:
    address = conditions.port(given.node_ip_address, 0, "--node-ip-address")
    yield address
    if not address.problem:  # otherwise each of its ports would say the same
        fixed = ((given.port_base + number, name) for number, name in enumerate(_FIXED, 1))
        for number, name in (*fixed, *more):
            yield conditions.port(given.node_ip_address, number, name)


def _ray_head_checks(given: Namespace, _site: Site) -> Iterator[Check]:
    yield from _ray_ports(given, (given.port_base, "of the GCS"))
    yield conditions.port("127.0.0.1", given.dashboard_port, "--dashboard-port")


def _ray_worker_checks(given: Namespace, _site: Site) -> Iterator[Check]:
    yield from _ray_ports(given)
    address, number = given.address
    yield conditions.answers(address, number, "head")


def _add_ray(parser: ArgumentParser) -> None:
    parser.add_argument("--node-ip-address", type=options.address, required=True, help="fabric address of this node")
    parser.add_argument(
        "--port-base", type=options.base_port, default=6380, help="first of 100 ports; the head's GCS has this one"
    )
    parser.add_argument("--num-gpus", type=options.count, default=1, help="GPUs that this node offers")
    parser.add_argument("--object-store-memory", type=options.positive, default=2 << 30, help="its bound, in bytes")


def _add_ray_head(parser: ArgumentParser) -> None:
    _add_ray(parser)
    parser.add_argument("--dashboard-port", type=options.port, default=8265, help="of the dashboard, on loopback")


def _add_ray_worker(parser: ArgumentParser) -> None:
    _add_ray(parser)
    parser.add_argument("--address", type=options.endpoint, required=True, help="<address>:<port> of the head's GCS")


_OF_RAY = (
    "--head", "--address", "--port", "--node-ip-address", "--block", "--num-gpus", "--object-store-memory",
    "--dashboard-host", "--dashboard-port", "--ray-client-server-port", "--min-worker-port", "--max-worker-port",
    "--redis-password", *(f"--{name}" for name in _FIXED),
)  # fmt: skip


def _node_address(given: Namespace) -> dict[str, str]:
    # Else the engines take the first address that is not loopback, which is not that of the fabric.
    return {"VLLM_HOST_IP": given.node_ip_address}


# --- llama.cpp --------------------------------------------------------------------------------


def _llama(given: Namespace, site: Site) -> list[str]:
    # Through the folder that the link leads to now: a Python started through a link looks for its
    # modules through it, and would find others when a new generation takes its place.
    folder, name = os.path.split(site.paths[LAUNCHERS["llama-serve"].executed(site)])
    return [
        *(f"{os.path.realpath(folder)}/{name}", "-I", "-B", site.suite, "llama-server"),
        *("--model", given.model, "--host", given.host, "--port", str(given.port)),
        *(["--alias", given.served_model_name] if given.served_model_name else []),
        *("--ctx-size", str(given.max_model_len), "--parallel", str(given.max_num_seqs)),
        *(["--threads", str(given.threads)] if given.threads else []),
        *(["--tls-certificate", given.tls_certificate, "--tls-key", given.tls_key] if given.tls_certificate else []),
        *(["--tls-client-ca", given.tls_client_ca] if given.tls_client_ca else []),
        *given.engine,
    ]


def _llama_checks(given: Namespace, site: Site) -> Iterator[Check]:
    found = conditions.model(given.model, site)
    yield found
    if not given.replacing:
        if not found.problem:
            yield conditions.loaded(given.model, given.kv_cache_memory_bytes or 0)
        yield conditions.port(given.host, given.port, "--port")


def _add_llama(parser: ArgumentParser) -> None:
    parser.add_argument("model", type=options.text, help="a .gguf file")
    parser.add_argument("--served-model-name", type=options.text, help="name that clients use")
    parser.add_argument("--host", type=options.address, default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=options.port, default=8080, help="port to listen on")
    parser.add_argument("--max-model-len", type=options.positive, default=4096, help="longest context, in tokens")
    parser.add_argument("--max-num-seqs", type=options.positive, default=1, help="requests answered at once")
    parser.add_argument("--kv-cache-memory-bytes", type=options.positive, help="what its KV cache takes, for the check")
    parser.add_argument("--threads", type=options.positive, help="processors to compute with; default: all")
    parser.add_argument("--tls-certificate", type=options.text, help="certificate to show, in PEM")
    parser.add_argument("--tls-key", type=options.text, help="its key")
    parser.add_argument("--tls-client-ca", type=options.text, help="let in only who shows a certificate of it")


_OF_LLAMA = (
    "--model",
    "-m",
    "--host",
    "--port",
    "--alias",
    "-a",
    "--ctx-size",
    "-c",
    "--parallel",
    "-np",
    "--threads",
    "-t",
    "--tls-certificate",
    "--tls-key",
    "--tls-client-ca",
    "--api-key",
    "--hf-token",
    "-hft",
)

LAUNCHERS = {
    launcher.name: launcher
    for launcher in (
        Launcher(
            "vllm-serve", "vLLM on one node", "VLLM_BIN", ("NVIDIA_SMI_BIN",),
            _add_vllm, _vllm_serve, _vllm_serve_checks, reserved=_OF_VLLM, key="VLLM_API_KEY",
        ),
        Launcher(
            "vllm-node", "one node of a vLLM on several, without Ray", "VLLM_BIN", ("NVIDIA_SMI_BIN",),
            _add_vllm_node, _vllm_node, _vllm_node_checks, _node_address,
            (*_OF_VLLM, "--pipeline-parallel-size", "-pp"), "VLLM_API_KEY",
        ),
        Launcher(
            "ray-head", "the head of a Ray cluster", "RAY_BIN", (),
            _add_ray_head, _ray_head, _ray_head_checks, _node_address, _OF_RAY,
        ),
        Launcher(
            "ray-worker", "a worker of a Ray cluster", "RAY_BIN", (),
            _add_ray_worker, _ray_worker, _ray_worker_checks, _node_address, _OF_RAY,
        ),
        Launcher(
            "llama-serve", "llama.cpp on one node", "PY_BIN", (),
            _add_llama, _llama, _llama_checks, reserved=_OF_LLAMA, key="LLAMA_API_KEY", own_program="LLAMA_PY_BIN",
        ),
    )
}  # fmt: skip
