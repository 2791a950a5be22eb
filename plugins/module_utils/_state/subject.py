# SPDX-License-Identifier: GPL-3.0-or-later
"""One role's document as a subject of ``_core.entry``: look at everything, plan everything
together, apply in order.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from functools import partial
from typing import cast

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import Action, Ensuring, carry_out
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError, NodeError, doing
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.inputs import nearest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import (
    Control,
    Plan,
    State,
    Step,
    one_line,
    unique,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader, Writer
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import (
    accounts,
    claims,
    files,
    installing,
    kernel,
    look,
    mounts,
    packages,
    parse,
    paths,
    probes,
    record,
    settings,
    starts,
    sysfs,
    systems,
    units,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import (
    ControlSpec,
    Document,
    Sheet,
    World,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.wholes import assemble

NOTHING = "nothing is declared for it"
TAKES = ("write_file", "set_attributes", "make_directory", "make_link")
WRITES = ("write_file", "change_setting", "remove_file", "make_link", "move_aside")


class EnsureState:
    """The whole declaration of a role, which is why a real run of it may leave the applied record.

    Raises InputError when two of its controls contradict each other.

    actions: what the steps of the document's assertions do, for a module that composes its own.
    """

    def __init__(self, document: Document, actions: Mapping[str, Action] | None = None) -> None:
        claims.check(document.selected, document.role)
        self.document = document
        self.record = document.role
        self._own = actions or {}
        self._unfit = ""
        self.title = f"role {document.role}"
        self._units = [unit for control in document.selected for unit in control.units]
        self._files = {control.id: claims.files_of(control, document.role) for control in document.selected}
        self._directories = {d.path: d for control in document.selected for d in control.directories}
        self._wholes = assemble(
            ((control, file) for control, owned in self._files.items() for file in owned),
            (file for c in document.controls if c.id in document.skipped for file in claims.files_of(c, document.role)),
            keeps=document.file_extra in document.skipped,
        )
        self._mended: dict[tuple[str, ...], str] = {}
        self._together = packages.transactions(document, self._files)
        self._started = starts.Units(document.role, self._units, frozenset(self._wholes))

    def _owned(self, taken: Container[str]) -> dict[str, tuple[str, ...]]:
        """What each control declares to be there, skipped ones too. What an assertion found there is not its own."""
        return {
            control.id: (
                *(d.path for d in control.directories),
                *(f.path for f in claims.files_of(control, self.document.role) if f.present),
                *(link.path for link in control.links),
                *(accounts.owned(user.name) for user in control.users),
                *(a.takes for a in control.assertions if a.takes in taken),
            )
            for control in self.document.controls
        }

    # --- planning ---

    def plan(self, reader: Reader) -> Plan:
        self._unfit = systems.unfit(self.document.systems, reader)
        if self._unfit:
            return Plan(tuple(self._not_looked_at(self._unfit)))
        return self.judge(look.observe(reader, self.document, self._wholes, self._together))

    def _not_looked_at(self, why: str) -> Iterator[Control]:
        document = self.document
        extra = [document.file_extra] if self._wholes or document.extra else []
        for name in (*(control.id for control in document.controls), *extra):
            skipped = name in document.skipped
            reason = f"named in {document.role}_skip_controls" if skipped else why
            yield Control(name, "not_selected" if skipped else "unknown", reason=reason)

    def judge(self, seen: look.Seen) -> Plan:
        """Pure: from what was declared and what was found to verdicts and steps."""
        document = self.document
        world = World(
            document.confirmed,
            users={name for kind, name in seen.accounts.owners if kind == "user"},
            groups={name for kind, name in seen.accounts.owners if kind == "group"},
            taken=seen.record.taken | seen.pristine,
            closed=frozenset(d.path for d in self._directories.values() if not d.mode & 0o001),
        )
        sheets = {control.id: Sheet(control.id) for control in document.selected}
        extra = Sheet(document.file_extra)
        planned: set[str] = set()
        before: list[Step] = []
        if document.packages_first:
            for control in document.selected:
                packages.plan(control.packages, seen.packages, world, sheets[control.id])
            for sheet in sheets.values():
                before += sheet.steps
                sheet.steps = []
        for control in document.selected:
            self._judge_control(control, seen, world, sheets, extra, planned)
        # Units last: a file of a later control may be what makes one restart.
        changing = {s.target for sheet in (*sheets.values(), extra) for s in sheet.steps if s.action in WRITES}
        ending: list[Step] = []
        for control in document.selected:
            for unit in control.units:
                ending += units.plan(unit, seen.units, world, sheets[control.id], changing=changing)
        for sheet in (*sheets.values(), extra):
            for _kind, victim in sheet.victims:
                meant = nearest(victim, world.unused)
                if meant:
                    sheet.reasons.append(f"{document.confirm_variable} has {meant}: is {victim} meant?")
        _clear(world, document.confirm_variable)
        steps = packages.joined(
            (*before, *(s for sheet in (*sheets.values(), extra) for s in sheet.steps)), self._together
        )
        steps += _once(ending)
        controls = [self._verdict(control, sheets.get(control.id), seen.record, world) for control in document.controls]
        if document.file_extra in document.skipped:
            controls.append(self._verdict(ControlSpec(extra.control), None, seen.record, world))
        elif self._wholes:
            controls.append(self._verdict(ControlSpec(extra.control), extra, seen.record, world))
        elif document.extra:
            controls.append(Control(extra.control, "not_selected", reason=NOTHING))
        refused = [reason for sheet in sheets.values() for reason in sheet.refusals]
        told = {"refused": refused, "unused_confirm": world.unused}
        facts = {name: found for name, found in told.items() if found}
        return Plan(tuple(controls), _collapsed(steps), tuple(world.assumptions), facts)

    def _judge_control(
        self,
        control: ControlSpec,
        seen: look.Seen,
        world: World,
        sheets: dict[str, Sheet],
        extra: Sheet,
        planned: set[str],
    ) -> None:
        """The order inside a control is the order things depend on each other. Units follow."""
        sheet = sheets[control.id]
        if not self.document.packages_first:
            packages.plan(control.packages, seen.packages, world, sheet)
        for group in control.groups:
            accounts.plan_group(group, seen.accounts, world, sheet)
        for user in control.users:
            accounts.plan_user(user, seen.accounts, world, sheet)
        for directory in control.directories:
            paths.plan_directory(directory, seen.paths, world, sheet)
        for file in self._files[control.id]:
            if file.path not in planned:
                planned.add(file.path)
                whole = self._wholes[file.path]
                files.plan_file(whole, seen.paths, world, sheets, extra, self.document.secrets)
                if file.path.startswith("/etc/apt/") and _writes(file.path, (*sheets.values(), extra)):
                    world.sources_change, world.lists_fresh = True, False
        for link in control.links:
            paths.plan_link(link, seen.paths, world, sheet)
        for setting in control.settings:
            settings.plan(setting, seen.settings, world, sheet)
        for module in control.kernel_modules:
            kernel.plan_module(module, seen.kernel, world, sheet)
        for sysctl in control.sysctls:
            kernel.plan_sysctl(sysctl, seen.kernel, world, sheet)
        for value in control.sysfs:
            sysfs.plan(value, seen.sysfs, sheet)
        for mount in control.mounts:
            if paths.plan_mount_point(mount.path, seen.paths, world, sheet):
                mounts.plan(mount, self._directories.get(mount.path), seen.mounts, world, sheet)
        for probe in control.probes:
            probes.plan(probe, seen.probes, world, sheet, self._mended)
        for assertion in control.assertions:
            if assertion.state == "drifted" and assertion.refused:
                sheet.refuses(assertion.name, assertion.found, assertion.wanted, assertion.reason)
            elif assertion.state == "drifted":
                sheet.differs(assertion.name, assertion.found, assertion.wanted, assertion.reason)
                if assertion.victim and not world.allows(sheet, *assertion.victim):
                    continue
                for step in assertion.steps:
                    sheet.will(step.action, step.target, *step.args)
                if assertion.awaits:
                    sheet.awaits.append(assertion.awaits)
                    sheet.blocked += [assertion.blocked_by] if assertion.blocked_by else []
                elif not assertion.steps and not assertion.victim:
                    sheet.unmet.append(assertion.reason or f"{assertion.name} is not as declared")
            elif assertion.state == "unknown":
                sheet.is_unknown(assertion.reason or f"{assertion.name} could not be judged")

    def _verdict(self, control: ControlSpec, sheet: Sheet | None, last: record.Record, world: World) -> Control:
        if sheet is None:
            return Control(control.id, "not_selected", reason=f"named in {self.document.role}_skip_controls")
        if control.asks_nothing and control.id in self._files:
            # Nothing was looked at, so nothing is fine.
            return Control(control.id, "not_selected", reason=NOTHING)
        victims = ", ".join(world.spelled(kind, name) for kind, name in sheet.victims)
        named = [f"{self.document.confirm_variable}: [{victims}]"] if victims else []
        blocked_by = "; ".join(unique([*named, *sheet.blocked]))
        state: State = "drifted" if sheet.changes else "unknown" if sheet.unknown else "in_sync"
        cause = last.cause(control, self.document, state, blocked=bool(blocked_by))
        doubt = [f"who moved cannot be told: {last.distrust}"] if state == "drifted" and last.distrust else []
        reason = one_line("; ".join([*sheet.reasons, *sheet.unknown, *doubt]), 500)
        # What waits for the operator is no failure of the run. What else differs, or cannot be seen, is.
        waits = bool(victims or sheet.awaits)
        rest = [reason or "see its before and after"] if state == "drifted" and not waits else []
        return Control(control.id, state, tuple(sheet.changes), reason, blocked_by, cause, tuple(sheet.unmet or rest))

    # --- applying ---

    def apply(self, plan: Plan, reader: Reader, writer: Writer) -> None:
        if "refused" in plan.facts:
            raise NodeError(
                "state.refused",
                wanted=f"{self.title} applied ({len(plan.steps)} steps)",
                found="; ".join(cast("list[str]", plan.facts["refused"])),
                why="the steps that rely on these would fail after others were done; nothing was changed",
                fix="correct the declaration, or what is in its way on the node, and run the play again",
            )
        # What runs now, before any of its files changes: a run that is killed leaves its restarts to the next.
        with doing(f"a note of what the units of {self.title} run with"):
            starts.remember(reader, writer, self._started)
        with doing(f"a record of what {self.title} takes"):
            taken = {step.target for step in plan.steps if step.action in TAKES}
            taken |= {accounts.owned(step.target) for step in plan.steps if step.action == "add_user"}
            taken |= self._begun(plan)
            record.take(self.document, record.read(reader, self.document.role), taken, reader, writer)
        carry_out(plan.steps, self._actions(), reader, writer)
        started = unique(step.target for step in plan.steps if step.action in ("start_unit", "restart_unit"))
        # One that can go back has been proven at once.
        starts.survived([name for name in started if not self._started.undoable(name)], writer)

    def _begun(self, plan: Plan) -> set[str]:
        planned = {(step.action, step.target) for step in plan.steps}
        assertions = (a for control in self.document.selected for a in control.assertions if a.takes)
        return {a.takes for a in assertions if planned & {(step.action, step.target) for step in a.steps}}

    def _actions(self) -> Mapping[str, Action]:
        """Every effect by its name. Some depend on what the whole document says."""
        document = self.document
        confirmed = document.confirmed
        return {
            "repair_dpkg": installing.repair_dpkg,
            "refresh_lists": installing.refresh_lists,
            "install_packages": partial(
                installing.install_packages, recommends=document.install_recommends, confirmed=confirmed
            ),
            "remove_packages": partial(installing.remove_packages, confirmed=confirmed),
            "hold_packages": installing.hold_packages,
            "add_group": accounts.add_group,
            "set_gid": accounts.set_gid,
            "add_user": accounts.add_user,
            "modify_user": accounts.modify_user,
            "join_groups": accounts.join_groups,
            "make_directory": paths.make_directory,
            "make_parent": paths.make_parent,
            "set_attributes": paths.set_attributes,
            "make_link": paths.make_link,
            "move_aside": paths.move_aside,
            "write_file": partial(files.write_file, wholes=self._wholes, secrets=document.secrets),
            "remove_file": files.remove_file,
            "change_setting": settings.change,
            "mend": partial(probes.mend, said=self._mended),
            "set_sysctl": kernel.set_sysctl,
            "set_sysfs": sysfs.set_value,
            "comment_out": kernel.comment_out,
            "load_module": kernel.load_module,
            "unload_module": kernel.unload_module,
            "write_fstab": mounts.write_fstab,
            "mount": mounts.mount,
            "unmount": mounts.unmount,
            "remount": mounts.remount,
            "own_root": partial(mounts.own_root, confirmed=confirmed),
            "reload_manager": starts.reload_manager,
            **dict.fromkeys(units.VERBS, starts.change),
            **dict.fromkeys(units.STARTS, partial(starts.start, units=self._started)),
            **self._own,
        }

    def settle(self, left: Plan, reader: Reader, writer: Writer) -> None:
        """After a real run: leave notes and the record, then say what could not be ensured."""
        if self._unfit:
            raise systems.cannot_have(self.title, self._unfit)
        if reader.is_root():
            with doing(f"a note of what the units of {self.title} run with"):
                starts.remember(reader, writer, self._started)
        open_ends = [control for control in left.controls if control.unmet]
        if not open_ends and reader.is_root():
            with doing(f"a record of what was applied for {self.title}"):
                last = record.read(reader, self.document.role)
                record.write(self.document, last, left.controls, self._owned(last.taken), reader, writer)
        if open_ends:
            of = {control.id for control in open_ends}
            failed = (a for c in self.document.controls if c.id in of for a in c.assertions)
            fixes = {a.fix for a in failed if a.state == "drifted" and a.fix}
            raise NodeError(
                "state.not_ensured",
                wanted=f"{self.title} as declared",
                found="; ".join(f"{c.id} is {c.state}: {'; '.join(unique(c.unmet))}" for c in open_ends),
                why="this role cannot make these true by itself; everything else of it is applied",
                fix="; ".join(sorted(fixes)) or "mend the reasons named, then run the play again",
            )


def _clear(world: World, variable: str) -> None:
    """Raises InputError for a name that was meant for one thing, and would allow steps on another one, too."""
    for name, kinds in world.ambiguous.items():
        forms = [f"{kind}:{name}" for kind in kinds]
        raise InputError(
            "state.ambiguous_confirm",
            wanted=f"{variable}: names of one thing each",
            found=f"{name} is {' and '.join(f'a {kind}' for kind in kinds)} that steps would touch",
            why="whoever means one of them would lose the other, too",
            fix=f"write {' or '.join(forms)} (or all of them) in place of {name}",
        )


def _collapsed(steps: list[Step]) -> tuple[Step, ...]:
    """Neighbours that do the same once. Equal steps further apart are there for a reason."""
    kept: list[Step] = []
    for step in steps:
        if not kept or (kept[-1].action, kept[-1].target, kept[-1].args) != (step.action, step.target, step.args):
            kept.append(step)
    return tuple(kept)


def _once(ending: list[Step]) -> list[Step]:
    """One restart of a unit, whoever asks for it; it does what a reload would."""
    verbs: dict[str, Step] = {}
    for step in ending:
        if step.target not in verbs or step.action == "restart_unit":
            verbs[step.target] = step
    return list(verbs.values())


def _writes(path: str, sheets: tuple[Sheet, ...]) -> bool:
    return any(step.target == path and step.action in WRITES for s in sheets for step in s.steps)


MODULE = Ensuring("ensure_state", parse.ARGUMENT_SPEC, lambda params: EnsureState(parse.document(params)))
