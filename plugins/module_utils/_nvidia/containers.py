# SPDX-License-Identifier: GPL-3.0-or-later
"""The controls of what gives containers the GPU: toolkit, CDI, Docker. Pure but for its two actions.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import re

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Step
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader, Writer
from ansible_collections.nusy.dgx_spark.plugins.module_utils._nvidia import docker
from ansible_collections.nusy.dgx_spark.plugins.module_utils._nvidia.declare import (
    bad_choices,
    declared,
    installing,
    unknown,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._nvidia.model import (
    CDI,
    CDI_BY_HAND,
    CDI_ENVIRONMENT,
    CDI_PATH,
    CDI_SERVICE,
    DAEMON_JSON,
    DGX,
    DOCKER,
    DOCKER_SERVICE,
    FLAGS_VARIABLE,
    GROUP,
    LEGACY,
    NEEDS_PODMAN_5_1,
    OCI_HOOK,
    PODMAN,
    PODMAN_FLAG,
    PODMAN_READS_IT,
    REFRESHES_SINCE,
    TOOLKIT,
    TOOLKIT_PACKAGES,
    Seen,
    Wanted,
    upstream,
    within,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import (
    Assertion,
    ControlSpec,
    Package,
    Unit,
    Unknown,
    User,
)

REFRESH = Step("refresh_cdi", CDI_SERVICE)


def toolkit(wanted: Wanted, seen: Seen) -> ControlSpec:
    found = {name: seen.installed[name] for name in TOOLKIT_PACKAGES if name in seen.installed}
    refused = bad_choices(wanted, "container_toolkit", upstream(wanted.version)) if wanted.version else ()
    if refused:
        return declared(ControlSpec(TOOLKIT, assertions=refused), wanted.version)
    if seen.system != DGX:
        # Not apart: which of two versions is right nobody can tell but who declares one.
        packages = tuple(Package(name, wanted.version or None) for name in TOOLKIT_PACKAGES)
        truths = () if wanted.version else _one_version(found)
        return declared(ControlSpec(TOOLKIT, packages=packages, assertions=truths), wanted.version)
    named, asked = installing(wanted, seen, TOOLKIT_PACKAGES, "DGX OS without its container toolkit")
    return declared(
        ControlSpec(TOOLKIT, packages=tuple(named), assertions=(*asked, *_one_version(found))), wanted.version
    )


def _one_version(found: dict[str, str]) -> tuple[Assertion, ...]:
    if not found:
        return ()
    name, versions = "version of the toolkit", sorted(set(found.values()))
    if len(versions) == 1:
        return (Assertion(name, "in_sync", versions[0], "one"),)
    each = ", ".join(f"{package} {version}" for package, version in found.items())
    why = "since 1.18 the four packages of the toolkit only work at one version"
    fix = f"apt-get install {' '.join(f'{name}=<version>' for name in found)}, or declare nvidia_toolkit_version"
    return (Assertion(name, "drifted", each, "one", why, fix),)


def cdi(wanted: Wanted, seen: Seen) -> ControlSpec:
    """The units of the toolkit write the specification; one made by hand beside it goes stale at the next update."""
    base = seen.installed.get("nvidia-container-toolkit-base", "")
    truths: list[Assertion] = []
    if seen.by_hand:
        why = f"it was made by hand, and says something else than {CDI_SERVICE} after the next driver"
        step = Step("remove_file", CDI_BY_HAND)
        truths.append(
            Assertion(CDI_BY_HAND, "drifted", "present", "absent", why, steps=(step,), victim=("path", CDI_BY_HAND))
        )
    if not base or not within(base, REFRESHES_SINCE):
        why = f"nvidia-container-toolkit-base {upstream(base) or 'is absent'}: {REFRESHES_SINCE} has the units"
        if base:
            truths.append(Assertion(CDI_PATH, "drifted", "absent", "active", why, "upgrade the container toolkit"))
        else:
            truths.append(Assertion(CDI_PATH, "unknown", "", "active", why))
        return ControlSpec(CDI, assertions=tuple(truths))
    lost = [name for name in (CDI_PATH, CDI_SERVICE) if name not in seen.units]
    for name in lost:
        why = f"systemd does not know {name}"
        fix = "apt-get install --reinstall nvidia-container-toolkit-base"
        truths.append(Assertion(name, "drifted", "absent", "enabled", why, fix))
    units = (Unit(CDI_PATH, enabled=True, active=True), Unit(CDI_SERVICE, enabled=True))
    if not lost:
        truths += specification(wanted, seen, REFRESH, there=seen.generated) or _stale(seen)
    return ControlSpec(CDI, units=() if lost else units, assertions=tuple(truths))


def _stale(seen: Seen) -> tuple[Assertion, ...]:
    """It was generated once, and the last time it could not be: of a driver that is no more."""
    if CDI_SERVICE not in seen.failed or not seen.loaded:
        return ()
    why = f"the last run of {CDI_SERVICE} failed, so what it wrote before may be of another driver"
    return (Assertion(CDI_SERVICE, "drifted", "failed", "success", why, steps=(REFRESH,)),)


def specification(wanted: Wanted, seen: Seen, step: Step, *, there: bool) -> tuple[Assertion, ...]:
    if there or not (seen.loaded or seen.gpus or wanted.expected):
        return ()
    name, why = "CDI specification", "no specification was generated: containers find no nvidia.com/gpu"
    if seen.loaded:
        return (Assertion(name, "drifted", "absent", "generated", why, steps=(step,)),)
    why = f"{why}; it is generated as soon as the driver is in the kernel"
    return (Assertion(name, "drifted", "absent", "generated", why, awaits="the driver in the kernel"),)


def podman_needs_flag(seen: Seen) -> bool:
    podman, base = (seen.installed.get(name, "") for name in ("podman", "nvidia-container-toolkit-base"))
    return bool(podman) and not within(podman, PODMAN_READS_IT) and within(base, NEEDS_PODMAN_5_1)


def _old_hook(seen: Seen) -> tuple[Assertion, ...]:
    if not seen.oci_hook:
        return ()
    why = "Podman takes the GPU by CDI, and NVIDIA has this hook removed beside it"
    step, victim = Step("remove_file", OCI_HOOK), ("path", OCI_HOOK)
    return (Assertion(OCI_HOOK, "drifted", "present", "absent", why, steps=(step,), victim=victim),)


def podman(seen: Seen) -> ControlSpec:
    name = FLAGS_VARIABLE
    if isinstance(seen.environment, Unknown):
        return unknown(PODMAN, name, seen.environment.reason)
    given = seen.environment.get(name, "")
    flags = [flag for flag in given.split(",") if flag]
    hook = _old_hook(seen)
    if not podman_needs_flag(seen) or PODMAN_FLAG in flags:
        return ControlSpec(PODMAN, assertions=(Assertion(name, "in_sync", given, given), *hook))
    value = ",".join([*flags, PODMAN_FLAG])
    why = f"podman {upstream(seen.installed['podman'])} cannot read the specification that this toolkit writes"
    steps = (
        Step("set_cdi_variable", CDI_ENVIRONMENT, (name, value)),
        # Where nothing can be generated yet, what is generated first has it.
        *((REFRESH,) if CDI_SERVICE in seen.units and (seen.loaded or seen.generated) else ()),
    )
    flag = Assertion(name, "drifted", given or "unset", value, why, steps=steps)
    return ControlSpec(PODMAN, assertions=(flag, *hook))


def set_variable(step: Step, reader: Reader, writer: Writer) -> None:
    """One line of the toolkit's own file; the others stay."""
    name, value = (str(argument) for argument in step.args)
    text = reader.read(step.target) or ""
    rest = re.sub(rf"(?m)^[ \t]*{re.escape(name)}=.*\n?", "", text)
    rest += "" if not rest or rest.endswith("\n") else "\n"
    folder = step.target.rpartition("/")[0]
    if reader.stat(folder) is None:
        writer.mkdir(folder, mode=0o755, uid=0, gid=0)
    writer.write(step.target, f'{rest}{name}="{value}"\n', mode=0o644, uid=0, gid=0)


def docker_runtime(seen: Seen) -> ControlSpec:
    found = seen.docker
    if found.problem:
        return unknown(DOCKER, DAEMON_JSON, found.problem)
    if seen.system == DGX and not (found.daemon_json or "").strip():
        # NVIDIA's own system gives containers the GPU without this file.
        return ControlSpec(DOCKER, assertions=(Assertion(DAEMON_JSON, "in_sync", "adopted", "adopted"),))
    try:
        right = docker.merged(found.daemon_json) == (found.daemon_json or "")
    except ValueError as error:
        why = f"{DAEMON_JSON} is no JSON ({error}): Docker does not start with it"
        fix = f"mend it by hand (python3 -m json.tool {DAEMON_JSON})"
        return ControlSpec(DOCKER, assertions=(Assertion(DAEMON_JSON, "drifted", "broken", "JSON", why, fix),))
    if seen.system == DGX:
        right = True
    file = Assertion(
        f"{DAEMON_JSON}: runtimes.nvidia, features.cdi",
        "in_sync" if right else "drifted",
        "present" if right else "absent",
        "present",
        steps=(Step("merge_daemon_json", DAEMON_JSON),),
    )
    return ControlSpec(DOCKER, assertions=(file, *_running_daemon(seen)))


def _running_daemon(seen: Seen) -> tuple[Assertion, ...]:
    """It read its file when it was started; a restart ends every container."""
    found = seen.docker
    if found.live is None or "nvidia" in found.live or seen.system == DGX:
        return ()
    why = f"a restart ends {found.containers} running container{'s' if found.containers != 1 else ''}"
    return (
        Assertion(
            f"{DOCKER_SERVICE}: runtime nvidia",
            "drifted",
            "not known to the daemon that runs",
            "known",
            why if found.containers else "",
            steps=(Step("restart_docker", DOCKER_SERVICE),),
            victim=("unit", DOCKER_SERVICE) if found.containers else (),
        ),
    )


def docker_legacy(seen: Seen) -> ControlSpec:
    found = seen.docker
    if found.problem or not found.active:
        return unknown(LEGACY, "containers", found.problem or f"{DOCKER_SERVICE} does not run")
    why = "systemd does not know of their GPU: the next daemon-reload takes it away"
    fix = "make them anew with --device nvidia.com/gpu=all"
    truths = tuple(Assertion(f"container {name}", "drifted", "legacy", "CDI", why, fix) for name in found.legacy)
    return ControlSpec(LEGACY, assertions=truths or (Assertion("containers", "in_sync", "none", "none"),))


def docker_group(wanted: Wanted, seen: Seen) -> ControlSpec:
    members = tuple(User(name, groups=("docker",)) for name in wanted.docker_users if name in seen.accounts)
    absent = tuple(
        Assertion(f"user {name}", "drifted", "absent", "in group docker", f"there is no account {name}",
                  "make the account first, or take it out of nvidia_toolkit_docker_users")
        for name in wanted.docker_users if name not in seen.accounts
    )  # fmt: skip
    return ControlSpec(GROUP, users=members, assertions=absent)
