# SPDX-License-Identifier: GPL-3.0-or-later
"""From what is wanted and what was found to the controls of a document. Pure.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from ansible_collections.nusy.dgx_spark.plugins.module_utils._apt.entries import conflict
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Step, unique
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda import links, sources, wheel
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda.model import (
    BUILDS,
    COMPONENTS,
    KEY,
    LINK,
    PACKAGE_OF,
    READERS,
    REPOSITORY,
    TOOLKIT,
    Look,
    Repository,
    Tool,
    Toolchain,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda.tools import OWN_PLACE
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import (
    Assertion,
    ControlSpec,
    Directory,
    File,
    Unknown,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.packages import Installed


@dataclass(frozen=True)
class Seen:
    """look, link and taken (what the record lists): for every source. tree and digest: source wheel.

    The rest: source apt.

    packaged: dpkg knows a part of this toolkit, be it half installed.
    """

    look: Look
    link: links.Seen
    taken: frozenset[str] = frozenset()
    tree: wheel.Seen | Unknown | None = None
    digest: str = ""
    url: str = ""
    key_url: str = ""
    sources: sources.Seen | Unknown | None = None
    dgx_os: bool = False
    packaged: bool = False
    installed: Mapping[str, Installed] = field(default_factory=dict)
    damaged: tuple[str, ...] = ()


def controls(wanted: Toolchain, seen: Seen) -> tuple[ControlSpec, ...]:
    """What follows from the look is no declaration: each says in ``inputs`` what was declared."""
    release, prefix = str(wanted.release), wanted.prefix
    packages = [(package.name, package.version, package.hold) for package in wanted.packages]
    found = [
        *(_sources(wanted.repository, seen) if wanted.repository else ()),
        _declared(_toolkit(wanted, seen), wanted.source, release, prefix, packages, seen.digest),
        _declared(_components(wanted, seen), release, prefix, wanted.components),
        _declared(_builds(wanted, seen), prefix, wanted.arch.name, wanted.compile),
    ]
    if wanted.link:
        found.insert(-1, _declared(_link(wanted, seen), wanted.link, prefix))
    return tuple(found)


def _declared(control: ControlSpec, *inputs: object) -> ControlSpec:
    return replace(control, inputs=json.dumps(inputs))


# --- the repository -------------------------------------------------------------------------


def _sources(wanted: Repository, seen: Seen) -> Iterator[ControlSpec]:
    found = seen.sources
    if found is None or isinstance(found, Unknown):
        reason = found.reason if found else "it was not looked for"
        unknown = Assertion(f"source {seen.url}", "unknown", "", "one", reason)
        yield ControlSpec(REPOSITORY, assertions=(unknown,))
        return
    ours = not found.foreign and not seen.dgx_os
    if ours:
        # Before the source: without its key that one would be an error of every apt-get update.
        yield _declared(_key(wanted, found), wanted.fingerprint)
    yield _declared(_own_source(seen.url) if ours else _adopted(seen.url, found), seen.url)


def _key(wanted: Repository, found: sources.Seen) -> ControlSpec:
    right = found.fingerprints == (wanted.fingerprint,) and not found.key_problem
    key = Assertion(
        f"key {sources.KEYRING}",
        "in_sync" if right else "drifted",
        found.key_problem or ", ".join(found.fingerprints),
        wanted.fingerprint,
        steps=(Step("write_key", sources.KEYRING),),
    )
    return ControlSpec(KEY, directories=(Directory(posixpath.dirname(sources.KEYRING)),), assertions=(key,))


def _own_source(url: str) -> ControlSpec:
    return ControlSpec(REPOSITORY, files=(File(sources.OURS, sources.stanza(url)), File(sources.PINS, sources.pins())))


def _adopted(url: str, found: sources.Seen) -> ControlSpec:
    """What somebody has configured, or NVIDIA on its own system."""
    name = f"source {url}"
    rest = _left_over(found)
    if conflict(found.entries):
        return ControlSpec(REPOSITORY, assertions=(*_in_conflict(name, found), *rest))
    if found.foreign:
        there = ", ".join(unique(entry.file for entry in found.foreign))
        return ControlSpec(REPOSITORY, assertions=(Assertion(name, "in_sync", there, "one"), *rest))
    missing = Assertion(
        name,
        "drifted",
        "absent",
        "one",
        "DGX OS without its CUDA repository: none is added beside NVIDIA's own",
        f"restore {sources.NVIDIA}, or declare the mirror that is used (cuda_toolchain_repository_url)",
    )
    return ControlSpec(REPOSITORY, assertions=(missing, *rest))


def _left_over(found: sources.Seen) -> tuple[Assertion, ...]:
    """Pins of this role without its source: they would keep what others configured from working."""
    if not found.pinned or any(entry.file == sources.OURS for entry in found.entries):
        return ()
    step = Step("remove_file", sources.PINS)
    reason = "it belongs to a source of this role, which is not there"
    return (Assertion(f"file {sources.PINS}", "drifted", "present", "absent", reason, steps=(step,)),)


def _in_conflict(name: str, found: sources.Seen) -> Iterator[Assertion]:
    """One stays: NVIDIA's own, else another's, and ours last. The others are victims to be named."""
    keys = {entry.file: entry.signed_by or "no Signed-By" for entry in found.entries}
    stays = min(keys, key=lambda file: (file != sources.NVIDIA, file == sources.OURS, file))
    for file, key in keys.items():
        if file == stays:
            continue
        # What else a file holds is nobody's to remove.
        alone = file in found.alone
        gone = [file, sources.PINS] if file == sources.OURS and found.pinned else [file]
        yield Assertion(
            f"{name} in {file}: Signed-By",
            "drifted",
            key,
            f"{keys[stays]}, as in {stays}",
            "apt refuses every package while one address has two different Signed-By",
            "" if alone else f"remove the lines of this address from {file}",
            tuple(Step("remove_file", path) for path in gone) if alone else (),
            ("path", file) if alone else (),
        )


# --- the toolkit ----------------------------------------------------------------------------


def _toolkit(wanted: Toolchain, seen: Seen) -> ControlSpec:
    if wanted.source == "apt":
        return _packages(wanted, seen)
    if wanted.source == "wheel":
        return ControlSpec(TOOLKIT, assertions=(_tree(wanted, seen),))
    there = _has_a_toolkit(wanted, seen)
    # What may not be run is there: whether it is any good is said by the others.
    adopted = Assertion(
        f"toolkit {wanted.prefix}",
        "in_sync" if there else "drifted",
        "present" if there else "absent",
        "present",
        "" if there else f"no CUDA tool is in {wanted.prefix}/bin",
        "declare where it is (cuda_toolchain_prefix), or have it installed (cuda_toolchain_source: apt or wheel)",
    )
    return ControlSpec(TOOLKIT, assertions=(adopted,))


def _packages(wanted: Toolchain, seen: Seen) -> ControlSpec:
    """dpkg asks nobody before it overwrites what no package owns."""
    there = any(tool.fault != "missing" for tool in seen.look.tools.values())
    if seen.packaged or not there:
        return ControlSpec(TOOLKIT, packages=wanted.packages)
    name, why = f"toolkit {wanted.prefix}", f"{wanted.prefix} was not made of packages, and they would overwrite it"
    foreign = Assertion(name, "drifted", "of no package", "packages", why, victim=("path", wanted.prefix))
    named = not wanted.confirmed.isdisjoint((wanted.prefix, f"path:{wanted.prefix}"))
    return ControlSpec(TOOLKIT, packages=wanted.packages if named else (), assertions=(foreign,))


def _has_a_toolkit(wanted: Toolchain, seen: Seen) -> bool:
    """Now, or when the steps before are done."""
    return wanted.source != "existing" or any(tool.fault != "missing" for tool in seen.look.tools.values())


def _tree(wanted: Toolchain, seen: Seen) -> Assertion:
    found, name, lock = seen.tree, f"toolkit {wanted.prefix}", f"the wheels of lock {seen.digest}"
    if found is None or isinstance(found, Unknown):
        return Assertion(name, "unknown", "", lock, found.reason if found else "it was not looked at")
    obstacle = found.unsafe or ("" if found.ready else found.obstacle)
    if found.whole(seen.digest) and not found.unsafe:
        return Assertion(name, "in_sync", lock, lock)
    if obstacle:
        fix = "mend that, or declare another prefix (cuda_toolchain_prefix)"
        return Assertion(name, "drifted", _described(found, seen.digest), lock, obstacle, fix)
    steps = []
    if found.kind not in ("absent", "link"):
        steps.append(Step("move_aside", wanted.prefix))
    directory = found.ready or wheel.free_name(wanted.prefix, seen.digest, found)
    if not found.ready:
        steps.append(Step("install_wheels", posixpath.join(posixpath.dirname(wanted.prefix), directory)))
    steps.append(Step("make_link", wanted.prefix, (directory,)))
    foreign = found.kind != "absent" and not wheel.ours(wanted.prefix, found)
    return Assertion(
        name,
        "drifted",
        _described(found, seen.digest),
        lock,
        f"{wanted.prefix} is not of this role" if foreign else "",
        steps=tuple(steps),
        victim=("path", wanted.prefix) if foreign else (),
    )


def _described(found: wheel.Seen, digest: str) -> str:
    if found.kind != "link":
        return found.kind
    if found.manifest is None:
        return f"a link to {found.target}, which no wheels of this role are in"
    if found.manifest.digest != digest:
        return f"the wheels of lock {found.manifest.digest}"
    difference = found.difference
    parts = [
        f"{what}: {', '.join(paths[:3])}{f' and {len(paths) - 3} more' if len(paths) > 3 else ''}"
        for what, paths in (
            ("altered", difference.altered),
            ("missing", difference.missing),
            ("extra", difference.extra),
            ("not root's alone", found.strange),
        )
        if paths
    ]
    return "; ".join(parts)


# --- its tools ------------------------------------------------------------------------------


def _components(wanted: Toolchain, seen: Seen) -> ControlSpec:
    judged: list[Assertion] = []
    mended: set[tuple[Step, ...]] = set()
    for name in wanted.components:
        assertion = _component(wanted, seen, name)
        # One package brings several tools.
        judged.append(replace(assertion, steps=()) if assertion.steps in mended else assertion)
        mended.add(assertion.steps)
    return ControlSpec(COMPONENTS, assertions=tuple(judged))


def _component(wanted: Toolchain, seen: Seen, name: str) -> Assertion:
    tool = seen.look.tools[name]
    package = f"{PACKAGE_OF[name]}{wanted.release.suffix}"
    fixes = {
        "existing": f"install {package} (cuda_toolchain_source: apt), or leave {name} out of cuda_toolchain_components",
        "apt": f"declare {package} in cuda_toolchain_packages",
        "wheel": f"lock the wheel nvidia-{PACKAGE_OF[name]}, or leave {name} out of cuda_toolchain_components",
    }
    # A package that is yet to be installed brings it; one that is there has lost it.
    again = _unpacked_again([package], wanted, seen)
    if tool.fault == "unjudged":
        return Assertion(name, "unknown", "", _release_of(name, wanted), tool.said)
    if not tool.fault and fits(tool, name, wanted):
        return Assertion(name, "in_sync", tool.version, _release_of(name, wanted))
    if tool.fault:
        reason = f"{tool.path}: {tool.said}"
    else:
        reason = f"{tool.path} is of another release than CUDA {wanted.release}"
    return Assertion(
        name, "drifted", tool.fault or tool.version, _release_of(name, wanted), reason, fixes[wanted.source], again
    )


def _unpacked_again(names: Iterable[str], wanted: Toolchain, seen: Seen) -> tuple[Step, ...]:
    """In the version that is there; a hold, which apt drops on the way, is set again."""
    holds = {package.name for package in wanted.packages if package.hold}
    there = {name: seen.installed[name] for name in names if name in seen.installed}
    if not there:
        return ()
    specs = tuple(f"{name}={found.version}" for name, found in there.items())
    held = tuple(name for name, found in there.items() if found.held or name in holds)
    again = Step("install_packages", " ".join(specs), (specs, True))
    return (again, Step("hold_packages", " ".join(held), (held,))) if held else (again,)


def fits(tool: Tool, name: str, wanted: Toolchain) -> bool:
    """Parts of two releases do not build together. Those that only read may be newer."""
    major, _dot, minor = tool.release.partition(".")
    found = (int(major), int(minor))
    release = (wanted.release.major, wanted.release.minor)
    return found == release or (name in READERS and found[0] == release[0] and found > release)


def _release_of(name: str, wanted: Toolchain) -> str:
    return f"CUDA {wanted.release}{' or later' if name in READERS else ''}"


# --- the link, and the proof ----------------------------------------------------------------


def _link(wanted: Toolchain, seen: Seen) -> ControlSpec:
    found, name, to = seen.link, f"link {wanted.link}", f"to {wanted.prefix}"
    takes = links.owned(wanted.link, wanted.prefix)
    if found.problem:
        return ControlSpec(LINK, assertions=(Assertion(name, "unknown", "", to, found.problem, takes=takes),))
    if found.leads_to_prefix:
        return ControlSpec(LINK, assertions=(Assertion(name, "in_sync", to, to, takes=takes),))
    before = found.kind if found.kind != "link" else f"to {found.target}"
    why = "" if _has_a_toolkit(wanted, seen) else "there is no toolkit to lead to"
    if found.homeless:
        why = f"{posixpath.dirname(wanted.link)} does not exist"
    if why:
        return ControlSpec(LINK, assertions=(Assertion(name, "drifted", before, to, why, takes=takes),))
    steps = [Step("point_link", wanted.link, (wanted.prefix,))]
    if found.kind not in ("absent", "link"):
        steps.insert(0, Step("move_aside", wanted.link))
    ours = found.target.startswith(f"{OWN_PLACE}/") or links.owned(wanted.link, found.target) in seen.taken
    foreign = found.kind != "absent" and not ours
    why = f"{wanted.link} was set by a package or an administrator" if foreign else ""
    victim = ("path", wanted.link) if foreign else ()
    made = Assertion(name, "drifted", before, to, why, steps=tuple(steps), victim=victim, takes=takes)
    return ControlSpec(LINK, assertions=(made,))


def _builds(wanted: Toolchain, seen: Seen) -> ControlSpec:
    target, found, proof = wanted.arch.name, seen.look, seen.look.proof
    name = f"a CUDA object for {target}, by {'nvcc' if wanted.compile else 'ptxas'}"
    done = proof.built if wanted.compile else proof.assembled
    if done:
        return ControlSpec(BUILDS, assertions=(Assertion(name, "in_sync", "built", "built"),))
    if found.tools["nvcc"].fault == "unjudged":
        return ControlSpec(BUILDS, assertions=(Assertion(name, "unknown", "", "built", proof.why),))
    waits_for_compiler = wanted.compile and done is None and not found.tools["nvcc"].fault
    if waits_for_compiler:
        alone = "assembles" if proof.assembled else "does not assemble"
        reason = f"{proof.why}; ptxas alone {alone} for {target}"
        return ControlSpec(BUILDS, assertions=(Assertion(name, "unknown", "", "built", reason),))
    fix = f"use a release that knows {target} (sm_121 came with CUDA 12.9), and mend cuda_toolchain/components first"
    again = _unpacked_again(seen.damaged, wanted, seen)
    return ControlSpec(BUILDS, assertions=(Assertion(name, "drifted", "not built", "built", proof.why, fix, again),))
