# SPDX-License-Identifier: GPL-3.0-or-later
"""Groups and users, beside ansible.builtin.group and ansible.builtin.user."""

from __future__ import annotations

import differential
from differential import Case


def group(name: str, at: str, *, prepare: str = "true", **options: object) -> Case:
    given = options.pop("given", {})
    return Case(
        name=f"group: {name}",
        ours={"groups": [{"name": at, **given}]},
        stock=[{"ansible.builtin.group": {"name": at, **given}}],
        look=options.pop("look", f"getent group {at} | cut -d: -f1,3,4"),
        prepare=prepare,
        **options,
    )


def user(name: str, at: str, *, prepare: str = "true", **options: object) -> Case:
    given = options.pop("given", {})
    # ansible-core 2.20 refuses append without groups.
    stock = {"name": at, "create_home": False, **({"append": True} if "groups" in given else {}), **given}
    return Case(
        name=f"user: {name}",
        ours=options.pop("ours", {"users": [{"name": at, **given}]}),
        stock=options.pop("stock", [{"ansible.builtin.user": stock}]),
        look=options.pop("look", f"getent passwd {at} | cut -d: -f1,3,5-; id -Gn {at} | tr ' ' '\\n' | sort"),
        prepare=prepare,
        **options,
    )


CASES = (
    group("not there", "dg-absent", given={"gid": 4701}),
    group("as declared", "dg-same", given={"gid": 4702}, prepare="groupadd -g 4702 dg-same", says="ok"),
    group("any number will do", "dg-any", prepare="groupadd -g 4790 dg-any", says="ok"),
    group("from the system range", "dg-system", given={"system": True},
          look="[ $(getent group dg-system | cut -d: -f3) -lt 1000 ] && echo system"),
    group("another number", "dg-number", given={"gid": 4704}, prepare="groupadd -g 4703 dg-number", blocked=True,
          same_end=False, ours_ends="dg-number:4703:",
          truer="Files keep the old number, and whoever gets it next owns them: the operator names the group first."),
    group("another number, confirmed", "dg-renumber", given={"gid": 4706}, prepare="groupadd -g 4705 dg-renumber",
          confirm=("dg-renumber",)),
    group("its number is another group's", "dg-taken", given={"gid": 4708}, prepare="groupadd -g 4708 dg-holder",
          ours_says=("ok", "failed", "failed"), state="drifted", stock_says=("changed", "failed", "failed"),
          truer="Stock's check promises a change that its run cannot make. Ours names who has the number, and a run "
          "stops before its first step."),
    user("not there", "du-absent", given={"uid": 4601, "shell": "/usr/sbin/nologin", "home": "/opt/x",
         "comment": "A b"}),
    user("as declared", "du-same", given={"uid": 4602, "shell": "/bin/bash"}, says="ok",
         prepare="useradd -M -u 4602 -s /bin/bash du-same"),
    user("from the system range", "du-system", given={"system": True},
         look="[ $(id -u du-system) -lt 1000 ] && getent passwd du-system | cut -d: -f1,5-"),
    user("another shell", "du-shell", given={"shell": "/usr/sbin/nologin"},
         prepare="useradd -M -u 603 -s /bin/false du-shell"),
    user("another shell of an account that people log in by", "du-login", given={"shell": "/usr/sbin/nologin"},
         prepare="useradd -M -u 4603 -s /bin/bash du-login", blocked=True, same_end=False,
         ours_ends="du-login:4603::/home/du-login:/bin/bash\ndu-login",
         truer="Another shell, home or group can lock somebody out: the operator names the user first."),
    user("another shell of a system account that people log in by", "du-admin", given={"shell": "/usr/sbin/nologin"},
         prepare="useradd -M -u 619 -s /bin/bash du-admin", blocked=True, same_end=False,
         ours_ends="du-admin:619::/home/du-admin:/bin/bash\ndu-admin",
         truer="It has a shell and this role did not make it: the operator names the user first."),
    user("another home", "du-home", given={"home": "/opt/new"},
         prepare="useradd -M -u 604 -s /bin/false du-home"),
    user("another comment", "du-comment", given={"comment": "New"},
         prepare="useradd -M -u 605 -s /bin/false -c Old du-comment"),
    user("another primary group", "du-primary", given={"group": "daemon"},
         prepare="useradd -M -u 606 -s /bin/false du-primary"),
    user("a further group", "du-further", given={"groups": ["daemon", "games"]},
         prepare="useradd -M -u 4607 -G games,mail du-further"),
    user("in all its groups", "du-member", given={"groups": ["games"]}, says="ok",
         prepare="useradd -M -u 4608 -G games,mail du-member"),
    user("its primary group is named as a further one too", "du-twice", given={"group": "daemon", "groups": ["daemon"]},
         prepare="useradd -M -u 4609 -g daemon du-twice", says="ok", stock_says=("changed", "changed", "ok"),
         truer="Who has it as primary group is in the group already."),
    user("another number", "du-number", given={"uid": 4611}, prepare="useradd -M -u 4610 du-number", blocked=True,
         same_end=False, ours_ends="du-number:4610::/home/du-number:/bin/sh\ndu-number",
         truer="Files keep the old number, and whoever gets it next owns them: the operator names the user first."),
    user("another number, confirmed", "du-renumber", given={"uid": 4613}, prepare="useradd -M -u 4612 du-renumber",
         confirm=("du-renumber",)),
    user("its number is another user's", "du-taken", given={"uid": 4616}, prepare="useradd -M -u 4616 du-holder",
         ours_says=("ok", "failed", "failed"), state="drifted", stock_says=("changed", "failed", "failed"),
         truer="Stock's check promises a change that its run cannot make. Ours names who has the number, and a run "
         "stops before its first step."),
    user("another number, confirmed, while its processes run", "du-busy", given={"uid": 4618}, confirm=("du-busy",),
         prepare="useradd -M -u 4617 du-busy; systemd-run -q -p User=du-busy sleep infinity",
         ours_says=("ok", "failed", "failed"), state="drifted", stock_says=("changed", "failed", "failed"),
         truer="usermod refuses while its processes run. Ours names them; stock's check promises the change."),
    user("another home while its processes run", "du-daemon", given={"home": "/opt/new"},
         prepare="useradd -M -u 617 -s /bin/false du-daemon; systemd-run -q -p User=du-daemon sleep infinity",
         ours_says=("ok", "failed", "failed"), state="drifted", stock_says=("changed", "failed", "failed"),
         truer="usermod refuses while its processes run. Ours names them; stock's check promises the change."),
    user("another shell while its processes run", "du-works", given={"shell": "/usr/sbin/nologin"},
         prepare="useradd -M -u 618 -s /bin/false du-works; systemd-run -q -p User=du-works sleep infinity"),
    user("no home of its own", "du-root", given={"home": "/", "system": True},
         look="getent passwd du-root | cut -d: -f1,5-"),
    user("a group of its name is there", "du-named", given={"uid": 4619}, prepare="groupadd -g 4719 du-named",
         same_end=False, ours_ends="du-named:4619::/home/du-named:/bin/sh\ndu-named",
         truer="Stock puts it into the group of all users instead of the one that was made for it."),
    user("in a group that nobody makes", "du-lost", given={"groups": ["dg-nobody"]},
         ours_says=("changed", "failed", "failed"), state="drifted", stock_says=("changed", "failed", "failed")),
    user("a new one in a group made by the same role", "du-new",
         ours={"groups": [{"name": "dg-new"}], "users": [{"name": "du-new", "uid": 4614, "group": "dg-new"}]},
         stock=[{"ansible.builtin.group": {"name": "dg-new"}},
                {"ansible.builtin.user": {"name": "du-new", "uid": 4614, "group": "dg-new", "create_home": False}}]),
    user("an old one into a group made by the same role", "du-old", prepare="useradd -M -u 4615 du-old",
         ours={"groups": [{"name": "dg-old"}], "users": [{"name": "du-old", "groups": ["dg-old"]}]},
         stock=[{"ansible.builtin.group": {"name": "dg-old"}},
                {"ansible.builtin.user": {"name": "du-old", "groups": ["dg-old"], "append": True}}],
         stock_says=("failed", "changed", "ok"),
         truer="Stock cannot look up a group in check mode that an earlier task would have made."),
)  # fmt: skip


outcomes, test_as_stock_or_truer = differential.frame(CASES)
