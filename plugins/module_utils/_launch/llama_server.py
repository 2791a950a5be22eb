# SPDX-License-Identifier: GPL-3.0-or-later
"""llama.cpp as a server, out of the wheel xllamacpp, which brings the library and no program.

Runs under the Python of the virtual environment.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import tempfile
from collections.abc import Sequence

from ansible_collections.nusy.dgx_spark.plugins.module_utils._launch import options, tls_front

NAME = "llama-server"
TLS = ("tls-certificate", "tls-key", "tls-client-ca")


def main(words: Sequence[str]) -> int:
    parser = options.Parser(NAME, "Serve one .gguf file.")
    parser.add_argument("--model", required=True)
    parser.add_argument("--host", type=options.address, default="127.0.0.1")
    parser.add_argument("--port", type=options.port, default=8080)
    parser.add_argument("--alias", default="")
    parser.add_argument("--ctx-size", type=options.positive, default=4096)
    parser.add_argument("--parallel", type=options.positive, default=1)
    parser.add_argument("--threads", type=options.positive)
    for name in TLS:
        parser.add_argument(f"--{name}", default="")
    given = parser.parse_args(list(words))
    if bool(given.tls_certificate) != bool(given.tls_key) or (given.tls_client_ca and not given.tls_key):
        parser.error("--tls-certificate and --tls-key belong together")
    front = None
    if given.tls_certificate:
        try:
            tls = tls_front.context(given.tls_certificate, given.tls_key, given.tls_client_ca)
            front = tls, tls_front.bound(given.host, given.port)
        except OSError as error:
            return _no_front(given.host, given.port, error)
    try:
        library = importlib.import_module("xllamacpp")
    except ImportError as error:
        sys.stderr.write(
            f"{NAME}: not started: {error}. Why it matters: the server is in it. "
            "What to do: install the wheel xllamacpp into the environment of PY_BIN (role vllm_venv).\n"
        )
        return 78
    # The kernel ends it, whatever it is about: while the library loads a model, Python would not come to a handler of
    # its own, and there is nothing to tidy up. Requests under way are waited for before (engine-drain).
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    params = library.CommonParams()
    params.model.path = given.model
    # Behind TLS it listens where only this process can come.
    inner = f"{tempfile.mkdtemp(prefix='llama-server.')}/engine.sock" if front else ""
    params.hostnames = [inner or given.host]
    params.port = given.port
    # llama.cpp divides its context among those that it answers at once.
    params.n_ctx = given.ctx_size * given.parallel
    params.n_parallel = given.parallel
    if given.threads:
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = given.threads
    params.model_alias = {given.alias or os.path.basename(given.model)}
    params.endpoint_metrics = True
    # Not on the command line, which everybody can see.
    key = os.environ.get("LLAMA_API_KEY", "")
    params.api_keys = [key] if key else []
    try:
        server = library.Server(params)
    except RuntimeError as error:
        sys.stderr.write(
            f"{NAME}: ended: {error}. Why it matters: there is no server. What to do: see above what llama.cpp says.\n"
        )
        return 1
    options.say(f"{NAME}: listening on {f'https://{given.host}:{given.port}' if front else server.listening_address}")
    sys.stdout.flush()
    if front:
        try:
            tls_front.serve(front[1], front[0], inner)
        except OSError as error:
            # Somebody else began to listen there while the model was loaded. What the library tears down at the end of
            # Python may wait for ever.
            os._exit(_no_front(given.host, given.port, error))
    while True:
        signal.pause()


def _no_front(host: str, port: int, error: OSError) -> int:
    sys.stderr.write(
        f"{NAME}: not started: TLS at {host}:{port}: {error}. Why it matters: clients would be refused, or answered "
        "in the clear. What to do: correct certificate, key and client CA, or the port.\n"
    )
    sys.stderr.flush()
    return 78
