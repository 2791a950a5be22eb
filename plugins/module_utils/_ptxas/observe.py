# SPDX-License-Identifier: GPL-3.0-or-later
"""Find Triton and every ptxas, and run each ptxas for real.

The node is left as it was: what ptxas reads and writes lies in a private folder, which is
removed whatever happens to ptxas. (ptxas cannot do without: given its input on stdin it writes
it under a guessable name in the temporary folder.)

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.command import Completed
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError, Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import unique
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.rights import NoLook, look
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda.tools import (
    OWN_PLACE,
    Arch,
    Version,
    ask,
    cuda_object,
    printed,
    scratch_folder,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._ptxas import parse
from ansible_collections.nusy.dgx_spark.plugins.module_utils._ptxas.model import (
    Kind,
    Observation,
    Ptxas,
    Request,
    Setting,
    Triton,
    is_ptxas_variable,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._ptxas.rules import isa_for, rules_for

VENDORED: tuple[tuple[str, Kind], ...] = (("ptxas", "vendored"), ("ptxas-blackwell", "vendored_blackwell"))
# Where the wheels nvidia-cuda-nvcc-cu12 and nvidia-cuda-nvcc put it.
WHEELS = ("nvidia/cu13/bin/ptxas", "nvidia/cuda_nvcc/bin/ptxas")
# For files to be found and read, on a slow disk, too.
LOOK_SECONDS = 60.0


def observe(request: Request, reader: Reader) -> Observation:
    """All that judging needs. Files are read, and every ptxas is run, with the rights of who decides what it is."""
    start = request.venv or request.triton_dir
    folder, python = look([start], lambda: _places(request, reader), LOOK_SECONDS).value
    looked = look([start, folder or start], lambda: _find(folder, request, reader), LOOK_SECONDS)
    text, why, found, settings = looked.value
    version = parse.triton_version(text)
    # Triton knows this GPU under a name of its own: both must assemble.
    targets = list(dict.fromkeys([request.arch, *([rules_for(version)[0].target(request.arch)] if version else [])]))
    return Observation(
        Triton(folder, version, text) if version else None,
        why,
        python,
        tuple(_probe_with_rights(path, kind, targets, reader, request.timeout, looked.user) for path, kind in found),
        tuple(Setting(*setting) for setting in settings),
        looked.user,
    )


def _find(folder: str, request: Request, reader: Reader) -> tuple[str, str, list[tuple[str, Kind]], list[object]]:
    """The version of Triton as it writes it or why there is none, each ptxas to look at, the variables."""
    triton, why = find_triton(folder, reader)
    settings = _settings(request, reader)
    found: list[tuple[str, Kind]] = []
    if triton:
        folder = f"{triton.folder}/backends/nvidia/bin"
        found = [(f"{folder}/{name}", kind) for name, kind in VENDORED if _present(reader, f"{folder}/{name}")]
    known = {path for path, _kind in found}
    candidates = request.candidates
    if candidates is None:
        candidates = _known_places(reader, os.path.dirname(triton.folder) if triton else "")
    # What is forced already is judged too, after what was declared.
    forced = [setting.path for setting in settings if setting.path.startswith("/")]
    found += [(path, "candidate") for path in unique([*candidates, *forced]) if path not in known]
    return triton.text if triton else "", why, found, [(item.name, item.path, item.source) for item in settings]


def _probe_with_rights(
    path: str, kind: Kind, targets: Sequence[Arch], reader: Reader, timeout: float, user: int
) -> Ptxas:
    def question() -> dict[str, object]:
        with scratch_folder("ptxas") as scratch:
            return asdict(probe(path, kind, targets, reader, timeout, scratch))

    try:
        # More than all its runs may take, and their end.
        said = look([path], question, (timeout + 10) * (1 + len(targets)), user=user).value
    except NoLook as error:
        return Ptxas(path, kind, stderr=f"not run: {error.problem.found}", fault="unjudged")
    version = said.pop("version")
    return Ptxas(**said, version=Version(**version) if version else None)


def _places(request: Request, reader: Reader) -> tuple[str, str]:
    """The folder named triton, and the Python that imports it (empty if it cannot be told)."""
    if request.venv:
        python = f"{request.venv}/bin/python"
        for site in _site_packages(request.venv, reader):
            if _present(reader, f"{site}/triton"):
                return f"{site}/triton", python
        return "", python
    # <prefix>/lib/python3.12/site-packages/triton
    match = re.fullmatch(r"(.+)/lib(?:64)?/python3[^/]*/(?:site|dist)-packages/[^/]+", request.triton_dir)
    python = f"{match[1]}/bin/python" if match else ""
    return request.triton_dir, python if python and _present(reader, python) else ""


def _site_packages(prefix: str, reader: Reader) -> Iterator[str]:
    for lib in ("lib", "lib64"):
        for name in _listdir(reader, f"{prefix}/{lib}"):
            if name.startswith("python3"):
                yield f"{prefix}/{lib}/{name}/site-packages"
                yield f"{prefix}/{lib}/{name}/dist-packages"


def find_triton(folder: str, reader: Reader) -> tuple[Triton | None, str]:
    """Triton in ``folder``, or why not.

    Its own ``__version__`` comes first: it is of the code that runs, while a dist-info may
    be left over from an upgrade or belong to another distribution of the same package.
    """
    if not folder or not _present(reader, folder):
        return None, "there is no Triton" + (f" in {folder}" if folder else " in this virtual environment")
    texts = [parse.assigned_version(_read(reader, f"{folder}/{name}")) for name in ("__init__.py", "_version.py")]
    site = os.path.dirname(folder)
    for name in _listdir(reader, site):
        if re.fullmatch(r"(pytorch_)?triton(_nightly)?-[^-]+\.dist-info", name):
            texts.append(parse.metadata_version(_read(reader, f"{site}/{name}/METADATA")))
    for text in texts:
        version = parse.triton_version(text)
        if version:
            return Triton(folder, version, text), ""
    return None, f"{folder} holds no Triton that tells its version"


def _known_places(reader: Reader, site: str) -> tuple[str, ...]:
    """CUDA installations, those that role cuda_toolchain made first, then the wheels beside this Triton.

    The newest comes first among its kind. The folders with a version come before the link
    /usr/local/cuda: what is recommended must not change its meaning when somebody moves the link.
    """
    paths = [*_by_release(reader, OWN_PLACE, ""), *_by_release(reader, "/usr/local", "cuda-")]
    paths += ["/usr/local/cuda/bin/ptxas", "/opt/cuda/bin/ptxas", "/usr/lib/nvidia-cuda-toolkit/bin/ptxas"]
    paths += [f"{site}/{wheel}" for wheel in WHEELS if site]
    seen: set[str] = set()
    found = []
    for path in paths:
        try:
            there = reader.stat(path) is not None
        except Unreadable:
            there = True  # running it will tell why not, and that is reported
        real = os.path.realpath(path)
        if there and real not in seen:
            seen.add(real)
            found.append(path)
    return tuple(found)


def _by_release(reader: Reader, folder: str, prefix: str) -> list[str]:
    matches = (re.fullmatch(re.escape(prefix) + r"(\d+)\.(\d+)", name, re.ASCII) for name in _listdir(reader, folder))
    found = sorted(((int(m[1]), int(m[2]), m[0]) for m in matches if m), reverse=True)
    return [f"{folder}/{name}/bin/ptxas" for _major, _minor, name in found]


def _settings(request: Request, reader: Reader) -> tuple[Setting, ...]:
    """Each variable once, as a service gets it: files after the environment, the last one wins."""
    settings = {setting.name: setting for setting in request.environment}
    for path in request.environment_files:
        try:
            text = reader.read(path)
        except Unreadable as error:
            raise NodeError(
                "ptxas.environment_file",
                wanted=f"To read what {path} forces",
                found=str(error),
                why="a variable in it may break what this probe would call fine",
                fix="run the task with become, or leave the file out of environment_files",
            ) from error
        for name, value in parse.environment_file(text or "").items():
            if is_ptxas_variable(name):
                settings[name] = Setting(name, value, path)
    return tuple(settings[name] for name in sorted(settings))


def probe(path: str, kind: Kind, targets: Sequence[Arch], reader: Reader, timeout: float, scratch: Path) -> Ptxas:
    """Ask one binary for its version, then have it assemble every target."""
    said = ask(path, reader, timeout, scratch)
    if said.version is None:
        return Ptxas(path, kind, None, False, said.exit_code, said.said, said.fault)
    for target in targets:
        done, problem = _assemble(path, said.version, target, reader, timeout, scratch)
        if problem:
            return Ptxas(path, kind, said.version, False, done.rc, problem)
    return Ptxas(path, kind, said.version, True, 0, "")


def _assemble(
    path: str, version: Version, target: Arch, reader: Reader, timeout: float, scratch: Path
) -> tuple[Completed, str]:
    """One run, and why it did not make a CUDA object (empty if it did)."""
    # A fresh folder: what an earlier run left must not pass for the work of this one.
    folder = tempfile.mkdtemp(dir=scratch)
    source, cubin = f"{folder}/probe.ptx", f"{folder}/probe.cubin"
    Path(source).write_text(
        f".version {isa_for(target, version)}\n.target {target.name}\n.address_size 64\n{_KERNEL}", encoding="utf-8"
    )
    argv = [path, f"--gpu-name={target.name}", source, "-o", cubin]
    done = reader.run(argv, timeout=timeout, env={"TMPDIR": folder})
    if done.rc != 0:
        return done, printed(done) or f"{target.name}: exit code {done.rc}, and it says nothing"
    _capability, wrong = cuda_object(cubin, reader)
    return done, f"{target.name}: {wrong}" if wrong else ""


_KERNEL = """
.visible .entry probe(.param .u64 out)
{
  .reg .b32 %r<2>;
  .reg .b64 %rd<3>;
  ld.param.u64 %rd1, [out];
  cvta.to.global.u64 %rd2, %rd1;
  mov.u32 %r1, %tid.x;
  st.global.u32 [%rd2], %r1;
  ret;
}
"""


def _present(reader: Reader, path: str) -> bool:
    try:
        return reader.stat(path) is not None
    except Unreadable as error:
        raise _unseen(path, error) from error


def _read(reader: Reader, path: str) -> str:
    try:
        return reader.read(path) or ""
    except Unreadable as error:
        raise _unseen(path, error) from error


def _listdir(reader: Reader, path: str) -> tuple[str, ...]:
    try:
        return reader.listdir(path) or ()
    except Unreadable as error:
        raise _unseen(path, error) from error


def _unseen(path: str, error: Unreadable) -> NodeError:
    return NodeError(
        "ptxas.unreadable",
        wanted=f"To look at {path}",
        found=str(error),
        why="without it nobody can say which ptxas Triton runs",
        fix="run the task as the user who owns the virtual environment, or with become",
    )
