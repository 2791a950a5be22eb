# SPDX-License-Identifier: GPL-3.0-or-later
"""Files, beside ansible.builtin.copy."""

from __future__ import annotations

import differential
from differential import Case

ROOT = "/srv/d-files"
TEXT = "alpha = 1\nbeta = 2\n"


def ours(name: str, content: str = TEXT, **options: object) -> dict[str, object]:
    return {"files": [{"path": f"{ROOT}/{name}", "content": content, **options}]}


def stock(name: str, content: str = TEXT, **options: object) -> list[dict[str, dict[str, object]]]:
    attributes = {"owner": "root", "group": "root", "mode": "0644", **options}
    return [{"ansible.builtin.copy": {"dest": f"{ROOT}/{name}", "content": content, **attributes}}]


def look(name: str) -> str:
    return f"cd {ROOT} && find {name.split('/')[0]}* -printf '%p %y %U:%G %m\\n' | sort; cat -A {name}"


def case(name: str, *, at: str, given: dict[str, object] | None = None, **options: object) -> Case:
    given = given or {}
    prepare = f"mkdir -p {ROOT}; cd {ROOT}; printf 'alpha = 1\\nbeta = 2\\n' > {at.split('/')[0]}; "
    # Each begins with a file of somebody's: what happens to it where nobody names it has a row of its own.
    options.setdefault("confirm", () if options.get("blocked") else (f"{ROOT}/{at}",))
    return Case(
        name=name,
        ours=options.pop("ours", None) or ours(at, **given),
        stock=options.pop("stock", None) or stock(at, **given),
        look=options.pop("look", None) or look(at),
        prepare=prepare + options.pop("prepare", "true"),
        **options,
    )


CASES = (
    case("not there", at="absent", prepare="rm absent"),
    case("as declared", at="same", says="ok"),
    case("another line", at="line", prepare="sed -i s/2/3/ line"),
    case("another line, and nobody named it", at="theirs", prepare="sed -i s/2/3/ theirs", blocked=True,
         same_end=False, ours_ends="theirs f 0:0 644\nalpha = 1$\nbeta = 3$",
         truer="What was there before the role is somebody's: it is taken over only when the operator names it."),
    case("a line that nobody declared", at="foreign", prepare="echo gamma >> foreign", state="in_sync"),
    case("no line end at the end", at="end", prepare="printf 'alpha = 1\\nbeta = 2' > end", state="in_sync"),
    case("another mode", at="mode", prepare="chmod 600 mode"),
    case("another owner", at="owner", prepare="chown 12:12 owner"),
    case("a secret in a file that everybody could read", at="secret", given={"mode": "0600"},
         prepare="echo old > secret"),
    case("empty", at="empty", given={"content": ""}, state="in_sync"),
    case("line ends of other systems, and a form feed", at="ends", given={"content": "a\r\nb\fc\n"}),
    case("letters beyond ASCII", at="letters", given={"content": "Grüße – 你好\n"}),
    case("a declaration without a line end", at="bare", given={"content": "alpha"}, same_end=False,
         ours_ends="bare f 0:0 644\nalpha$",
         truer="A last line without its end is not a line: what appends to the file later would join it."),
    case("a link in its place", at="link", prepare="rm link; echo elsewhere > link.real; ln -s link.real link",
         blocked=True, same_end=False, ours_ends="link l 0:0 777\nlink.real f 0:0 644\nelsewhere$",
         truer="Stock replaces somebody's link without a word. Ours waits until the operator names it."),
    case("a link in its place, confirmed", at="named", confirm=(f"{ROOT}/named",),
         prepare="rm named; echo elsewhere > named.real; ln -s named.real named"),
    case("a directory in its place", at="folder", prepare="rm folder; mkdir folder; touch folder/precious",
         look=f"find {ROOT}/folder* -printf '%P %y\\n'", blocked=True, stock_says=("failed", "failed", "failed"),
         truer="Stock fails the host. Ours reports the control as blocked and ensures the rest."),
    case("its directory is missing", at="made/app/it.conf", prepare="rm made",
         look=f"cd {ROOT} && find made -printf '%p %y %U:%G %m\\n' | sort", stock_says=("changed", "failed", "failed"),
         same_end=False, ours_ends="made d 0:0 755\nmade/app d 0:0 755\nmade/app/it.conf f 0:0 644",
         truer="Stock's check promises a change that its run then fails to make."),
    case("removal, confirmed", at="gone", given={"state": "absent"}, confirm=(f"{ROOT}/gone",),
         stock=[{"ansible.builtin.file": {"path": f"{ROOT}/gone", "state": "absent"}}],
         look=f"ls {ROOT} | grep -c gone"),
    case("removal", at="kept", given={"state": "absent"}, blocked=True, look=f"ls {ROOT}/kept", same_end=False,
         stock=[{"ansible.builtin.file": {"path": f"{ROOT}/kept", "state": "absent"}}], ours_ends=f"{ROOT}/kept",
         truer="What removes data waits for the operator to name it."),
    case("accepted by its program", at="valid", given={"content": "ops ALL=(ALL) NOPASSWD: ALL\n", "mode": "0440"},
         ours=ours("valid", "ops ALL=(ALL) NOPASSWD: ALL\n", mode="0440", validate=["visudo", "-cf", "%s"]),
         stock=stock("valid", "ops ALL=(ALL) NOPASSWD: ALL\n", mode="0440", validate="visudo -cf %s")),
    case("refused by its program", at="invalid", ours_says=("changed", "failed", "failed"),
         ours=ours("invalid", "nonsense here\n", mode="0440", validate=["visudo", "-cf", "%s"]),
         stock=stock("invalid", "nonsense here\n", mode="0440", validate="visudo -cf %s"),
         stock_says=("changed", "failed", "failed")),
    case("two controls write one file", at="parts", prepare="echo gamma > parts",
         ours={"files": [{"path": f"{ROOT}/parts", "content": "alpha = 1", "fragment": True},
                         {"path": f"{ROOT}/parts", "content": "beta = 2", "fragment": True}]}),
    case("its owner is made by the same role", at="owned", prepare="getent passwd d-files || true",
         ours={"groups": [{"name": "d-files"}], "users": [{"name": "d-files", "group": "d-files", "home": "/srv"}],
               **ours("owned", owner="d-files", group="d-files")},
         stock=[{"ansible.builtin.group": {"name": "d-files"}},
                {"ansible.builtin.user": {"name": "d-files", "group": "d-files", "home": "/srv", "create_home": False}},
                *stock("owned", owner="d-files", group="d-files")],
         look=f"stat -c '%n %U:%G %a' {ROOT}/owned", stock_says=("failed", "changed", "ok"),
         truer="Stock cannot look up an account in check mode that an earlier task would have made."),
)  # fmt: skip


outcomes, test_as_stock_or_truer = differential.frame(CASES)
