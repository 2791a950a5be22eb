# SPDX-License-Identifier: GPL-3.0-or-later
"""Directories, beside ansible.builtin.file."""

from __future__ import annotations

import differential
from differential import Case

ROOT = "/srv/d-directories"


def ours(name: str, **options: str) -> dict[str, object]:
    return {"directories": [{"path": f"{ROOT}/{name}", **options}]}


def stock(name: str, **options: str) -> list[dict[str, dict[str, object]]]:
    attributes = {"owner": "root", "group": "root", "mode": "0755", **options}
    return [{"ansible.builtin.file": {"path": f"{ROOT}/{name}", "state": "directory", **attributes}}]


def look(name: str) -> str:
    return f"cd {ROOT} && find {name.split('/')[0]}* -printf '%p %y %U:%G %m\\n' | sort"


def case(name: str, **options: object) -> Case:
    given = options.pop("attributes", {})
    return Case(
        name=name,
        ours=ours(options["at"], **given),
        stock=stock(options["at"], **given),
        look=look(options.pop("at")),
        prepare=f"mkdir -p {ROOT}; cd {ROOT}; {options.pop('prepare', 'true')}",
        **options,
    )


CASES = (
    case("not there", at="absent"),
    case("as declared", at="same", prepare="mkdir -m 755 same", says="ok"),
    case("another mode", at="mode", prepare="mkdir -m 777 mode"),
    case("set-group and sticky bits", at="bits", prepare="mkdir bits", attributes={"mode": "3770"}),
    case("another group", at="group", prepare="mkdir group; chgrp 12 group"),
    case("another owner and empty", at="owner", prepare="mkdir owner; chown 12 owner"),
    case("another owner and not empty, confirmed", at="taken", prepare="mkdir taken; touch taken/x; chown 12 taken",
         confirm=(f"{ROOT}/taken",)),
    case("another owner and not empty", at="foreign", prepare="mkdir foreign; touch foreign/x; chown 12 foreign",
         blocked=True, same_end=False, ours_ends="foreign d 12:0 755\nforeign/x f 0:0 644",
         truer="Somebody's directory with content is taken over only when the operator names it."),
    case("another mode and not empty", at="sticky", prepare="mkdir -m 1777 sticky; touch sticky/x", blocked=True,
         same_end=False, ours_ends="sticky d 0:0 1777\nsticky/x f 0:0 644",
         truer="So is its mode: a role that is given /tmp by mistake leaves it as it is."),
    case("another mode and not empty, confirmed", at="named", prepare="mkdir -m 1777 named; touch named/x",
         confirm=(f"{ROOT}/named",)),
    case("missing parents", at="parent/child/leaf", attributes={"mode": "0700", "group": "daemon"}, same_end=False,
         ours_ends="parent d 0:0 755\nparent/child d 0:0 755\nparent/child/leaf d 0:1 700",
         truer="Stock gives the owner and mode of the leaf to parents it had to make: a 0700 leaf makes a "
         "parent that nobody else can pass. Ours makes undeclared parents root:root 0755 and reports them."),
    case("a link to a directory", at="link", prepare="mkdir link.real; ln -s link.real link", says="ok"),
    case("a link to a directory of another mode", at="links",
         prepare="mkdir -m 777 links.real; ln -s links.real links"),
    case("a file in its place", at="file", prepare="echo precious > file", blocked=True,
         stock_says=("failed", "failed", "failed"),
         truer="Stock fails the host. Ours reports the control as blocked and ensures the rest."),
    case("a file in its place, confirmed", at="moved", prepare="echo precious > moved", confirm=(f"{ROOT}/moved",),
         stock_says=("failed", "failed", "failed"), same_end=False,
         ours_ends="moved d 0:0 755\nmoved.replaced.1 f 0:0 644",
         truer="What was in the way is moved aside, never deleted."),
    Case("an owner made by the same role",
         ours={"groups": [{"name": "d-dirs"}], "users": [{"name": "d-dirs", "group": "d-dirs", "uid": 4801,
         "home": "/srv"}],
               **ours("owned", owner="d-dirs", group="d-dirs")},
         stock=[{"ansible.builtin.group": {"name": "d-dirs"}},
                {"ansible.builtin.user": {"name": "d-dirs", "group": "d-dirs", "uid": 4801, "home": "/srv",
                                          "create_home": False}},
                *stock("owned", owner="d-dirs", group="d-dirs")],
         prepare=f"mkdir -p {ROOT}/owned",
         look=f"stat -c '%n %U:%G %a' {ROOT}/owned; getent passwd d-dirs | cut -d: -f1,3",
         stock_says=("failed", "changed", "ok"),
         truer="Stock cannot look up an account in check mode that an earlier task would have made."),
)  # fmt: skip


outcomes, test_as_stock_or_truer = differential.frame(CASES)
