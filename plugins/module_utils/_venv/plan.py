# SPDX-License-Identifier: GPL-3.0-or-later
"""From what was declared and found to verdicts and steps. Pure: no clock, files or processes.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Problem
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import (
    Control,
    Plan,
    State,
    Step,
    one_line,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import Sheet, Unknown
from ansible_collections.nusy.dgx_spark.plugins.module_utils._text.versions import compare_versions
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv import problems
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv.installer import LEAST_PIP
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv.lock import same_version
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv.model import CONTROLS, Declaration, Difference, is_a
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv.observe import Content, Seen

INTERPRETER, PLACE, PACKAGES, FILES, CURRENT, USE, GENERATIONS = CONTROLS
# Of what differs a report shows the first ones and the number of the others.
SHOWN = 20


@dataclass(frozen=True)
class Target:
    """The generation that ``current`` must lead to. ``build``: it is yet to be made."""

    name: str
    packages: Mapping[str, str]
    build: bool = False


@dataclass
class Draft:
    """What judging collects. obstacles: what keeps a run from repairing; victim: what only a name allows."""

    sheets: dict[str, Sheet]
    skipped: frozenset[str] = frozenset()
    obstacles: list[Problem] = field(default_factory=list)
    assumptions: list[str] = field(default_factory=list)
    victim: str = ""

    def cannot(self, control: str, problem: Problem) -> None:
        if control in self.skipped:
            return
        self.obstacles.append(problem)
        reason = one_line(f"{problem.wanted}; found: {problem.found}; to do: {problem.fix}")
        if reason not in self.sheets[control].reasons:
            self.sheets[control].reasons.append(reason)

    @property
    def stuck(self) -> bool:
        return bool(self.obstacles or self.victim)


def judge(wanted: Declaration, seen: Seen) -> Plan:
    draft = Draft({name: Sheet(name) for name in CONTROLS}, wanted.skipped)
    _interpreter(wanted, seen, draft)
    _place(wanted, seen, draft)
    if seen.place.unreadable:
        for name in CONTROLS[1:]:
            draft.sheets[name].cannot_see(seen.place.unreadable)
    target = None if seen.place.unreadable else _target(wanted, seen, draft)
    if seen.current.kind not in ("absent", "link") and not (draft.victim or seen.place.unreadable):
        _taken(wanted.link, is_a(seen.current.kind), wanted, draft, CURRENT)
    if target:
        _contents(wanted, seen, target, draft)
        if target.build:
            _can_build(wanted, seen, draft)
        if not draft.stuck:
            _generations(wanted, seen, target, draft)
    steps = tuple(_steps(wanted, seen, target, draft)) if target and not draft.stuck else ()
    return Plan(
        tuple(_verdict(draft, name, wanted) for name in CONTROLS),
        steps,
        tuple(draft.assumptions),
        _facts(wanted, seen, target, draft),
    )


# --- one control each ---


def _interpreter(wanted: Declaration, seen: Seen, draft: Draft) -> None:
    described = f"cpython {wanted.python} on {wanted.machine or seen.machine}"
    if not seen.interpreter_problem:
        return
    draft.sheets[INTERPRETER].differs(wanted.interpreter, seen.interpreter_problem, described)
    draft.cannot(INTERPRETER, problems.interpreter(wanted, described, seen.interpreter_problem))


def _place(wanted: Declaration, seen: Seen, draft: Draft) -> None:
    sheet, place = draft.sheets[PLACE], seen.place
    if place.missing:
        sheet.differs(wanted.home, "absent", "directory")
    for path in place.missing:
        sheet.will("make_directory", path)
    if seen.uid is None:
        draft.assumptions.append(f"user {wanted.owner} is made by an earlier role")
    if place.not_a_directory:
        sheet.differs(place.not_a_directory, "not a directory", "directory")
        draft.cannot(PLACE, problems.not_a_directory(wanted, place.not_a_directory))
    elif place.untrusted and not (seen.uid is None and place.missing):
        sheet.differs(wanted.root, f"in the hands of {place.untrusted}", f"of {problems.trusted(wanted)}")
        draft.cannot(PLACE, problems.untrusted(wanted, place.untrusted))
    elif place.unwritable:
        sheet.differs(f"room for {wanted.home}", place.unwritable, f"writable for {wanted.owner}")
        draft.cannot(PLACE, problems.unwritable(wanted, place.unwritable))
    if place.open_mode:
        sheet.differs(f"mode of {wanted.home}", place.open_mode, "0755")
        sheet.will("close_directory", wanted.home)
    if place.foreign:
        sheet.differs(wanted.home, place.foreign, f"directory of {wanted.owner} with generations")
        _taken(wanted.home, place.foreign, wanted, draft, PLACE)
        sheet.will("make_directory", wanted.home)


def _taken(path: str, found: str, wanted: Declaration, draft: Draft, control: str) -> None:
    """Something of somebody else: moved aside when it is named, left alone otherwise."""
    sheet = draft.sheets[control]
    if path in wanted.confirmed:
        sheet.will("move_aside", path)
    else:
        draft.victim = path
        sheet.reasons.append(f"{path} {found}: it is moved aside only when it is named")


def _target(wanted: Declaration, seen: Seen, draft: Draft) -> Target | None:
    """None when there is none, or when it cannot be told which one it is."""
    if wanted.generation == "previous":
        return _earlier(wanted, seen, draft)
    digest = wanted.digest(seen.machine)
    same = [name for name, g in seen.generations.items() if g.digest == digest and (g.manifest or g.unreadable)]
    # The one in use first; of the others the latest.
    same.sort(key=lambda name: (name != seen.current.generation, -len(name), name))
    for name in same:
        difference = seen.differences.get(name)
        if isinstance(difference, Unknown):
            draft.sheets[FILES].cannot_see(difference.reason)
            return Target(name, wanted.packages)
        if not difference:
            return Target(name, wanted.packages)
    taken = {*seen.generations, *(name[1 : -len(".work")] for name in seen.works)}
    numbered = (digest if number == 1 else f"{digest}-{number}" for number in range(1, len(taken) + 2))
    return Target(next(name for name in numbered if name not in taken), wanted.packages, build=True)


def _earlier(wanted: Declaration, seen: Seen, draft: Draft) -> Target | None:
    """Of the two that are linked the one that is not of the declared lock: stable when asked twice."""
    declared = wanted.digest(seen.machine)
    for name in (seen.current.generation, seen.previous.generation):
        generation = seen.generations.get(name)
        if generation and generation.unreadable and generation.digest != declared:
            for control in (PACKAGES, FILES, CURRENT):
                draft.sheets[control].cannot_see(generation.unreadable)
            return None
        if generation and generation.manifest and generation.digest != declared:
            difference = seen.differences.get(name)
            if not difference:
                return Target(name, generation.manifest.packages)
            if isinstance(difference, Unknown):
                draft.sheets[FILES].cannot_see(difference.reason)
                return Target(name, generation.manifest.packages)
    draft.sheets[CURRENT].differs(wanted.link, _leads(seen), "an earlier complete generation")
    draft.cannot(CURRENT, problems.no_previous(wanted))
    return None


def _leads(seen: Seen) -> str:
    return seen.current.target if seen.current.kind == "link" else seen.current.kind


def _contents(wanted: Declaration, seen: Seen, target: Target, draft: Draft) -> None:
    """Packages, files, the link and the use of what ``current`` shows, against the target."""
    if isinstance(seen.content, Unknown):
        draft.sheets[PACKAGES].cannot_see(seen.content.reason)
        content = Content(target.packages)
    else:
        content = seen.content
    for name in sorted({*content.packages, *target.packages}):
        before, after = content.packages.get(name, "absent"), target.packages.get(name, "absent")
        if not same_version(before, after):
            draft.sheets[PACKAGES].differs(name, before, after)
    if seen.current.kind.startswith("unknown"):
        draft.sheets[CURRENT].cannot_see(seen.current.kind)
    elif _leads(seen) != target.name and not _only_altered(seen, target):
        draft.sheets[CURRENT].differs(wanted.link, _leads(seen), target.name)
    _files(seen, content, draft)
    _use(wanted, seen, target, draft)


def _only_altered(seen: Seen, target: Target) -> bool:
    """The link is right, what it leads to is not: told as that, and not as a wrong link, too."""
    digest = target.name.partition("-")[0]
    return target.build and seen.current.generation.partition("-")[0] == digest


def _files(seen: Seen, content: Content, draft: Draft) -> None:
    sheet = draft.sheets[FILES]
    difference = seen.differences.get(seen.shown)
    if isinstance(difference, Unknown):
        sheet.cannot_see(difference.reason)
    elif difference is None:
        sheet.differs("files", "never verified" if content.packages else "absent", "as installed")
    else:
        # Files of a distribution that nobody declared are told as one package, not one by one.
        extra = [path for path in difference.extra if path not in content.foreign_files]
        told = [
            *((path, "altered", "as installed") for path in difference.altered),
            *((path, "missing", "as installed") for path in difference.missing),
            *((path, "extra", "absent") for path in extra),
        ]
        for path, before, after in told[:SHOWN]:
            sheet.differs(path, before, after)
        if told[SHOWN:]:
            sheet.differs("further files", str(len(told) - SHOWN), "0")


def _use(wanted: Declaration, seen: Seen, target: Target, draft: Draft) -> None:
    findings = seen.used.problems
    if wanted.generation == "previous" and seen.shown != target.name:
        findings = ()  # what the declared lock promises says nothing about an earlier one
    for finding in findings:
        if finding.unseen:
            draft.sheets[USE].cannot_see(f"{finding.key}: {finding.found}")
        else:
            draft.sheets[USE].differs(finding.key, finding.found, finding.wanted)
    findings = tuple(finding for finding in findings if not finding.unseen)
    if findings and not target.build and seen.shown == target.name:
        draft.cannot(USE, problems.of_no_use(findings))


def _can_build(wanted: Declaration, seen: Seen, draft: Draft) -> None:
    control = next((name for name in (PACKAGES, FILES) if draft.sheets[name].changes), CURRENT)
    if not seen.wheelhouse:
        draft.cannot(control, problems.no_wheelhouse(wanted))
    if seen.tool is None:
        # An earlier role may yet install it; the run looks again before its first step.
        draft.assumptions.append(f"package python{wanted.python}-venv (python3-venv) is installed by an earlier role")
    elif seen.tool.kind == "pip" and seen.interpreter and compare_versions(seen.interpreter.pip, LEAST_PIP) < 0:
        draft.cannot(control, problems.no_installer(wanted, f"brings pip {seen.interpreter.pip}"))
    size = _size(wanted, seen)
    free = seen.place.free_mib
    if free is not None and GENERATIONS not in wanted.skipped:
        free += seen.left_mib  # goes before anything is built
    if free is not None and size and free < 2 * size:
        draft.cannot(control, problems.disk_full(wanted, size, free))


def _size(wanted: Declaration, seen: Seen) -> int:
    """MiB of a generation: as declared, or as large as the largest that is there."""
    known = [g.manifest.size >> 20 for g in seen.generations.values() if g.manifest]
    return wanted.size_mib or max(known, default=0)


# --- steps ---


def _steps(wanted: Declaration, seen: Seen, target: Target, draft: Draft) -> list[Step]:
    """Places, the new generation beside what is in use, the link, and only then what it replaces."""
    sheets = draft.sheets
    building = next((name for name in (PACKAGES, FILES, CURRENT) if sheets[name].changes), CURRENT)
    linking = CURRENT if sheets[CURRENT].changes else building
    steps = list(sheets[PLACE].steps)
    # What runs that were cut off have left takes the room of two; but not from under a link.
    linked = (seen.current.generation, seen.previous.generation)
    left = [s for s in sheets[GENERATIONS].steps if s.target not in linked and _is_left(seen, s.target)]
    steps += left
    if target.build:
        steps.append(Step("create_environment", target.name, (), building))
        steps += [Step("install_stage", stage.name, (target.name,), building) for stage in wanted.stages]
        steps += [Step("complete", target.name, (), building), Step("prove", target.name, (), building)]
    if _leads(seen) != target.name:
        steps += sheets[CURRENT].steps  # something of somebody else is moved aside
        if old := _worth_keeping(seen, target):
            steps.append(Step("set_previous", wanted.previous, (old,), linking))
        steps.append(Step("switch", wanted.link, (target.name,), linking))
        if _only_altered(seen, target) and not isinstance(seen.busy, Unknown) and not _user(seen, draft):
            steps.append(Step("remove_generation", seen.current.generation, (), linking))
    steps += [step for step in sheets[GENERATIONS].steps if step not in left]
    if target.build and wanted.skipped & {building, linking}:
        steps = [step for step in steps if step.control in (PLACE, GENERATIONS)]
    return [step for step in steps if step.control not in wanted.skipped]


def _is_left(seen: Seen, name: str) -> bool:
    return name not in seen.generations or seen.generations[name].incomplete


def _user(seen: Seen, draft: Draft) -> str:
    """Who uses the altered generation that is to be replaced."""
    users = {} if isinstance(seen.busy, Unknown) else seen.busy
    user = users.get(seen.current.generation, "")
    if user:
        draft.sheets[GENERATIONS].reasons.append(f"{seen.current.generation} (altered) is kept while {user} uses it")
    return user


def _worth_keeping(seen: Seen, target: Target) -> str:
    """What ``current`` leads to, if one could go back to it and ``previous`` does not name it yet."""
    old = seen.generations.get(seen.current.generation)
    if not (old and old.manifest) or seen.differences.get(old.name):
        return ""
    return old.name if old.digest != target.name.partition("-")[0] and seen.previous.target != old.name else ""


def _generations(wanted: Declaration, seen: Seen, target: Target, draft: Draft) -> None:
    """What is neither in use nor kept goes, unless a process still needs it."""
    sheet = draft.sheets[GENERATIONS]
    kept = {target.name, _worth_keeping(seen, target) or seen.previous.generation}
    if _only_altered(seen, target):
        kept.add(seen.current.generation)  # goes with what makes it superfluous
    for name in (*seen.generations, *seen.works):
        if name in kept:
            continue
        generation = seen.generations.get(name)
        kind = "superseded" if generation and generation.manifest else "incomplete"
        if generation and generation.unreadable:
            sheet.cannot_see(f"whether {name} is complete: {generation.unreadable}")
        elif isinstance(seen.busy, Unknown):
            sheet.cannot_see(f"whether a process uses {name} ({kind}): {seen.busy.reason}")
        elif user := seen.busy.get(name):
            sheet.reasons.append(f"{name} ({kind}) is kept while {user} uses it")
        else:
            # The run looks for processes again right before it removes anything.
            sheet.differs(name, kind, "absent")
            sheet.will("remove_generation", name)


# --- the result ---


def _verdict(draft: Draft, name: str, wanted: Declaration) -> Control:
    if name in wanted.skipped:
        return Control(name, "not_selected", reason="named in vllm_venv_skip_controls")
    sheet = draft.sheets[name]
    state: State = "drifted" if sheet.changes else "unknown" if sheet.unknown else "in_sync"
    blocked = f"vllm_venv_confirm: [{draft.victim}]" if draft.victim and state == "drifted" else ""
    reason = one_line("; ".join([*sheet.reasons, *sheet.unknown]), 500)
    return Control(name, state, tuple(sheet.changes), reason, blocked)


def _facts(wanted: Declaration, seen: Seen, target: Target | None, draft: Draft) -> dict[str, object]:
    current = seen.differences.get(seen.shown)
    shown = seen.generations.get(seen.shown)
    manifest = shown.manifest if shown else None
    packages = {} if isinstance(seen.content, Unknown) else dict(seen.content.packages)
    return {
        "venv": {
            "path": wanted.link,
            "generation": seen.current.generation,
            "previous": seen.previous.generation,
            "wanted": target.name if target else "",
            "intact": not current if isinstance(current, Difference) else None,
            "packages": packages,
            "misrecorded": list(manifest.misrecorded) if manifest else [],
            "size_mib": _size(wanted, seen),
            "machine": seen.machine,
            "installer": {"kind": seen.tool.kind, "path": seen.tool.path} if seen.tool else {},
        },
        "cuda": dict(seen.cuda),
        "obstacles": [problem.as_dict("node") for problem in draft.obstacles],
    }
