# SPDX-License-Identifier: GPL-3.0-or-later
"""Symbolic links, beside ansible.builtin.file."""

from __future__ import annotations

import differential
from differential import Case

ROOT = "/srv/d-links"


def case(name: str, *, at: str, target: str = "releases/2", force: bool = True, **options: object) -> Case:
    link = {"path": f"{ROOT}/{at}", "state": "link", "src": target, "force": force}
    return Case(
        name=name,
        ours={"links": [{"path": f"{ROOT}/{at}", "target": target}]},
        stock=[{"ansible.builtin.file": link}],
        look=f"cd {ROOT} && find {at.split('/')[0]}* -printf '%p %y %l\\n' | sort",
        prepare=f"mkdir -p {ROOT}/releases/2; cd {ROOT}; {options.pop('prepare', 'true')}",
        **options,
    )


CASES = (
    case("not there", at="absent"),
    case("as declared", at="same", prepare="ln -s releases/2 same", says="ok"),
    case("to another target, confirmed", at="other", prepare="ln -s releases/1 other", confirm=(f"{ROOT}/other",)),
    case("to another target", at="theirs", prepare="ln -s releases/1 theirs", blocked=True, same_end=False,
         ours_ends="theirs l releases/1",
         truer="A link that the role did not set is somebody's: it is set only when the operator names it."),
    case("to a target that is not there", at="dangling", target="nowhere"),
    case("to an absolute target", at="absolute", target="/usr/bin/true"),
    case("the target in another spelling", at="spelling", prepare="ln -s ./releases/2 spelling",
         confirm=(f"{ROOT}/spelling",)),
    case("to a target that is not there yet, without force", at="early", target="nowhere", force=False,
         stock_says=("failed", "failed", "failed"), same_end=False, ours_ends="early l nowhere",
         truer="Stock needs force for a target that a later step makes, and force also deletes what is in the way."),
    case("a file in its place", at="file", prepare="echo precious > file", blocked=True, same_end=False,
         ours_ends="file f", truer="With force, stock deletes the file. Ours waits until the operator names it."),
    case("a file in its place, confirmed", at="moved", prepare="echo precious > moved", confirm=(f"{ROOT}/moved",),
         same_end=False, ours_ends="moved l releases/2\nmoved.replaced.1 f",
         truer="What was in the way is moved aside, never deleted."),
    case("an empty directory in its place", at="empty", prepare="mkdir empty", blocked=True, same_end=False,
         ours_ends="empty d", truer="As for a file: what is in the way is named by the operator first."),
    case("a directory with content in its place", at="full", prepare="mkdir full; touch full/precious", blocked=True,
         stock_says=("failed", "failed", "failed"),
         truer="Stock fails the host. Ours reports the control as blocked and ensures the rest."),
    case("its directory is missing", at="made/here/link", stock_says=("changed", "failed", "failed"), same_end=False,
         ours_ends="made d\nmade/here d\nmade/here/link l releases/2",
         truer="Stock's check promises a change that its run then fails to make. Ours makes the parents."),
)  # fmt: skip


outcomes, test_as_stock_or_truer = differential.frame(CASES, plain=True)
