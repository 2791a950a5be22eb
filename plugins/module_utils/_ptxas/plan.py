# SPDX-License-Identifier: GPL-3.0-or-later
"""From what was seen to a verdict. Pure: no clock, no files, no processes.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import one_line
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda.tools import FAULTS, Arch
from ansible_collections.nusy.dgx_spark.plugins.module_utils._ptxas.model import (
    Compiled,
    Effect,
    Observation,
    Ptxas,
    Setting,
    Triton,
    Verdict,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._ptxas.rules import Rules, cuda_for, rules_for, settable

MAX_EXPLANATION = 600


@dataclass(frozen=True)
class Current:
    """What a variable does that is set now."""

    setting: Setting
    effect: Effect
    reason: str

    def as_dict(self) -> dict[str, object]:
        return {
            "path": self.setting.path,
            "source": self.setting.source,
            "effect": self.effect,
            "reason": one_line(self.reason),
        }


@dataclass(frozen=True)
class Judgement:
    """works_now: whether Triton builds with the variables as they are; None: cannot be told."""

    verdict: Verdict
    explanation: str
    chosen: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    unset: tuple[str, ...] = ()
    current: tuple[Current, ...] = ()
    works_now: bool | None = False
    assumptions: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, object]:
        return {
            "verdict": self.verdict,
            "explanation": one_line(self.explanation, MAX_EXPLANATION),
            "chosen": self.chosen,
            "environment": dict(self.environment),
            "unset": list(self.unset),
            "current": {item.setting.name: item.as_dict() for item in self.current},
            "works_now": self.works_now,
            "assumptions": list(self.assumptions),
        }


def judge(seen: Observation, arch: Arch) -> Judgement:
    triton = seen.triton
    if triton is None:
        return Judgement("no_triton", f"Nothing to judge: {seen.why_no_triton}.")
    rules, assumption = rules_for(triton.version)
    variable = rules.variable(arch)
    own = next((tool for tool in seen.ptxas if tool.kind == rules.kind(arch)), None)
    usable = [tool for tool in seen.ptxas if tool.kind == "candidate" and _usable(tool, rules)]
    current = tuple(_current(setting, triton, rules, arch, seen.ptxas) for setting in seen.settings)
    active = next((item for item in current if item.setting.name == variable), None)
    harmful = active is not None and active.effect in ("breaks", "unpredictable")
    own_builds = own is not None and _usable(own, rules)

    forced = usable[0] if usable and settable(variable) and not own_builds else None
    environment = {variable: forced.path} if forced else {}
    chosen = forced
    if own_builds:
        in_force = active.setting.path if active and active.effect == "used" else ""
        chosen = next((tool for tool in seen.ptxas if tool.path == in_force), own)
    verdict: Verdict
    if own_builds:
        # A variable that breaks what would work: `environment` (empty) is what should be set.
        verdict = "forced_ok" if harmful else "ok"
    elif forced:
        verdict = "forced_ok"
    elif any(tool.version for tool in seen.ptxas):
        verdict = "unrepairable"
    else:
        verdict = "no_ptxas"
    in_force_now = next((tool for tool in seen.ptxas if active and tool.path == active.setting.path), None)
    _must_be_judged([own, in_force_now] if own_builds or forced else [own, in_force_now, *seen.ptxas], arch)
    sentence = _own(triton, own, arch, own_builds)
    if forced:
        sentence += f"; with {variable}={forced.path} (CUDA {forced.version}) it can"
    elif not own_builds:
        sentence += f": {_no_way_out(triton, rules, arch, seen.ptxas)}"
    elif not active or active.effect == "ignored":
        sentence += ", nothing needs to be set"
    sentence += _about(active, environment, own_builds)
    return Judgement(
        verdict=verdict,
        explanation=f"{sentence}{f' ({assumption})' if assumption else ''}.",
        chosen=chosen.path if chosen else "",
        environment=environment,
        unset=(variable,) if harmful and not environment else (),
        current=current,
        works_now=_works_now(active, own_builds),
        assumptions=(assumption,) if assumption else (),
    )


def _must_be_judged(tools: Sequence[Ptxas | None], arch: Arch) -> None:
    """No verdict may rest on a ptxas that was not run: it might build, and it might not."""
    for tool in tools:
        if tool is not None and tool.fault == "unjudged":
            raise NodeError(
                "ptxas.not_run",
                wanted=f"to run {tool.path}, on which it depends whether Triton builds for {arch.name}",
                found=tool.stderr,
                why="what was not run may build or not, and root runs a program as the one user who decides what it is",
                fix="let root, or one user, own every folder, link and file on the way, and nobody else write there",
            )


def confirm(judgement: Judgement, compiled: Compiled) -> Judgement:
    """A real compile has the last word on the verdict that was reasoned out."""
    good = judgement.verdict in ("ok", "forced_ok")
    if judgement.verdict == "no_triton" or compiled.ok == good:
        return judgement
    if compiled.ok:
        text = "A real compile worked although the rules say otherwise"
        return replace(
            judgement,
            verdict="ok",
            explanation=f"{text}: {judgement.explanation}",
            works_now=judgement.works_now if judgement.unset else True,
        )
    last = compiled.stderr.strip().splitlines()[-1:] or ["it printed nothing"]
    text = f"A real compile failed ({one_line(last[0], 200)})"
    return replace(
        judgement,
        verdict="unrepairable",
        explanation=f"{text} although ptxas itself assembles: {judgement.explanation}",
        environment={},
        chosen="",
        works_now=False,
    )


def compile_environment(judgement: Judgement) -> dict[str, str]:
    """The variables as they should be: what is advised, and what may stay."""
    kept = {
        item.setting.name: item.setting.path for item in judgement.current if item.setting.name not in judgement.unset
    }
    return {**kept, **judgement.environment}


def _usable(tool: Ptxas, rules: Rules) -> bool:
    return tool.assembles and tool.version is not None and rules.accepts(tool.version)


def _works_now(active: Current | None, own_builds: bool) -> bool | None:
    if active is None or active.effect == "ignored":
        return own_builds
    return {"used": True, "breaks": False}.get(active.effect)


def _current(setting: Setting, triton: Triton, rules: Rules, arch: Arch, ptxas: Sequence[Ptxas]) -> Current:
    if setting.name != rules.variable(arch):
        return Current(
            setting,
            "ignored",
            f"for {arch.name} Triton {triton.version.short} reads {rules.variable(arch)} only",
        )
    tool = next((tool for tool in ptxas if tool.path == setting.path), None)
    if tool is None:
        how = "is not an absolute path" if setting.path else "is empty"
        return Current(setting, "unpredictable", f"it {how}: what runs depends on working directory and PATH")
    if tool.fault:
        ignored = tool.fault in rules.ignores
        then = "Triton takes its own without a word" if ignored else "every compile ends in an error"
        return Current(setting, "ignored" if ignored else "breaks", f"{FAULTS[tool.fault]}, so {then}")
    if tool.version is not None and not rules.accepts(tool.version):
        return Current(
            setting, "breaks", f"{_limit(triton, rules)} and this is {tool.version}, so it fails for every GPU"
        )
    if not tool.assembles:
        return Current(setting, "breaks", f"CUDA {tool.version} cannot build for {arch.name}: {_first(tool.stderr)}")
    return Current(setting, "used", f"CUDA {tool.version} builds for {arch.name}")


def _own(triton: Triton, own: Ptxas | None, arch: Arch, builds: bool) -> str:
    if own is None:
        return f"Triton {triton.text} comes without a ptxas of its own for {arch.name}"
    name = "ptxas-blackwell" if own.kind == "vendored_blackwell" else "ptxas"
    cuda = f" (CUDA {own.version})" if own.version else ""
    return f"Triton {triton.text} {'builds' if builds else 'cannot build'} for {arch.name} with its own {name}{cuda}"


def _no_way_out(triton: Triton, rules: Rules, arch: Arch, ptxas: Sequence[Ptxas]) -> str:
    needed = cuda_for(rules.target(arch))
    from_cuda = f"CUDA {needed} or later" if needed else "a newer CUDA"
    if not any(tool.version for tool in ptxas):
        return f"no ptxas that runs was found among {len(ptxas)} looked at, install {from_cuda}"
    variable = rules.variable(arch)
    if not settable(variable):
        return (
            f"this release reads {variable} only, a name that neither systemd nor a shell can set, "
            "so upgrade Triton to 3.5 or later"
        )
    able = next((tool for tool in ptxas if tool.assembles), None)
    if able is None:
        return f"no ptxas found can, it takes {from_cuda}"
    if rules.cuda_below and needed and tuple(map(int, needed.split("."))) >= rules.cuda_below:
        return f"{_limit(triton, rules)} while {arch.name} takes {from_cuda}, so no ptxas helps: upgrade Triton"
    return (
        f"{_limit(triton, rules)}, so {able.path} (CUDA {able.version}) must not be forced: "
        f"install a ptxas from CUDA {needed or '?'} to below that, or upgrade Triton"
    )


def _limit(triton: Triton, rules: Rules) -> str:
    below = ".".join(map(str, rules.cuda_below or ()))
    return f"Triton {triton.version.short} takes a ptxas from below CUDA {below} only"


def _about(active: Current | None, environment: Mapping[str, str], builds: bool) -> str:
    """What the variable does that is set now, when a reader must know."""
    if active is None:
        return ""
    setting = active.setting
    if environment.get(setting.name) == setting.path:
        return ", as is set already"
    shown = f"{setting.name}={setting.path} from {setting.source}"
    if active.effect in ("breaks", "unpredictable"):
        harm = "breaks it" if active.effect == "breaks" else "makes that unpredictable"
        cure = "replace it" if environment else "remove it"
        joined = ", but now" if environment or builds else "; moreover"
        return f"{joined} {shown} {harm} ({active.reason}): {cure}"
    if active.effect == "used":
        return f", and {shown} is in force and works"
    return f", and {shown} has no effect ({active.reason})"


def _first(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[0].strip() if lines else "it says nothing"
