# SPDX-License-Identifier: GPL-3.0-or-later
"""The tuning of a kernel as a subject of ``_core.entry``.

What only a boot brings is judged by the running command line. Until then it is drifted, and waits for the reboot
that the role makes when the host is named.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import Ensuring
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Step, one_line, unique
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader, Writer
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import systems
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.compose import Composed, Look
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import (
    Assertion,
    ControlSpec,
    File,
    KernelModule,
    Sysctl,
    SysValue,
    Unknown,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._tuning import look, model
from ansible_collections.nusy.dgx_spark.plugins.module_utils._tuning.model import Boot, Found, Tuning
from ansible_collections.nusy.dgx_spark.plugins.module_utils._tuning.parse import ARGUMENT_SPEC, tuning
from ansible_collections.nusy.dgx_spark.plugins.module_utils._versions.judge import parameters_for

HEADLESS = "multi-user.target"
UNIFIED = "systemd.unified_cgroup_hierarchy=1"
# update-grub asks every disk for other systems.
TOOL_SECONDS = 300.0


def ensure_tuning(params: Mapping[str, Any]) -> Composed:
    """Raises InputError."""
    wanted = tuning(params)

    def see(reader: Reader) -> Look:
        problem = systems.unfit(systems.SUPPORTED, reader)
        if problem:
            return Look(unsupported=problem)
        return composed(wanted, look.found(wanted, reader))

    return Composed(model.ROLE, model.CONTROLS, params, see)


def composed(wanted: Tuning, found: Found) -> Look:
    """Pure: the document that follows from what was declared and what was found."""
    left_out: dict[str, str] = {}
    spared = {name: found.route[name.replace("-", "_")] for name in wanted.killed_modules if _carries(name, found)}
    wanted = replace(wanted, killed_modules=tuple(name for name in wanted.killed_modules if name not in spared))
    words = command_lines(wanted, found.boot, left_out)
    ours = found.boot.ours or ()
    # What somebody else's file puts into every entry of the menu is adopted.
    adopted = {word for word in found.boot.others - set(ours) if _offered(found.boot, word)}
    owned = {name: [word for word in some if word not in adopted] for name, some in words.items()}
    stale = found.boot.stale or set(ours) != {word for some in owned.values() for word in some}
    files = {name: (_dropin(name, some),) for name, some in owned.items() if some}
    if found.boot.ours is not None and not files:
        # Ours stays, without a word: a file that is gone could not tell that the menu was made with it.
        files[model.PARAMETERS] = (_dropin(model.PARAMETERS, ()),)
        words.setdefault(model.PARAMETERS, ())
    if spared:
        words.setdefault(model.PARAMETERS, ())
        left_out.pop(model.PARAMETERS, None)
    controls = [_booted(name, some, files.get(name, ()), stale, wanted, found.boot) for name, some in words.items()]
    controls = [_sparing(control, spared) if control.id == model.PARAMETERS else control for control in controls]
    for control in (
        _thp(wanted, found, left_out),
        _sysctl(wanted, left_out),
        _memlock(wanted, found, left_out),
        _cppc(wanted, found, left_out),
        _headless(wanted, found, left_out),
        _modules(wanted, found, left_out),
        _watchdog(wanted, found, left_out),
    ):
        controls += [control] if control else []
    waits = [word for some in words.values() for word in some if word not in found.boot.running]
    return Look(
        tuple(controls),
        {"update_grub": update_grub, "reexecute_manager": reexecute, "set_target": set_target, "stop_desktop": stop},
        {"reboot_needed": [] if found.boot.problem or found.boot.gate else waits},
        left_out,
    )


# --- the command line ----------------------------------------------------------------------


def command_lines(wanted: Tuning, boot: Boot, left_out: dict[str, str]) -> dict[str, tuple[str, ...]]:
    """Words of each control that has some. The others say why not."""
    words: dict[str, tuple[str, ...]] = {}
    needed = unique(word for kernel in boot.kernels for word in _needed(wanted, kernel))
    if boot.crash_bytes and model.NO_HANDOVER in needed:
        needed = tuple(word for word in needed if word != model.NO_HANDOVER)
        left_out[model.MATRIX] = (
            f"{model.NO_HANDOVER} is needed, but memory is reserved for a crash kernel: "
            "drop crashkernel=, or name it in kernel_tuning_parameters"
        )
    else:
        left_out[model.MATRIX] = "no kernel of this node needs it" if wanted.matrix else "kernel_tuning_matrix is false"
    if needed:
        words[model.MATRIX] = needed
    words[model.CGROUP] = () if boot.unified and UNIFIED not in (boot.ours or ()) else (UNIFIED,)
    if wanted.command_line:
        words[model.PARAMETERS] = wanted.command_line
    else:
        left_out[model.PARAMETERS] = "nothing is declared for it"
    return words


def _carries(name: str, found: Found) -> bool:
    return name.replace("-", "_") in found.route


def _sparing(control: ControlSpec, spared: Mapping[str, str]) -> ControlSpec:
    """A boot without the driver that carries the default route is one that nobody reaches."""
    fix = f"take {', '.join(spared)} out of kernel_tuning_killed_modules, or give the node another way first"
    kept = (
        Assertion(
            f"kernel module {name}", "drifted", "allowed", "killed", f"{name} carries the default route ({by})", fix
        )
        for name, by in spared.items()
    )
    return replace(control, assertions=(*control.assertions, *kept))


def _needed(wanted: Tuning, kernel: str) -> tuple[str, ...]:
    try:
        return parameters_for(wanted.matrix, kernel)
    except ValueError:  # a kernel of nobody's numbering
        return ()


def _offered(boot: Boot, word: str) -> bool:
    """By every entry of the menu: which one will be chosen is not known."""
    return bool(boot.menu) and all(word in line for line in boot.menu)


def _booted(
    name: str, words: Sequence[str], files: tuple[File, ...], stale: bool, wanted: Tuning, boot: Boot
) -> ControlSpec:
    running = [_running(word, wanted, boot) for word in words]
    if name == model.CGROUP and not words:
        running = [Assertion("cgroup v2", "in_sync", "the only hierarchy", "the only hierarchy")]
    declared = json.dumps(words)
    if boot.problem or not (words or files):
        return ControlSpec(name, assertions=tuple(running), inputs=declared)
    offered = not stale and all(_offered(boot, word) for word in words)
    return ControlSpec(
        name, files=files, assertions=(_menu("in_sync" if offered else "drifted"), *running), inputs=declared
    )


def _menu(state: str) -> Assertion:
    found = "made of what is declared" if state == "in_sync" else "made of something else"
    return Assertion(look.MENU, state, found, "made of what is declared", steps=(Step("update_grub", look.MENU),))


def _dropin(name: str, owned: Sequence[str]) -> File:
    return File(model.DROPIN, f'# {name}\nGRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX {" ".join(owned)}"\n', fragment=True)


def _running(word: str, wanted: Tuning, boot: Boot) -> Assertion:
    name = f"{word} in /proc/cmdline"
    if word in boot.running:
        return Assertion(name, "in_sync", "there", "there")
    if boot.problem:
        return Assertion(name, "unknown", "absent", "there", f"{word} is not in force, and {boot.problem}")
    if wanted.rebooted:
        reason = f"{word} is not in force although this run rebooted the node"
        return Assertion(name, "drifted", "absent", "there", reason, fix=f"look which entry of {look.MENU} is booted")
    by = "" if wanted.reboot_named else f"spark_reboot_confirm: [{wanted.host}]"
    reason = f"{word} is in force after a reboot{f', but {boot.gate}' if boot.gate else ''}"
    if boot.gate and wanted.reboot_named:
        fix = "do not reboot: install what the next boot lacks, then run the play again"
        return Assertion(name, "drifted", "absent", "there", reason, fix)
    return Assertion(name, "drifted", "absent", "there", reason, awaits="a reboot", blocked_by=by)


# --- values ----------------------------------------------------------------------------------


def _thp(wanted: Tuning, found: Found, left_out: dict[str, str]) -> ControlSpec | None:
    values = [("enabled", wanted.thp), ("defrag", wanted.thp_defrag)]
    if not found.thp or not (wanted.thp or wanted.thp_defrag):
        left_out[model.THP] = "left as it is" if found.thp else "this kernel has no transparent huge pages"
        return None
    return ControlSpec(model.THP, sysfs=tuple(SysValue(f"{look.THP}/{name}", value) for name, value in values if value))


def _sysctl(wanted: Tuning, left_out: dict[str, str]) -> ControlSpec | None:
    if not wanted.sysctls:
        left_out[model.SYSCTL] = "nothing is declared for it"
        return None
    return ControlSpec(model.SYSCTL, sysctls=tuple(Sysctl(name, value) for name, value in wanted.sysctls))


def _memlock(wanted: Tuning, found: Found, left_out: dict[str, str]) -> ControlSpec | None:
    if not wanted.memlock:
        left_out[model.MEMLOCK] = "kernel_tuning_memlock is false"
        return None
    limits = "# Role kernel_tuning: RDMA and CUDA pin memory.\n* - memlock unlimited\nroot - memlock unlimited\n"
    return ControlSpec(
        model.MEMLOCK,
        files=(File(model.LIMITS, limits), _manager_file("memlock", f"{model.MEMLOCK_LIMIT}=infinity")),
        assertions=(_property("DefaultLimitMEMLOCK", model.INFINITE, model.MEMLOCK_LIMIT, found),),
    )


def _watchdog(wanted: Tuning, found: Found, left_out: dict[str, str]) -> ControlSpec | None:
    if not wanted.watchdog_seconds or not found.watchdogs:
        off = "kernel_tuning_watchdog_seconds is 0"
        left_out[model.WATCHDOG] = "this node has no hardware watchdog" if wanted.watchdog_seconds else off
        return None
    return ControlSpec(
        model.WATCHDOG,
        files=(_manager_file("watchdog", f"{model.WATCHDOG_TIME}={wanted.watchdog_seconds}"),),
        assertions=(
            _property("RuntimeWatchdogUSec", str(wanted.watchdog_seconds * 10**6), model.WATCHDOG_TIME, found),
        ),
    )


def _manager_file(name: str, line: str) -> File:
    return File(f"{model.MANAGER}/{model.MANAGER_FILE.format(name)}", f"# Role kernel_tuning\n[Manager]\n{line}\n")


def _property(name: str, value: str, setting: str, found: Found) -> Assertion:
    """What systemd goes by: a later file, or a device that counts otherwise, shows here and nowhere else."""
    if isinstance(found.manager, Unknown):
        return Assertion(name, "unknown", "", value, found.manager.reason)
    live = found.manager.get(name, "")
    if live == value:
        return Assertion(name, "in_sync", live, value)
    later = found.later.get(setting)
    if later:
        # Whoever wrote it wanted it: it is not taken away, and reading everything again would change nothing.
        files = ", ".join(later)
        return Assertion(name, "drifted", live, value, f"{files} sets {setting}", f"take {setting} out of {files}")
    return Assertion(name, "drifted", live, value, steps=(Step("reexecute_manager", "systemd"),))


def _cppc(wanted: Tuning, found: Found, left_out: dict[str, str]) -> ControlSpec | None:
    if not wanted.cppc or not found.cppc:
        left_out[model.CPPC] = (
            "no processor here selects by itself (CPPC)" if wanted.cppc else "kernel_tuning_cppc is false"
        )
        return None
    fix = "install nvidia-cppc-cpufreq-options (DGX OS ships it) and reboot"
    return ControlSpec(
        model.CPPC,
        assertions=tuple(
            Assertion(place, "in_sync" if value in ("1", "Y") else "drifted", value, "1", f"{place} is {value}", fix)
            for place, value in sorted(found.cppc.items())
        ),
    )


def _headless(wanted: Tuning, found: Found, left_out: dict[str, str]) -> ControlSpec | None:
    if not wanted.headless:
        left_out[model.HEADLESS] = "kernel_tuning_headless is false"
        return None
    victim = ("desktop", found.desktop) if found.desktop else ()
    reason = f"{found.desktop} runs: whoever sits there loses the session" if found.desktop else ""
    assertions = []
    if isinstance(found.target, Unknown):
        assertions.append(Assertion("default target", "unknown", "", HEADLESS, found.target.reason))
    else:
        state = "in_sync" if found.target == HEADLESS else "drifted"
        step = Step("set_target", HEADLESS)
        assertions.append(Assertion("default target", state, found.target, HEADLESS, reason, "", (step,), victim))
    if found.desktop:
        step = Step("stop_desktop", found.desktop)
        assertions.append(Assertion("desktop", "drifted", found.desktop, "none", reason, "", (step,), victim))
    return ControlSpec(model.HEADLESS, assertions=tuple(assertions))


def _modules(wanted: Tuning, found: Found, left_out: dict[str, str]) -> ControlSpec | None:
    """Never the driver that carries the default route, nor one whose replacement is missing."""
    modules, assertions, spared = [], [], []
    for name in wanted.barred_modules:
        plain = name.replace("-", "_")
        other = model.REPLACED_BY.get(plain, "")
        if _carries(name, found):
            spared.append(f"{name} carries the default route ({found.route[plain]})")
        elif other and other not in found.present:
            spared.append(f"{other}, which replaces {name}, is not there")
        elif plain in found.barred:
            by = f"barred by {found.barred[plain]}"
            assertions.append(Assertion(f"kernel module {name}", "in_sync", by, by))
        else:
            modules.append(KernelModule(name, loaded=False))
    if not modules and not assertions:
        left_out[model.MODULES] = "; ".join(spared) or "nothing is declared for it"
        return None
    return ControlSpec(model.MODULES, kernel_modules=tuple(modules), assertions=tuple(assertions))


# --- doing -----------------------------------------------------------------------------------


def update_grub(_step: Step, _reader: Reader, writer: Writer) -> None:
    _run([look.UPDATE_GRUB], writer, "the next boot would go on without what is declared")


def reexecute(_step: Step, _reader: Reader, writer: Writer) -> None:
    """Nothing less makes systemd read its own configuration; services run on."""
    _run([look.SYSTEMCTL, "daemon-reexec"], writer, "systemd goes by its old configuration until the next boot")


def set_target(step: Step, _reader: Reader, writer: Writer) -> None:
    _run([look.SYSTEMCTL, "set-default", step.target], writer, "the next boot would start the desktop")


def stop(step: Step, _reader: Reader, writer: Writer) -> None:
    _run([look.SYSTEMCTL, "stop", step.target], writer, "the desktop keeps its memory")


def _run(argv: Sequence[str], writer: Writer, why: str) -> None:
    done = writer.run(argv, timeout=TOOL_SECONDS)
    if not done.ok:
        raise NodeError(
            "tuning.tool_failed",
            wanted=f"{' '.join(argv)} to succeed",
            found=f"it {done.ending}: {one_line(done.said())}",
            why=why,
            fix="run that command by hand on the node, then run the play again",
        )


MODULE = Ensuring("kernel_tuning", ARGUMENT_SPEC, ensure_tuning)
