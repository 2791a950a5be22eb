# SPDX-License-Identifier: GPL-3.0-or-later
"""systemd units, beside ansible.builtin.systemd_service (and copy for their files)."""

from __future__ import annotations

import differential
from differential import Case

ETC = "/etc/systemd/system"
TEXT = "[Service]\nExecStart=/usr/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n"


def copy(path: str, text: str) -> dict[str, dict[str, object]]:
    return {"ansible.builtin.copy": {"dest": f"{ETC}/{path}", "content": text, "mode": "0644"}}


def folder(path: str) -> dict[str, dict[str, object]]:
    return {"ansible.builtin.file": {"path": f"{ETC}/{path}", "state": "directory", "mode": "0755"}}


def systemd(name: str, **options: object) -> dict[str, dict[str, object]]:
    return {"ansible.builtin.systemd_service": {"name": name, **options}}


def look(name: str) -> str:
    properties = "LoadState,ActiveState,UnitFileState,NeedDaemonReload,Nice,DropInPaths"
    return f"systemctl show -p {properties} {name}; cat {ETC}/{name} 2>/dev/null | head -20"


def install(name: str, text: str = TEXT) -> str:
    return f"printf '%s' '{text}' > {ETC}/{name}; systemctl daemon-reload"


def case(name: str, unit: str, *, prepare: str = "true", text: str = TEXT, **options: object) -> Case:
    given = options.pop("given", {})
    words = {"active": {True: "started", False: "stopped"}}
    stock = {("state" if k == "active" else k): words.get(k, {}).get(v, v) for k, v in given.items()}
    return Case(
        name=name,
        ours=options.pop("ours", {"units": [{"name": unit, **given}]}),
        stock=options.pop("stock", [systemd(unit, **stock)]),
        look=options.pop("look", look(unit)),
        prepare=f"{install(unit, text)}; {prepare}" if text else prepare,
        **options,
    )


BOTH = {"enabled": True, "active": True}
# In a run of its own: every other case makes systemd read its files again.
ALONE = (
    Case("on disk as declared, and systemd has not read it",
         ours={"units": [{"name": "d-reload.service", "active": True, "content": TEXT + "# new\n"}]},
         stock=[copy("d-reload.service", TEXT + "# new\n"), systemd("d-reload.service", state="started")],
         prepare=f"{install('d-reload.service')}; systemctl start d-reload.service; sleep 1.1; "
         f"echo '# new' >> {ETC}/d-reload.service",
         look="systemctl show -p NeedDaemonReload,ActiveState d-reload.service", stock_says=("ok", "ok", "ok"),
         same_end=False, ours_ends="ActiveState=active\nNeedDaemonReload=no",
         truer="What runs is what systemd has loaded, not what is on disk."),
)  # fmt: skip

CASES = (
    *ALONE,
    case("enabled and active", "d-both.service", given=BOTH),
    case("as declared", "d-same.service", given=BOTH, prepare="systemctl enable -q --now d-same.service", says="ok"),
    case("stopped", "d-stopped.service", given=BOTH, prepare="systemctl enable -q d-stopped.service"),
    case("running but not at boot", "d-boot.service", given=BOTH, prepare="systemctl start d-boot.service"),
    case("to be off", "d-off.service", given={"enabled": False, "active": False},
         prepare="systemctl enable -q --now d-off.service"),
    case("off", "d-off2.service", given={"enabled": False, "active": False}, says="ok"),
    case("to be masked", "d-mask.service", text="", given={"masked": True}),
    case("masked", "d-masked.service", text="", given={"masked": True}, says="ok",
         prepare="systemctl mask -q d-masked.service"),
    case("to be unmasked", "d-unmask.service", text="", given={"masked": False},
         prepare="systemctl mask -q d-unmask.service"),
    case("static, which has nothing to enable", "d-static.service", text="[Service]\nExecStart=/usr/bin/true\n",
         given={"enabled": True}, says="ok"),
    case("a timer", "d-timer.timer",
         text="[Timer]\nOnCalendar=yearly\nUnit=d-both.service\n[Install]\nWantedBy=timers.target\n",
         given=BOTH),
    case("an instance of a template", "d-temp@1.service", text="", given=BOTH, prepare=install("d-temp@.service"),
         look="systemctl show -p ActiveState,UnitFileState d-temp@1.service"),
    case("failed", "d-failed.service", given={"active": True},
         prepare="systemctl start d-failed.service; systemctl kill -s KILL d-failed.service; sleep 0.3"),
    case("enabled until the next boot only", "d-runtime.service", given={"enabled": True},
         prepare="systemctl enable -q --runtime d-runtime.service"),
    Case("a new unit, enabled and started",
         ours={"units": [{"name": "d-new.service", "content": TEXT, **BOTH}]},
         stock=[copy("d-new.service", TEXT), systemd("d-new.service", daemon_reload=True, enabled=True,
         state="started")],
         look=look("d-new.service"), stock_says=("failed", "changed", "ok"),
         truer="Stock's check cannot find the unit that an earlier task would have written."),
    case("a unit that nobody has", "d-nobody.service", text="", given=BOTH, ours_says=("changed", "failed", "failed"),
         stock_says=("failed", "failed", "failed"),
         truer="Another role may bring it: ours says so under assumptions in check mode, and fails for real."),
    Case("a drop-in",
         ours={"units": [{"name": "d-dropin.service", "active": True, "dropins": {"nusy": "[Service]\nNice=5\n"}}]},
         stock=[folder("d-dropin.service.d"), copy("d-dropin.service.d/nusy.conf", "[Service]\nNice=5\n"),
                systemd("d-dropin.service", daemon_reload=True, state="restarted")],
         prepare=install("d-dropin.service") + "; systemctl start d-dropin.service", look=look("d-dropin.service"),
         stock_says=("changed", "changed", "changed"),
         truer="A restart is no state: stock repeats it in every run unless a handler asks, and a run that dies "
         "before its handlers forgets it. Ours knows what the running unit was started with."),
    Case("a later drop-in of somebody else",
         ours={"units": [{"name": "d-later.service", "active": True, "dropins": {"10-nusy": "[Service]\nNice=5\n"}}]},
         stock=[copy("d-later.service.d/10-nusy.conf", "[Service]\nNice=5\n"), systemd("d-later.service",
         state="started")],
         prepare=f"{install('d-later.service')}; mkdir {ETC}/d-later.service.d; cd {ETC}/d-later.service.d; "
         "printf '[Service]\\nNice=5\\n' > 10-nusy.conf; printf '[Service]\\nNice=7\\n' > 99-other.conf; "
         "systemctl daemon-reload; systemctl start d-later.service",
         look=look("d-later.service"), blocked=True, stock_says=("ok", "ok", "ok"),
         truer="The file is right and the setting is not in force: a drop-in that comes later overrides it."),
    case("it ends right after its start", "d-dies.service", text="[Service]\nExecStart=/usr/bin/false\n",
         given={"active": True}, ours_says=("changed", "failed", "failed"), stock_says=("changed", "changed",
         "changed"),
         truer="Stock reports success for a service that is dead. Ours looks again, and shows the end of its log."),
    case("it ends and is started again for ever", "d-loops.service",
         text="[Service]\nExecStart=/usr/bin/false\nRestart=always\nRestartSec=100\n", given={"active": True},
         prepare="systemctl start d-loops.service; sleep 0.5",
         ours_says=("changed", "failed", "failed"), stock_says=("ok", "ok", "ok"), same_end=True,
         truer="systemd calls it activating, which stock takes for running."),
    case("to be off, and started again for ever", "d-offloop.service", given={"active": False},
         text="[Service]\nExecStart=/usr/bin/false\nRestart=always\nRestartSec=100\n",
         prepare="systemctl start d-offloop.service; sleep 0.5"),
    case("masked until the next boot", "d-brief.service", text="", given=BOTH, blocked=True,
         prepare=f"printf '%s' '{TEXT}' > /usr/lib/systemd/system/d-brief.service; systemctl daemon-reload; "
         "systemctl mask -q --runtime d-brief.service", stock_says=("changed", "failed", "failed"),
         truer="Somebody masked it on purpose: ours asks for its name. Stock foresees a change, and fails."),
    case("systemd skips it on this machine", "d-skips.service", given=BOTH,
         text="[Unit]\nConditionPathExists=/nowhere\n" + TEXT, prepare="systemctl enable -q --now d-skips.service",
         ours_says=("ok", "failed", "failed"), state="unknown", stock_says=("changed", "changed", "changed"),
         truer="Stock starts it in every run and reports success; nothing runs. Ours says why it cannot."),
    case("to be masked, with a file in the place of the mask", "d-maskfile.service", given={"masked": True},
         ours_says=("ok", "failed", "failed"), state="drifted", stock_says=("changed", "failed", "failed"),
         truer="systemctl does not replace it: stock foresees a change, and fails. Ours says so in check mode."),
    case("a oneshot that is to stay active", "d-oneshot.service", text="[Service]\nType=oneshot\nExecStart=/bin/true\n",
         given={"active": True}, ours_says=("ok", "failed", "failed"), state="drifted",
         stock_says=("changed", "changed", "changed"),
         truer="It ends when its command is done: stock starts it in every run. Ours says why it cannot stay active."),
    Case("a link that enables it is gone from one of two targets",
         ours={"units": [{"name": "d-half.service", "enabled": True}]}, stock=[systemd("d-half.service", enabled=True)],
         prepare=install("d-half.service", TEXT + "WantedBy=rescue.target\n") + "; systemctl enable -q d-half.service; "
         f"rm {ETC}/multi-user.target.wants/d-half.service",
         look=f"ls {ETC}/*.wants | grep -c d-half", says="ok"),
)  # fmt: skip


outcomes, test_as_stock_or_truer = differential.frame(CASES, alone=ALONE)
