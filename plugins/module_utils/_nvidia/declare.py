# SPDX-License-Identifier: GPL-3.0-or-later
"""From what is wanted and what was found to the controls of the driver and its packages. Pure.

On DGX OS everything is there already: it is adopted, and what is missing is named. A driver or a
kernel's modules are installed only when their package is named in the role's confirm variable.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import dataclasses
import json
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import urlsplit

from ansible_collections.nusy.dgx_spark.plugins.module_utils._apt.entries import Entry, address, conflict
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Step, unique
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.versions import look as versions_of
from ansible_collections.nusy.dgx_spark.plugins.module_utils._nvidia.model import (
    DGX,
    DGX_SOURCE,
    DRIVER,
    HOLDS,
    KERNEL_METAS,
    KERNELS,
    KEY,
    KEYRING,
    MATCH,
    OURS,
    PERSISTENCE,
    PERSISTENCED,
    SMI,
    SOURCES,
    VERSIONS,
    Kernel,
    Seen,
    Wanted,
    branch_of,
    upstream,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import (
    Assertion,
    ControlSpec,
    Directory,
    File,
    Package,
    Unit,
    Unknown,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._versions import judge
from ansible_collections.nusy.dgx_spark.plugins.module_utils._versions.model import UNJUDGED, Row, named

HOSTS = ("nvidia.github.io", "developer.download.nvidia.com", "repo.download.nvidia.com")
# Addresses that NVIDIA has given up: 404 (found on a node in September 2026, and in years-old guides).
GONE = ("/compute/dgx/repos/", "/baseos/8/ubuntu/")
# Of these a verdict is only due on a Spark.
OF_A_SPARK = ("uefi", "connectx_firmware")


def unknown(control: str, what: str, reason: str) -> ControlSpec:
    return ControlSpec(control, assertions=(Assertion(what, "unknown", "", "", reason),))


def declared(control: ControlSpec, *inputs: object) -> ControlSpec:
    """What follows from the look is no declaration: ``inputs`` say what was declared."""
    return dataclasses.replace(control, inputs=json.dumps(inputs))


def installing(wanted: Wanted, seen: Seen, names: Iterable[str], why: str) -> tuple[list[Package], list[Assertion]]:
    """Packages that are installed only when they are named, since they change the driver or the kernel."""
    missing = [name for name in unique(names) if name not in seen.installed]
    asked = [
        Assertion(f"package {name}", "drifted", "absent", "installed", why, victim=("package", name))
        for name in missing
    ]
    return [Package(name) for name in missing if wanted.named(name)], asked


# --- where packages come from -----------------------------------------------------------------


def key_and_sources(wanted: Wanted, seen: Seen) -> Iterator[ControlSpec]:
    if isinstance(seen.entries, Unknown):
        yield unknown(SOURCES, "apt sources", seen.entries.reason)
        return
    of_url = [entry for entry in seen.entries if address(entry.uri) == address(wanted.repository_url)]
    own = seen.system != DGX and all(entry.file == OURS for entry in of_url)
    if own:
        right = seen.fingerprints == (wanted.fingerprint,) and not seen.key_problem
        found = seen.key_problem or ", ".join(seen.fingerprints)
        steps = (Step("write_key", KEYRING),)
        key = Assertion(f"key {KEYRING}", "in_sync" if right else "drifted", found, wanted.fingerprint, "", steps=steps)
        folder = Directory(posixpath.dirname(KEYRING))
        yield declared(ControlSpec(KEY, directories=(folder,), assertions=(key,)), wanted.fingerprint)
    yield declared(
        ControlSpec(
            SOURCES,
            files=(File(OURS, stanza(wanted.repository_url)),) if own else (),
            assertions=(*_dgx_source(seen), *_in_the_way(wanted, seen, seen.entries)),
        ),
        wanted.repository_url,
    )


def stanza(url: str) -> str:
    # apt puts the node's own architecture into the address, but not into a deb822 stanza's suite.
    return (
        "# NVIDIA's container toolkit. Written by role nvidia_toolkit of nusy.dgx_spark.\n"
        f"Types: deb\nURIs: {url}\nSuites: /\nSigned-By: {KEYRING}\n"
    )


def _dgx_source(seen: Seen) -> Iterator[Assertion]:
    if seen.system == DGX:
        there = isinstance(seen.entries, tuple) and any(entry.file == DGX_SOURCE for entry in seen.entries)
        yield Assertion(
            f"source {DGX_SOURCE}",
            "in_sync" if there else "drifted",
            "present" if there else "absent",
            "present",
            "" if there else "DGX OS without its own repository: none is added in its place",
            f"restore {DGX_SOURCE} (package dgx-repo, or NVIDIA's dgx-repo-files.tgz)",
        )


def _in_the_way(wanted: Wanted, seen: Seen, entries: tuple[Entry, ...]) -> Iterator[Assertion]:
    """What stops apt, or would swap NVIDIA's own builds; removed by name where a file holds nothing else."""
    ours = address(wanted.repository_url)
    of_nvidia = [e for e in entries if address(e.uri) == ours or urlsplit(e.uri).hostname in HOSTS]
    reasons: dict[str, str] = dict.fromkeys(seen.old_lists, "it is of an old guide: what it named is gone")
    for entry in of_nvidia:
        same = [e for e in of_nvidia if (address(e.uri), e.suite) == (address(entry.uri), entry.suite)]
        if any(part in entry.uri for part in GONE):
            reasons.setdefault(entry.file, f"{entry.uri} does not exist any more, and apt-get update fails")
        elif seen.system == DGX and address(entry.uri) == ours:
            why = "DGX OS has the toolkit from NVIDIA's own repository, in a build of its own"
            reasons.setdefault(entry.file, why)
        elif conflict(same) and entry.file != _stays(same):
            why = f"{entry.uri} has another Signed-By in {_stays(same)}: apt refuses every package"
            reasons.setdefault(entry.file, why)
    for file, why in sorted(reasons.items()):
        alone = file in seen.old_lists or all(e in of_nvidia for e in entries if e.file == file)
        yield Assertion(
            f"source {file}",
            "drifted",
            "present",
            "absent",
            why,
            "" if alone else f"remove its lines of NVIDIA from {file}",
            (Step("remove_file", file),) if alone else (),
            ("path", file) if alone else (),
        )


def _stays(same: Iterable[Entry]) -> str:
    """Of several files with one address: a vendor's .sources before a .list, and ours last."""
    return min((e.file for e in same), key=lambda file: (file == OURS, not file.endswith(".sources"), file))


# --- the driver -------------------------------------------------------------------------------


def kernel_meta(seen: Seen) -> str:
    """Which of Ubuntu's kernels this node follows, by its metapackage."""
    for meta in KERNEL_METAS:
        if any(f"{prefix}-{meta}" in seen.installed for prefix in ("linux", "linux-image")):
            return meta
    return ""


def driver_packages(wanted: Wanted, seen: Seen) -> tuple[str, ...]:
    """Open, prebuilt and signed modules that follow the kernel, and the user space of the same branch."""
    if wanted.driver_packages:
        return wanted.driver_packages
    meta = kernel_meta(seen)

    def of(flavour: str, *names: str) -> tuple[str, ...]:
        release = f"{wanted.branch}{flavour}"
        modules = (f"linux-modules-nvidia-{release}-open-{meta}",) if meta else ()
        return (*modules, *(name.format(release) for name in names))

    desktop = ("nvidia-driver-{}-open",)
    if seen.system == DGX:
        return of("", *desktop)
    headless = ("nvidia-headless-no-dkms-{}-open", "nvidia-utils-{}", "libnvidia-compute-{}")
    sets = [of(flavour, *names) for flavour in ("", "-server") for names in (headless, desktop)]
    # One that Ubuntu's own installer left, with a desktop or of the server flavour, is as good; modules may be missing.
    whole = (one for one in sets if set(one[bool(meta) :]) <= seen.installed.keys())
    return next(whole, sets[0])


def driver(wanted: Wanted, seen: Seen) -> ControlSpec:
    names = driver_packages(wanted, seen)
    packages, asked = installing(wanted, seen, names, "a driver is installed only when it is named")
    # Of a branch that is no longer wanted nothing is brought in.
    refused = bad_choices(wanted, "driver", wanted.branch) if asked else ()
    packages, asked = ([], [*asked, *refused]) if refused else (packages, asked)
    of_branch = {name: branch_of(name) for name in seen.installed if branch_of(name)}
    found = sorted(set(of_branch.values()))
    truths = list(asked)
    if found:
        right = found == [wanted.branch]
        others = [name for name, branch in sorted(of_branch.items()) if branch != wanted.branch]
        why = f"{', '.join(others[:4])} {'is' if len(others) == 1 else 'are'} of another branch"
        fix = "remove what is of another branch, or declare that one (nvidia_toolkit_branch)"
        state = "in_sync" if right else "drifted"
        truths.append(Assertion("branch", state, ", ".join(found), wanted.branch, "" if right else why, fix))
    # Modules are built for several kernels, at different times; user space is one.
    user_space = {upstream(seen.installed[name]) for name in of_branch if not name.startswith("nvidia-firmware")}
    if len(user_space) > 1:
        why = "user space of two versions: a library does not find the other's"
        fix = "apt-get install --only-upgrade the packages of the branch together"
        truths.append(Assertion("version", "drifted", ", ".join(sorted(user_space)), "one", why, fix))
    dkms = sorted(name for name in seen.installed if name.startswith("nvidia-dkms-"))
    prebuilt = sorted(name for name in seen.installed if name.startswith("linux-modules-nvidia-"))
    if dkms and prebuilt:
        why = f"{dkms[0]} beside prebuilt modules: which of the two a kernel loads is chance"
        truths.append(Assertion("modules", "drifted", f"{dkms[0]}, {prebuilt[0]}", "of one source", why,
                                f"remove {dkms[0]}"))  # fmt: skip
    if not kernel_meta(seen) and not wanted.driver_packages:
        why = f"none of linux-{', linux-'.join(KERNEL_METAS)} is installed, so no modules can follow the kernel"
        truths.append(Assertion("kernel", "unknown", "", "a kernel with prebuilt modules", why))
    return declared(ControlSpec(DRIVER, packages=tuple(packages), assertions=tuple(truths)), wanted.branch, names)


def kernels(wanted: Wanted, seen: Seen) -> ControlSpec:
    """The gate of a reboot, and whether the kernel that runs has its modules."""
    packages: list[Package] = []
    truths: list[Assertion] = []
    for what, kernel, why in (
        ("the kernel that runs", seen.running, "the GPU is not usable"),
        ("the kernel of the next boot", seen.next, "the GPU would be lost"),
    ):
        if isinstance(kernel, Unknown):
            truths.append(Assertion(what, "unknown", "", "has its modules", kernel.reason))
            continue
        name = f"{what}, {kernel.release}: nvidia.ko"
        if kernel.modules:
            truths.append(Assertion(name, "in_sync", "present", "present"))
        else:
            reason = f"{what}, {kernel.release}, has no nvidia.ko: {why}"
            more, asked = installing(wanted, seen, [_modules_for(wanted, kernel)], reason)
            packages += [package for package in more if package not in packages]
            truths += asked or [Assertion(name, "drifted", "absent", "present", reason, "do not reboot into it")]
    if not isinstance(seen.next, Unknown):
        truths += _next(seen.next)
    if seen.audit:
        why = f"dpkg has left something half done: {seen.audit}"
        truths.append(Assertion("dpkg --audit", "drifted", "not empty", "empty", why, "dpkg --configure -a"))
    return declared(ControlSpec(KERNELS, packages=tuple(packages), assertions=tuple(truths)), wanted.branch)


def _modules_for(wanted: Wanted, kernel: Kernel) -> str:
    return f"linux-modules-nvidia-{wanted.branch}-open-{kernel.release}"


def _next(kernel: Kernel) -> Iterator[Assertion]:
    for gap in kernel.gaps:
        if gap != "nvidia.ko":
            why = f"kernel {kernel.release} boots next without {gap}: it would not come up"
            fix = f"do not reboot; apt-get install --reinstall linux-image-{kernel.release}"
            yield Assertion(f"{gap} of {kernel.release}", "drifted", "absent or empty", "present", why, fix)


def match(seen: Seen) -> ControlSpec:
    """A module of one version refuses a library of another: nvidia-smi and CUDA fail until a reboot."""
    loaded, installed = str(_gpu(seen, "module_version") or ""), seen.driver
    if not loaded or not installed:
        why = _why(seen, "gpu.module_version") if not loaded else "no libnvidia-compute is installed"
        return unknown(MATCH, "loaded module", why)
    right = loaded == installed
    why = (
        f"the module {loaded} is loaded, and the libraries are {installed}: CUDA fails until the module is loaded anew"
    )
    fix = "reboot, after nvidia_toolkit/kernels is in sync"
    truth = Assertion("loaded module", "in_sync" if right else "drifted", loaded, installed, "" if right else why, fix)
    return ControlSpec(MATCH, assertions=(truth,))


def versions(wanted: Wanted, seen: Seen) -> ControlSpec:
    """What the matrix says of what is there. An unmeasured version is no fault.

    A known-bad one is nobody's to change by the way: it is told, with its remedy, and stops nothing else of a run.
    """
    unknowns = seen.facts.get("unknown")
    facts = {**seen.facts, "packages": seen.installed}
    found = versions_of(wanted.rows, facts, unknowns if isinstance(unknowns, Mapping) else {})
    toolkit = upstream(seen.installed.get("nvidia-container-toolkit", ""))
    # Of packages, which are there without a GPU and without their programs being asked.
    known = {**found.versions, "driver": seen.driver, "container_toolkit": toolkit}
    # Podman is the subject of cdi_podman, which mends it.
    known = {subject: version for subject, version in known.items() if version and subject != "podman"}
    truths = []
    for judged in judge.judge_all(wanted.rows, dataclasses.replace(found, versions=known)):
        name = named(judged.subject)
        if judged.verdict == UNJUDGED:
            truths.append(Assertion(name, "unknown", "", "not known to be bad", f"{judged.title}: {judged.reason}"))
        elif not judged.is_bad:
            truths.append(Assertion(name, "in_sync", judged.version, "not known to be bad"))
        for row in judged.rows if judged.is_bad else ():
            truths.append(_known_bad(row, name, judged.version))
    following = "" if isinstance(seen.next, Unknown) else seen.next.release
    for row in judge.bad_anywhere(wanted.rows, "kernel", following) if following != known.get("kernel") else ():
        truths.append(_known_bad(row, "kernel of the next boot", following))
    # Another machine has none of these, or versions of its own.
    for subject in OF_A_SPARK if seen.facts.get("is_spark") is not False else ():
        if subject not in known:
            why = f"{named(subject)}: {found.unknown.get(subject, 'not found')}"
            truths.append(Assertion(named(subject), "unknown", "", "not known to be bad", why))
    return declared(ControlSpec(VERSIONS, assertions=tuple(truths)), [dataclasses.astuple(row) for row in wanted.rows])


def _known_bad(row: Row, name: str, version: str) -> Assertion:
    why = f"{named(row.subject)} {version} is known to be bad: {row.why}; {row.remedy}"
    return Assertion(name, "drifted", version, f"not {row.range}", why, row.remedy,
                     victim=("version", row.id), awaits="another version")  # fmt: skip


def bad_choices(wanted: Wanted, subject: str, version: str) -> tuple[Assertion, ...]:
    """Why a version that is declared is not installed: it is known to be bad, and its row is not named."""
    rows = judge.bad_anywhere(wanted.rows, subject, version)
    return tuple(_known_bad(row, f"declared {named(subject)}", version) for row in rows if not wanted.knows(row))


def persistence(wanted: Wanted, seen: Seen) -> ControlSpec:
    if not seen.loaded:
        return unknown(PERSISTENCE, PERSISTENCED, _why(seen, "gpu.module_version"))
    if PERSISTENCED not in seen.units:
        why = f"there is no {PERSISTENCED}"
        fix = f"install nvidia-compute-utils-{wanted.branch}"
        return ControlSpec(PERSISTENCE, assertions=(Assertion(PERSISTENCED, "drifted", "absent", "active", why, fix),))
    return ControlSpec(PERSISTENCE, units=(Unit(PERSISTENCED, active=True),))


def smi(seen: Seen) -> ControlSpec:
    """By its absolute path, and only where starting it sets nothing up."""
    devices = _gpu(seen, "devices")
    devices = [one for one in devices if isinstance(one, Mapping)] if isinstance(devices, list) else []
    # Where it does not answer the driver in the kernel still knows names: numbers come from nvidia-smi alone.
    names = [one.get("name") for one in devices if "index" in one]
    if names and _gpu(seen, "driver_version"):
        found = f"{', '.join(map(str, names))}, driver {_gpu(seen, 'driver_version')}"
        return ControlSpec(SMI, assertions=(Assertion("/usr/bin/nvidia-smi", "in_sync", found, "names the GPU"),))
    return unknown(SMI, "/usr/bin/nvidia-smi", _why(seen, "gpu.devices.0.index" if devices else "gpu.devices"))


def holds(wanted: Wanted, seen: Seen) -> ControlSpec:
    absent = tuple(
        Assertion(f"package {name}: hold", "drifted", "absent", "held", f"{name} is not installed",
                  "install it, or take it out of nvidia_toolkit_holds")
        for name in wanted.holds if name not in seen.installed
    )  # fmt: skip
    held = tuple(Package(name, hold=True) for name in wanted.holds if name in seen.installed)
    return ControlSpec(HOLDS, packages=held, assertions=absent)


def _gpu(seen: Seen, name: str) -> object:
    gpu = seen.facts.get("gpu")
    return gpu.get(name) if isinstance(gpu, Mapping) else None


def _why(seen: Seen, path: str) -> str:
    unknowns = seen.facts.get("unknown")
    found = unknowns if isinstance(unknowns, Mapping) else {}
    return str(found.get(path) or found.get(path.partition(".")[0]) or "this machine has no NVIDIA GPU on its PCI bus")
