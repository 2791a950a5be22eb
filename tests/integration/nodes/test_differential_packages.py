# SPDX-License-Identifier: GPL-3.0-or-later
"""Packages and holds, beside ansible.builtin.apt and ansible.builtin.dpkg_selections."""

from __future__ import annotations

import contextlib
import platform

import apt_repo
import differential
from differential import Case

REPOSITORY = apt_repo.AptRepo("differential")
LATER = apt_repo.AptRepo("differential-later")
P = apt_repo.Package
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
OFFERED = [
    *(P(f"d-{name}") for name in ("absent", "same", "half", "held", "keep", "unheld", "cut", "gone", "stays", "named",
    "two", "torn", "every", "lib", "lib2", "spare")),
    *(P(f"d-{name}", version) for name in ("older", "newer", "pinned", "back", "heldnew", "theirs")
    for version in ("1.0", "2.0")),
    P("d-rc2", files={"/etc/d-rc2.conf": "x\n"}, conffiles=("/etc/d-rc2.conf",)),
    P("d-provider", provides="d-virtual"),
    P("d-old"), P("d-new", conflicts="d-old"),
    P("d-old2"), P("d-new2", conflicts="d-old2"),
    P("d-extra"), P("d-recommends", recommends="d-extra"),
    P("d-first"), P("d-second"),
    P("d-user", depends="d-lib"), P("d-user2", depends="d-lib2"),
]  # fmt: skip


def apt(*names: str, **options: object) -> dict[str, dict[str, object]]:
    return {"ansible.builtin.apt": {"name": [*names], "state": "present", "install_recommends": False, **options}}


def hold(name: str) -> dict[str, dict[str, object]]:
    return {"ansible.builtin.dpkg_selections": {"name": name, "selection": "hold"}}


def look(*names: str) -> str:
    return f"dpkg-query -W -f '${{Package}} ${{Version}} ${{db:Status-Abbrev}}\\n' {' '.join(names)} 2>/dev/null; true"


def case(name: str, *names: str, **options: object) -> Case:
    packages = [n.split("=")[0] for n in names]
    options.setdefault("ours", {"packages": [*names]})
    options.setdefault("stock", [apt(*names, allow_downgrade=any("=" in n for n in names))])
    options.setdefault("look", look(*packages))
    install = options.pop("installed", ())
    prepare = f"apt-get install -qy --no-install-recommends {' '.join(install)}; " if install else ""
    return Case(name=name, prepare=prepare + options.pop("prepare", "true"), **options)


# Each in a run of its own: whatever installs next would mend the first two, and fail on the last.
ALONE = (
    case("unpacked and not configured", "d-half", prepare="dpkg --unpack /srv/apt/differential/d-half_1.0_all.deb"),
    case("its unpacking was interrupted", "d-torn", installed=["d-torn"],
         prepare="sed -i '/^Package: d-torn$/,/^$/s/^Status: .*/Status: install reinstreq half-installed/' "
         "/var/lib/dpkg/status",
         stock_says=("changed", "changed", "changed"), same_end=False, ours_ends="d-torn 1.0 ii",
         truer="Stock reports a change in every run and mends nothing; ours has the package unpacked again."),
    case("dpkg was interrupted", "d-cut",
         prepare="dpkg --unpack /srv/apt/differential/d-cut_1.0_all.deb; dpkg -s d-cut > /var/lib/dpkg/updates/0000",
         stock_says=("changed", "failed", "failed"), same_end=False, ours_ends="d-cut 1.0 ii",
         truer="Stock's check promises a change that its run cannot make; ours finishes what was interrupted."),
)  # fmt: skip

CASES = (
    *ALONE,
    case("not there", "d-absent"),
    case("as declared", "d-same", installed=["d-same"], says="ok"),
    case("any version will do", "d-older", installed=["d-older=1.0"], says="ok"),
    case("an older version is there", "d-newer=2.0", installed=["d-newer=1.0"]),
    case("a newer version is there", "d-pinned=1.0", installed=["d-pinned=2.0"], blocked=True, same_end=False,
         ours_ends="d-pinned 2.0 ii",
         truer="A downgrade can make data unreadable that the newer version has touched: the operator names it first."),
    case("a newer version is there, confirmed", "d-back=1.0", installed=["d-back=2.0"], confirm=("d-back",)),
    case("no repository has it", "d-nobody", ours_says=("changed", "failed", "failed"), state="drifted",
         stock_says=("failed", "failed", "failed"),
         truer="Lists of yesterday may not know it yet: ours says so in check mode, and refreshes them first."),
    case("no repository has that version", "d-older=9.9", installed=["d-older=1.0"],
         ours_says=("changed", "failed", "failed"), state="drifted", stock_says=("failed", "failed", "failed"),
         truer="Lists of yesterday may not know it yet: ours says so in check mode, and refreshes them first."),
    case("for every architecture, and one is named", f"d-every:{ARCHITECTURE}", installed=["d-every"], says="ok",
         look=look("d-every")),
    case("removed but for its configuration", "d-rc2", installed=["d-rc2"], prepare="apt-get remove -qy d-rc2"),
    case("provided by another package", "d-virtual", installed=["d-provider"], says="ok", look=look("d-provider")),
    case("recommendations are left out", "d-recommends", look=look("d-recommends", "d-extra")),
    case("one of two will do, and the second is there", "d-first | d-second", installed=["d-second"], says="ok",
         stock=[apt("d-first")], stock_says=("changed", "changed", "ok"), look=look("d-first", "d-second"),
         same_end=False,
         ours_ends="d-second 1.0 ii",
         truer="Alternatives cannot be declared to stock; what an administrator chose is adopted."),
    case("two controls install in one call", "d-two", "d-named"),
    case("removal, confirmed", "d-gone", installed=["d-gone"], ours={"absent_packages": ["d-gone"]},
         confirm=("d-gone",),
         stock=[apt("d-gone", state="absent")]),
    case("removal of what another one needs, confirmed", "d-lib", installed=["d-user"],
         ours={"absent_packages": ["d-lib"]}, confirm=("d-lib",), blocked=True, same_end=False,
         stock=[apt("d-lib", state="absent")], look=look("d-lib", "d-user"), ours_ends="d-lib 1.0 ii\nd-user 1.0 ii",
         truer="Stock removes the other package as a by-product and mentions it only in its output."),
    case("removal of what another one needs, both confirmed", "d-lib2", installed=["d-user2"],
         ours={"absent_packages": ["d-lib2"]}, confirm=("d-lib2", "d-user2"),
         stock=[apt("d-lib2", state="absent")], look=look("d-lib2", "d-user2")),
    case("removal of what is not there", "d-gone-already", ours={"absent_packages": ["d-gone-already"]}, says="ok",
         stock=[apt("d-gone-already", state="absent")]),
    case("removal", "d-stays", installed=["d-stays"], ours={"absent_packages": ["d-stays"]}, blocked=True,
         same_end=False,
         stock=[apt("d-stays", state="absent")], ours_ends="d-stays 1.0 ii",
         truer="A package that somebody relies on is removed only when the operator names it."),
    case("installing would remove another", "d-new", installed=["d-old"], look=look("d-new", "d-old"), blocked=True,
         same_end=False, ours_ends="d-old 1.0 ii",
         truer="Stock removes the other package as a by-product and mentions it only in its output."),
    case("installing would remove another, confirmed", "d-new2", installed=["d-old2"], look=look("d-new2", "d-old2"),
         confirm=("d-old2",)),
    case("a hold", "d-held", installed=["d-held"], ours={"packages": ["d-held"], "holds": ["d-held"]},
         stock=[hold("d-held")]),
    case("held already", "d-keep", installed=["d-keep"], prepare="apt-mark hold d-keep", says="ok",
         ours={"packages": ["d-keep"], "holds": ["d-keep"]}, stock=[hold("d-keep")]),
    case("a hold where an alternative is there", "d-spare", installed=["d-spare"],
         ours={"packages": ["d-nothing | d-spare"], "holds": ["d-nothing"]}, stock=[hold("d-spare")]),
    case("installed and held in one go", "d-unheld", ours={"packages": ["d-unheld"], "holds": ["d-unheld"]},
         stock=[apt("d-unheld"), hold("d-unheld")], stock_says=("failed", "changed", "ok"),
         truer="Stock cannot hold in check mode what an earlier task would have installed."),
    case("held by somebody at another version", "d-theirs=2.0", installed=["d-theirs=1.0"],
         prepare="apt-mark hold d-theirs",
         stock=[apt("d-theirs=2.0", allow_change_held_packages=True)], blocked=True, same_end=False,
         ours_ends="d-theirs 1.0 hi",
         truer="Stock fails without allow_change_held_packages; with it, it drops the hold of whoever set it."),
    case("held at another version than declared", "d-heldnew=2.0", installed=["d-heldnew=1.0"],
         prepare="apt-mark hold d-heldnew",
         ours={"packages": ["d-heldnew=2.0"], "holds": ["d-heldnew"]},
         stock=[apt("d-heldnew=2.0", allow_change_held_packages=True), hold("d-heldnew")]),
    Case("from a source that the same role adds",
         ours={"files": [{"path": "/etc/apt/sources.list.d/d-later.list", "content": LATER.source}]},
         stock=[{"ansible.builtin.copy": {"dest": "/etc/apt/sources.list.d/d-later.list",
         "content": LATER.source + "\n"}}],
         look="cat /etc/apt/sources.list.d/d-later.list"),
)  # fmt: skip


@contextlib.contextmanager
def repositories(machines):
    REPOSITORY.publish(OFFERED)
    LATER.publish([P("d-later")])
    for machine in machines:
        machine.use(REPOSITORY)
    yield
    REPOSITORY.remove()
    LATER.remove()


outcomes, test_as_stock_or_truer = differential.frame(CASES, alone=ALONE, given=repositories)
