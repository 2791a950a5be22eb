# SPDX-License-Identifier: GPL-3.0-or-later
"""What a role declares, and what planning it collects.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Change, Step, Value

UNIT_DIRECTORY = "/etc/systemd/system"


@dataclass(frozen=True)
class Unknown:
    """A thing that the node would not show, and why."""

    reason: str


@dataclass(frozen=True)
class Package:
    """``version`` None: any version will do. ``alternatives``: others that do as well, if they are there."""

    name: str
    version: str | None = None
    present: bool = True
    hold: bool = False
    alternatives: tuple[str, ...] = ()


@dataclass(frozen=True)
class Group:
    name: str
    gid: int | None = None
    system: bool = False


@dataclass(frozen=True)
class User:
    """None means: not managed on an existing user, the tool's default on a new one."""

    name: str
    uid: int | None = None
    group: str | None = None
    groups: tuple[str, ...] = ()
    home: str | None = None
    shell: str | None = None
    comment: str | None = None
    system: bool = False


@dataclass(frozen=True)
class Directory:
    path: str
    owner: str = "root"
    group: str = "root"
    mode: int = 0o755


@dataclass(frozen=True)
class File:
    """A file owned whole by one role. Several controls may each declare a fragment of it.

    ``sensitive`` True: never show its lines; False: the role vouches that they can be shown; None:
    hide those of a file that others cannot read, by its mode or that of a folder on its way.
    withdrawn: (line, control) that was in it and must go, by which control: nobody else has added it.
    """

    path: str
    content: str = ""
    owner: str = "root"
    group: str = "root"
    mode: int = 0o644
    present: bool = True
    fragment: bool = False
    sensitive: bool | None = None
    validate: tuple[str, ...] = ()
    withdrawn: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Link:
    path: str
    target: str


@dataclass(frozen=True)
class KernelModule:
    """``loaded``: now and at every boot. Otherwise: never, neither by alias nor by name."""

    name: str
    loaded: bool = True


@dataclass(frozen=True)
class Sysctl:
    name: str
    value: str


@dataclass(frozen=True)
class SysValue:
    """A value below /sys, now and at every boot."""

    path: str
    value: str


@dataclass(frozen=True)
class Mount:
    path: str
    source: str
    fstype: str
    options: tuple[str, ...] = ("defaults",)


@dataclass(frozen=True)
class Unit:
    """None means: not managed. ``restart_on``: files whose change makes a running unit stale.

    ``alternatives``: units that do as well; the one that is there is the one that is judged.
    rollback: when it does not start with changed files of this document, the former ones come back.
    trial: a command that must succeed before it is stopped for that.
    """

    name: str
    alternatives: tuple[str, ...] = ()
    enabled: bool | None = None
    active: bool | None = None
    masked: bool | None = None
    content: str | None = None
    dropins: tuple[tuple[str, str], ...] = ()
    restart_on: tuple[str, ...] = ()
    on_change: str = "restart"
    rollback: bool = False
    trial: tuple[str, ...] = ()


@dataclass(frozen=True)
class Setting:
    """One value in a file that another package or person owns; ``separator`` is for a line that is new."""

    path: str
    name: str
    value: str
    separator: str = " "


@dataclass(frozen=True)
class Probe:
    """What a tool of the node must answer. ``command`` only looks: it is run in check mode, too.

    has: lines of the answer. lacks: patterns of lines (fnmatch), whatever their case.
    separator: characters that end an item as a line end does.
    last: of items that set the same name (before ``=``), the last one counts.
    silent: it must print nothing. mend: what makes it so. otherwise: the reason if nothing does.
    """

    name: str
    command: tuple[str, ...]
    has: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    silent: bool = False
    last: bool = False
    separator: str = ""
    root: bool = True
    mend: tuple[str, ...] = ()
    otherwise: str = ""


@dataclass(frozen=True)
class Assertion:
    """A truth that another module sees: one that cannot be made, or that ``steps`` make.

    steps: of a module that has the document planned and applied together with actions of its own.
    victim: (kind, name) of what they may take away, such as ("path", "/x"); the operator names it first.
    takes: what is the role's when they are begun, in the words of its record.
    awaits: what makes it true outside of this run, such as "a reboot": drifted until then, and no failure.
    blocked_by: the inventory variable, with the value to give it, that allows that.
    refused: with it a run would break half-way, so none is begun.
    """

    name: str
    state: str
    found: str
    wanted: str
    reason: str = ""
    fix: str = ""
    steps: tuple[Step, ...] = ()
    victim: tuple[()] | tuple[str, str] = ()
    takes: str = ""
    awaits: str = ""
    blocked_by: str = ""
    refused: bool = False


@dataclass(frozen=True)
class ControlSpec:
    """One control of the document: everything that must be true for it to be in sync.

    ``inputs``: what was declared, as JSON, where the resources follow from what was found.
    """

    id: str
    packages: tuple[Package, ...] = ()
    groups: tuple[Group, ...] = ()
    users: tuple[User, ...] = ()
    directories: tuple[Directory, ...] = ()
    files: tuple[File, ...] = ()
    links: tuple[Link, ...] = ()
    settings: tuple[Setting, ...] = ()
    kernel_modules: tuple[KernelModule, ...] = ()
    sysctls: tuple[Sysctl, ...] = ()
    sysfs: tuple[SysValue, ...] = ()
    mounts: tuple[Mount, ...] = ()
    probes: tuple[Probe, ...] = ()
    units: tuple[Unit, ...] = ()
    assertions: tuple[Assertion, ...] = ()
    inputs: str = ""

    @property
    def asks_nothing(self) -> bool:
        return self == ControlSpec(self.id, inputs=self.inputs)


@dataclass(frozen=True)
class Document:
    """The declaration of one role.

    confirmed: victims the operator named in ``<role>_confirm``; see World.allows.
    systems: what it is made for, as ID of os-release, or ID and VERSION_ID; empty: any.
    secrets: name → value; contents refer to them as ``${secret:name}``.
    packages_first: those of all controls come before everything else of it.
    extra: there is a verdict on ``<role>/file_extra`` also where no file is declared.
    """

    role: str
    controls: tuple[ControlSpec, ...]
    skipped: frozenset[str] = frozenset()
    confirmed: frozenset[str] = frozenset()
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    install_recommends: bool = False
    packages_first: bool = False
    systems: tuple[str, ...] = ()
    extra: bool = False

    @property
    def file_extra(self) -> str:
        return f"{self.role}/file_extra"

    @property
    def confirm_variable(self) -> str:
        return f"{self.role}_confirm"

    @property
    def selected(self) -> tuple[ControlSpec, ...]:
        return tuple(c for c in self.controls if c.id not in self.skipped)


@dataclass
class Sheet:
    """What planning one control collects; becomes the control's verdict.

    unmet: reasons for which a run fails at its end, whatever the operator allows. victims: (kind, name).
    awaits: what makes the rest of it true outside of this run. blocked: what allows that, as the operator says it.
    """

    control: str
    changes: list[Change] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    victims: list[tuple[str, str]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    unmet: list[str] = field(default_factory=list)
    awaits: list[str] = field(default_factory=list)
    blocked: list[str] = field(default_factory=list)

    def differs(self, key: str, before: Value, after: Value, reason: str = "") -> None:
        self.changes.append(Change(key, before, after, reason))
        if reason and reason not in self.reasons:
            self.reasons.append(reason)

    def will(self, action: str, target: str, *args: Value) -> None:
        self.steps.append(Step(action, target, args, self.control))

    def cannot_see(self, reason: str) -> None:
        self.is_unknown(reason)
        self.unmet.append(reason)

    def is_unknown(self, reason: str) -> None:
        """And not for this role to find out."""
        if reason not in self.unknown:
            self.unknown.append(reason)

    def cannot_mend(self, reason: str) -> None:
        """No step makes it so: a run does the rest, and fails at its end."""
        self.unmet.append(reason)
        if reason not in self.reasons:
            self.reasons.append(reason)

    def refuses(self, key: str, before: Value, after: Value, reason: str) -> None:
        """A difference of which it is certain now that a run would break half-way, so it is not begun."""
        self.differs(key, before, after, f"{reason}: a run stops before its first step")
        self.refusals.append(f"{self.control}: {reason}")
        self.unmet.append(reason)


@dataclass
class World:
    """What the steps planned so far will have made true, so that later ones can rely on it.

    asked: name of each victim → its kinds.
    loading: kernel modules that will be loaded. holders: who will have which number, by ("uid" or
    "gid", number); "" is nobody any more. closed: directories that are declared to let nobody else in.
    taken: paths and accounts ("user:name") that this role has applied before, and files as their
    package brought them.
    """

    confirmed: frozenset[str] = frozenset()
    users: set[str] = field(default_factory=set)
    groups: set[str] = field(default_factory=set)
    directories: set[str] = field(default_factory=set)
    files: set[str] = field(default_factory=set)
    installing: bool = False
    sources_change: bool = False
    lists_fresh: bool = False
    blocked_paths: set[str] = field(default_factory=set)
    closed: frozenset[str] = frozenset()
    taken: frozenset[str] = frozenset()
    loading: list[str] = field(default_factory=list)
    holders: dict[tuple[str, int], str] = field(default_factory=dict)
    assumptions: list[str] = field(default_factory=list)
    asked: dict[str, set[str]] = field(default_factory=dict)

    def allows(self, sheet: Sheet, kind: str, name: str) -> bool:
        """May this step touch something that can lose data, cut access or stop the machine?

        Only if the operator named it. Otherwise the control is drifted and blocked.
        """
        self.asked.setdefault(name, set()).add(kind)
        if confirms(self.confirmed, kind, name):
            return True
        if (kind, name) not in sheet.victims:
            sheet.victims.append((kind, name))
        return False

    def may_take(self, sheet: Sheet, path: str) -> bool:
        """Was it there before this role ever applied it, then it is somebody's who has to be asked."""
        if path in self.taken:
            return True
        reason = f"{path} was there before this role and is not as declared"
        if reason not in sheet.reasons:
            sheet.reasons.append(reason)
        return self.allows(sheet, "path", path)

    def spelled(self, kind: str, name: str) -> str:
        """A victim as it is to be named: with its kind where the name alone would mean two things."""
        return f"{kind}:{name}" if len(self.asked[name]) > 1 else name

    @property
    def unused(self) -> list[str]:
        """What the operator named and no step asked for: done long ago, or misspelt."""
        used = {form for name, kinds in self.asked.items() for form in (name, *(f"{kind}:{name}" for kind in kinds))}
        return sorted(self.confirmed - used)

    @property
    def ambiguous(self) -> dict[str, list[str]]:
        """Names in the operator's list that would allow steps on two kinds of things."""
        return {name: sorted(self.asked[name]) for name in sorted(self.confirmed) if len(self.asked.get(name, ())) > 1}

    def relies(self, sheet: Sheet, sentence: str) -> None:
        """What is planned works only if this is so by then, and nobody can see that now."""
        if sentence not in self.assumptions:
            self.assumptions.append(sentence)
        if f"only if {sentence}" not in sheet.reasons:
            sheet.reasons.append(f"only if {sentence}")


def confirms(confirmed: Container[str], kind: str, name: str) -> bool:
    """``<role>_confirm`` names a victim alone, or with its kind: redis, package:redis."""
    return name in confirmed or f"{kind}:{name}" in confirmed
