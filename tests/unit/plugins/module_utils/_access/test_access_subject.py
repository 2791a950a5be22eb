# SPDX-License-Identifier: GPL-3.0-or-later
"""What role access plans and does, on a node in memory: each verdict, each refusal, each step on the way back."""

from __future__ import annotations

import time
from typing import Any

import access_node
import pytest
from access_node import AGAIN, AccessNode, declared, shown
from ansible_collections.nusy.dgx_spark.plugins.module_utils._access import firewall, guard, ssh
from ansible_collections.nusy.dgx_spark.plugins.module_utils._access.model import CONTROLS
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import converge
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError, NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import record

SERVICE = {"service": "gw", "ports": ["443"], "protocol": "tcp", "bind": "any", "peers": ["any"], "role": ""}
RECORD = record.path_of("access")


def run(node: AccessNode, **given: Any) -> Any:
    subject = declared(**given)
    return converge(subject, subject.plan(node), node, node)


def verdicts(plan: Any) -> dict[str, Any]:
    return {control.id.partition("/")[2]: control for control in plan.controls}


def states(plan: Any) -> dict[str, str]:
    return {name: control.state for name, control in verdicts(plan).items()}


def test_every_control_has_its_verdict_in_the_order_of_the_report():
    plan = declared().plan(AccessNode())
    assert tuple(control.id for control in plan.controls) == CONTROLS


def test_a_change_is_not_recorded_before_another_login_and_is_then():
    node = AccessNode()
    assert run(node).facts["access"] == {"pending": True}
    assert guard.ARMED in node.files and RECORD not in node.files
    # The same login proves nothing, however often it asks.
    assert run(node).facts["access"] == {"pending": True} and RECORD not in node.files
    node.came = AGAIN
    assert run(node, proving=True).facts["access"] == {"pending": False}
    assert guard.ARMED not in node.files and RECORD in node.files


def test_the_way_back_is_ready_before_anything_is_changed():
    node = AccessNode()
    run(node)
    timer, dropin = node.effects.index("timer --on-active=60s"), node.effects.index(f"write {ssh.DROPIN}")
    assert timer < dropin
    assert f"rm -f {ssh.DROPIN}" in node.files[f"{guard.ARMED}/ssh.sh"].text


def test_without_a_way_back_nothing_is_changed():
    node = AccessNode(refuses="timer")
    with pytest.raises(NodeError, match="a way back"):
        run(node)
    assert ssh.DROPIN not in node.files


def test_what_was_there_before_two_changes_is_what_comes_back():
    node = AccessNode()
    run(node)
    kept = node.files[f"{guard.ARMED}/ssh.sh"].text
    # Again by a login that proves nothing, with another declaration.
    run(node, ssh={"max_auth_tries": 2})
    assert node.files[f"{guard.ARMED}/ssh.sh"].text == kept


def test_the_table_that_was_in_force_is_what_comes_back():
    node, table = AccessNode(), f"{guard.ARMED}/table"
    run(node, confirm=["firewall"])
    assert table not in node.files
    node.came = AGAIN
    run(node, proving=True)
    before = node.table
    run(node, published=[SERVICE])
    # Again by a login that proves nothing.
    run(node, published=[{**SERVICE, "ports": ["444"]}])
    assert node.table != before == node.files[table].text
    assert f"-f {guard.UNDOING}/table" in node.files[f"{guard.ARMED}/firewall.sh"].text
    modes = [node.files[path].mode for path in (table, firewall.RULES, firewall.UNIT_FILE)]
    assert modes == [0o600, 0o644, 0o644]


def test_a_run_that_was_killed_before_its_change_leaves_nothing_to_prove():
    node = AccessNode()
    for folder in ("/var/lib/nusy", guard.FOLDER, guard.ARMED):
        node.put(folder, kind="directory", mode=0o700)
    node.put(f"{guard.ARMED}/ssh.sh", "cp -p what was there then")
    assert declared(skip_controls=list(CONTROLS)).plan(node).facts["access"] == {"pending": False}
    run(node)
    # What is there now comes back, and not what was there when that run was killed.
    assert "what was there then" not in node.files[f"{guard.ARMED}/ssh.sh"].text and f"rm {guard.ARMED}" in node.effects


def test_who_comes_after_the_change_was_undone_is_told(monkeypatch: pytest.MonkeyPatch):
    node = AccessNode()
    run(node)
    node.came = AGAIN
    # The timer takes the folder between the look and the proof.
    monkeypatch.setattr(node, "rename", lambda path, new: (_ for _ in ()).throw(FileNotFoundError(path)))
    with pytest.raises(NodeError) as error:
        run(node)
    assert error.value.problem.key == "access.undone" and RECORD not in node.files


def test_a_change_that_another_run_has_proven_is_proven():
    """Two operators at once: the second to come in disarms what the first has changed."""
    node = AccessNode()
    run(node)
    node.came = AGAIN
    run(node)
    node.came = "192.0.2.7 50002 192.0.2.1 22"
    assert guard.ARMED not in node.files
    assert run(node, proving=True).facts["access"] == {"pending": False}


def test_who_comes_to_prove_a_change_that_was_undone_does_not_make_it_again():
    node = AccessNode(came=AGAIN)
    with pytest.raises(NodeError) as error:
        run(node, proving=True)
    assert error.value.problem.key == "access.undone" and node.effects == []


@pytest.mark.parametrize("refuses", ["sshd -t", "nft", "unit"])
def test_what_a_tool_refuses_is_taken_back_at_once(refuses: str):
    node = AccessNode(refuses=refuses)
    with pytest.raises(NodeError) as error:
        run(node, confirm=["firewall"])
    assert error.value.problem.key == "access.refused" and f"sh {guard.SCRIPT}" in node.effects


def test_rules_that_the_kernel_does_not_take_are_never_loaded():
    node = AccessNode(refuses="alone")
    plan = declared(confirm=["firewall"]).plan(node)
    assert states(plan)["firewall_default"] == "unknown" and "syntax error" in verdicts(plan)["firewall_ssh"].reason
    assert not [step for step in plan.steps if step.action == "apply_firewall"]


def test_the_firewall_is_loaded_by_its_name_only():
    node = AccessNode()
    plan = declared().plan(node)
    assert verdicts(plan)["firewall_default"].blocked_by == "access_confirm: [firewall]"
    run(node)
    assert node.table == ""
    left = run(node, confirm=["firewall"], published=[SERVICE])
    assert "tcp dport { 443 } accept" in node.table and states(left)["firewall_default"] == "in_sync"


def test_a_firewall_that_is_there_is_mended_without_its_name():
    node = AccessNode()
    run(node, confirm=["firewall"])
    node.table = node.table.replace("policy drop", "policy accept")
    plan = declared().plan(node)
    assert (states(plan)["firewall_default"], verdicts(plan)["firewall_default"].blocked_by) == ("drifted", "")
    assert [step.text() for step in plan.steps] == ["apply_firewall table inet nusy"]


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("tcp dport { 22 } accept", "tcp dport { 23 } accept", "firewall_ssh"),
        ("tcp dport { 443 } accept", "tcp dport { 444 } accept", "firewall_published"),
        ('ct status dnat drop comment "firewall_forwarded: the rest"', "", "firewall_forwarded"),
        ('comment "firewall_default: broken"', "", "firewall_default firewall_extra"),
        ("\tchain forward {", '\tset mine {\n\t}\n\n\tchain forward {\n\t\taccept comment "mine: x"', "firewall_extra"),
    ],
)
def test_a_rule_is_named_by_the_control_it_is_for(old: str, new: str, name: str):
    node = AccessNode()
    run(node, confirm=["firewall"], published=[SERVICE])
    assert old in node.table
    node.table = node.table.replace(old, new)
    found = states(declared(published=[SERVICE]).plan(node))
    assert {one for one, state in found.items() if state == "drifted"} == set(name.split())


def test_a_firewall_that_is_not_wanted_is_left_as_it_is():
    node = AccessNode()
    run(node, confirm=["firewall"])
    plan = declared(firewall={"enabled": False}).plan(node)
    assert states(plan)["firewall_default"] == "not_selected" and plan.steps == ()


@pytest.mark.parametrize(
    ("files", "other"),
    [
        (("/etc/ufw/ufw.conf", "/usr/sbin/ufw"), "ufw"),
        # What apt remove leaves of it.
        (("/etc/ufw/ufw.conf",), ""),
        (("/usr/sbin/firewalld",), "firewalld"),
    ],
)
def test_another_packet_filter_is_its_owners(files: tuple[str, ...], other: str):
    node = AccessNode()
    for path in files:
        node.put(path, "ENABLED=yes\n")
    plan = declared(confirm=["firewall"]).plan(node)
    assert states(plan)["firewall_default"] == ("unknown" if other else "drifted")
    assert f"{other} is active" in verdicts(plan)["firewall_boot"].reason or not other


@pytest.mark.parametrize("network", ["10.0.0.1/0", "::/0"])
def test_everybody_is_no_named_peer(network: str):
    with pytest.raises(InputError) as error:
        declared(firewall={"fabric_peers": ["10.0.0.2", network]})
    assert "firewall.fabric_peers[1]" in error.value.problem.wanted


@pytest.mark.parametrize(
    ("dropin", "name"),
    [("PasswordAuthentication yes", "ssh_keys_only"), ("PermitRootLogin yes", "ssh_root"),
     ("Ciphers x", "ssh_algorithms"),
     ("MaxAuthTries 9", "ssh_limits"), ("TCPKeepAlive yes", "ssh_limits"), ("LogLevel INFO", "ssh_log"),
     ("AllowAgentForwarding yes", "ssh_forwarding"), ("Banner none", "ssh_banner"),
     ("PrintMotd yes", "ssh_extra")],
)  # fmt: skip
def test_a_line_is_named_by_the_control_it_is_for(dropin: str, name: str):
    node = AccessNode()
    given: dict[str, Any] = {"ssh": {"banner": "/etc/issue.net"}}
    run(node, **given)
    node.files[ssh.DROPIN].text = f"{dropin}\n" + node.files[ssh.DROPIN].text
    found = states(declared(**given).plan(node))
    assert {one for one, state in found.items() if state == "drifted" and "ssh_" in one and "wall" not in one} == {name}


def test_who_else_may_write_the_drop_in_is_drift():
    node = AccessNode()
    run(node)
    node.files[ssh.DROPIN].mode = 0o666
    assert states(declared().plan(node))["ssh_extra"] == "drifted"


def test_a_line_of_a_control_that_is_skipped_stays_as_it_is():
    node = AccessNode()
    node.put(ssh.DROPIN, "MaxAuthTries 9\n", mode=0o600)
    left = run(node, skip_controls=["access/ssh_limits"])
    assert states(left)["ssh_limits"] == "not_selected"
    assert node.files[ssh.DROPIN].text.splitlines()[-1] == "MaxAuthTries 9"
    assert "LoginGraceTime" not in node.files[ssh.DROPIN].text


@pytest.mark.parametrize(
    ("path", "text", "told"),
    [
        (f"{ssh.FOLDER}/00-before.conf", "MaxAuthTries 9\n", "stays as it is for ops, root, nobody"),
        (f"{ssh.FOLDER}/90.conf", "", ""),
    ],
)
def test_who_comes_first_wins_and_is_named(path: str, text: str, told: str):
    node = AccessNode()
    node.put(path, text)
    control = verdicts(declared().plan(node))["ssh_limits"]
    assert told in control.reason and (f"{path}:1" in control.reason) == bool(told)
    if told:
        with pytest.raises(NodeError, match="take MaxAuthTries out of"):
            node.came = AGAIN
            run(node)
            node.came = "192.0.2.7 50002 192.0.2.1 22"
            run(node)


def test_a_match_block_is_seen_by_the_user_it_is_for():
    node = AccessNode()
    node.files[ssh.MAIN].text += "Match User root\nPermitRootLogin yes\n"
    control = verdicts(declared().plan(node))["ssh_root"]
    assert "stays as it is for root" in control.reason and f"{ssh.MAIN}:4 (Match User root)" in control.reason


TWO = "Match Group two\n  AuthenticationMethods"


@pytest.mark.parametrize(
    ("block", "name"),
    [
        ("Match Address 10.0.0.0/8\n  PasswordAuthentication yes", "ssh_keys_only"),
        ('Match User backup\n  PermitRootLogin="without-password"', "ssh_root"),
        ("Match User backup\n  PasswordAuthentication no\n  MaxAuthTries 9", ""),
        # A second factor of some is more than a key.
        (f"{TWO} publickey,keyboard-interactive\n  KbdInteractiveAuthentication yes", ""),
        (f"{TWO} keyboard-interactive\n  KbdInteractiveAuthentication yes", "ssh_keys_only"),
    ],
)
def test_a_match_block_about_somebody_else_is_not_fine(block: str, name: str):
    node = AccessNode()
    node.files[ssh.MAIN].text += f"{block}\n"
    run(node)
    found = verdicts(declared().plan(node))
    drifted = {one for one, control in found.items() if control.state == "drifted" and one.startswith("ssh_")}
    assert drifted == ({name} if name else set())
    if name:
        node.came = AGAIN
        with pytest.raises(NodeError, match=rf"take \w+ out of {ssh.MAIN}:\d+ \(Match "):
            run(node, proving=True)


def test_a_folder_that_sshd_does_not_read_is_told():
    node = AccessNode()
    node.files[ssh.MAIN].text = "X11Forwarding yes\n"
    plan = declared().plan(node)
    assert "whatever" in verdicts(plan)["ssh_keys_only"].reason and plan.steps == ()


@pytest.mark.parametrize(
    ("break_it", "why"),
    [
        (lambda node: node.files.pop("/home/ops/.ssh/authorized_keys"), "does not exist"),
        (lambda node: node.put(ssh.MAIN, node.files[ssh.MAIN].text + "AllowUsers carol\n"), "allowusers carol"),
        (lambda node: setattr(node.files["/home/ops"], "mode", 0o777), "StrictModes refuses"),
    ],
)
def test_whoever_is_logged_in_is_not_locked_out(break_it: Any, why: str):
    node = AccessNode()
    break_it(node)
    plan = declared().plan(node)
    control = verdicts(plan)["ssh_keys_only"]
    assert control.blocked_by == "access_confirm: [ops]" and why in control.reason
    assert not [step for step in plan.steps if step.action == "apply_ssh"]
    allowed = declared(confirm=["ops"]).plan(node)
    assert [step.action for step in allowed.steps] == ["apply_ssh"]


def _with_password(node: AccessNode, name: str, shell: str = "/bin/bash", field: str = "$y$j9T$x") -> None:
    number = 1001 + len(node.users)
    node.users[name] = [number, number, "", f"/home/{name}", shell]
    node.put("/etc/shadow", (node.read("/etc/shadow") or "") + f"{name}:{field}:20000:0:99999:7:::\n", mode=0o640)


def test_who_has_only_a_password_is_not_locked_out_unnamed():
    node = AccessNode()
    for name, shell, field in (
        ("alice", "/bin/bash", "$y$j9T$x"),
        ("bob", "/bin/bash", "$6$x$y"),
        ("locked", "/bin/bash", "!$y$j9T$x"),
        ("never", "/bin/bash", "*"),
        ("daemon", "/usr/sbin/nologin", "$y$j9T$x"),
    ):
        _with_password(node, name, shell, field)
    plan = declared().plan(node)
    control = verdicts(plan)["ssh_keys_only"]
    assert control.blocked_by == "access_confirm: [alice]" and plan.steps == ()
    assert "only a password lets alice in today" in control.reason and "and so would bob" in control.reason
    assert verdicts(declared(confirm=["alice"]).plan(node))["ssh_limits"].blocked_by == "access_confirm: [bob]"
    # Who is named, who is out anyway, or for whom passwords stay, is nobody's concern.
    run(node, confirm=["alice", "bob"])
    assert "PasswordAuthentication no" in node.files[ssh.DROPIN].text
    assert {
        control.blocked_by for name, control in verdicts(declared().plan(node)).items() if name.startswith("ssh_")
    } == {""}


@pytest.mark.parametrize(
    ("line", "skipped"),
    [("DenyUsers alice", []), ("AuthenticationMethods publickey", []), ("", ["access/ssh_keys_only"])],
)
def test_who_loses_nothing_is_not_asked_about(line: str, skipped: list[str]):
    node = AccessNode()
    _with_password(node, "alice")
    node.files[ssh.MAIN].text += f"{line}\n"
    assert verdicts(declared(skip_controls=skipped).plan(node))["ssh_limits"].blocked_by == ""


def test_a_password_that_only_a_match_block_allows_is_seen():
    node = AccessNode()
    _with_password(node, "alice")
    # The block counts more than the drop-in: alice goes on getting in, and that is told.
    node.files[ssh.MAIN].text += "PasswordAuthentication no\nMatch User alice\nPasswordAuthentication yes\n"
    found = verdicts(declared().plan(node))["ssh_keys_only"]
    assert found.blocked_by == "" and "for whom a Match block is about" in found.reason


def test_an_administrator_without_a_key_is_asked_about():
    plan = declared(ssh={"admins": ["carol"]}).plan(AccessNode())
    assert "there is no account carol" in verdicts(plan)["ssh_limits"].reason


def test_a_run_that_did_not_come_by_ssh_proves_nothing_and_says_so():
    node = AccessNode(came="")
    plan = declared(confirm=["firewall"]).plan(node)
    assert plan.steps == () and verdicts(plan)["firewall_ssh"].blocked_by == "access_confirm: [unproven_login]"
    run(node, confirm=["firewall", "unproven_login"])
    assert guard.ARMED not in node.files and node.table and ssh.DROPIN in node.files and RECORD in node.files


def test_without_root_and_without_a_server_nothing_is_known():
    node = AccessNode(root=False)
    assert set(states(declared().plan(node)).values()) == {"unknown"}
    bare = AccessNode()
    del bare.files["/usr/sbin/sshd"]
    plan = declared(confirm=["firewall"]).plan(bare)
    assert set(states(plan).values()) == {"unknown"} and plan.steps == ()


def test_an_sshd_without_its_folder_is_asked_where_it_has_one():
    node = AccessNode()
    del node.files["/run/sshd"]
    asked = [argv for argv in _asked(node) if "-T" in argv]
    assert asked and all(argv[0] == "/usr/bin/unshare" and "/usr/sbin/sshd" in argv for argv in asked)
    assert "/run/sshd" not in node.files
    assert not [argv for argv in _asked(AccessNode()) if "-T" in argv and argv[0] != "/usr/sbin/sshd"]


def _asked(node: AccessNode) -> list[list[str]]:
    declared(firewall={"enabled": False}).plan(node)
    return node.ran


@pytest.mark.parametrize(
    ("came", "told"),
    [
        ("10.0.0.7 50000 10.0.0.1 22", ""),
        ("198.51.100.7 50000 10.0.0.1 22", ""),  # a peer of the fabric reaches every port
        ("192.0.2.7 50000 10.0.0.1 22", "192.0.2.7, which access_firewall_ssh_from does not name"),
        ("10.0.0.7 50000 10.0.0.1 2222", "port 2222, where sshd is not configured to listen"),
    ],
)
def test_rules_are_the_same_from_everywhere_and_not_loaded_by_who_would_be_shut_out(came: str, told: str) -> None:
    node = AccessNode(came=came)
    asked = {"ssh_from": ["10.0.0.0/24"], "fabric_peers": ["198.51.100.0/24"]}
    run(node, confirm=["firewall"], firewall=asked)
    assert bool(node.table) == (not told)
    if told:
        # By then SSH is proven, and of the rest is said what to do.
        node.came = came.replace("50000", "50001")
        with pytest.raises(NodeError) as refused:
            run(node, confirm=["firewall"], firewall=asked)
        assert told in refused.value.problem.fix and not node.table
    # Who looks from elsewhere sees what is there, and nothing to change.
    node.came = "10.0.0.9 50000 10.0.0.1 22"
    run(node, confirm=["firewall"], firewall=asked)
    assert "ip saddr { 10.0.0.0/24 } tcp dport { 22 } accept" in node.table and "192.0.2.7" not in node.table
    node.came = came
    found = states(declared(confirm=["firewall"], firewall=asked).plan(node))
    assert {state for name, state in found.items() if "firewall" in name} <= {"in_sync", "not_selected"}


@pytest.mark.parametrize(
    ("listening", "ports"),
    [
        ({}, "{ 22 }"),
        ({"listenaddress": "[::]:22 0.0.0.0:22"}, "{ 22 }"),
        ({"listenaddress": "0.0.0.0:22 10.0.0.1:2222", "port": "22"}, "{ 22, 2222 }"),
    ],
)
def test_every_port_that_sshd_listens_on_stays_open(monkeypatch, listening: dict[str, str], ports: str) -> None:
    monkeypatch.setattr(access_node, "COMPILED", {**access_node.COMPILED, **listening})
    node = AccessNode()
    run(node, confirm=["firewall"])
    assert f"tcp dport {ports} accept" in node.table


def test_who_may_come_without_a_key_is_not_locked_out_unnamed(monkeypatch) -> None:
    methods = {"authenticationmethods": "publickey,keyboard-interactive keyboard-interactive"}
    monkeypatch.setattr(access_node, "COMPILED", {**access_node.COMPILED, **methods})
    found = verdicts(declared().plan(AccessNode()))["ssh_keys_only"]
    assert found.blocked_by == "access_confirm: [ops]" and "asks for what is switched off" in found.reason


@pytest.mark.parametrize(
    ("methods", "asked"),
    [
        ("any", True),
        ("publickey", True),
        ("publickey,keyboard-interactive:pam", False),
    ],
)
def test_a_second_factor_beside_the_key_is_left_as_it_is(monkeypatch, methods: str, asked: bool) -> None:
    compiled = {"authenticationmethods": methods, "kbdinteractiveauthentication": "yes"}
    monkeypatch.setattr(access_node, "COMPILED", {**access_node.COMPILED, **compiled})
    node = AccessNode()
    run(node)
    assert ("KbdInteractiveAuthentication no" in node.files[ssh.DROPIN].text) == asked
    assert "PasswordAuthentication no" in node.files[ssh.DROPIN].text


@pytest.mark.parametrize("name", ["access/firewall_default", "access/firewall_ssh"])
def test_what_keeps_the_node_reachable_is_not_left_out_alone(name):
    with pytest.raises(InputError) as error:
        declared(skip_controls=[name])
    assert name in error.value.problem.found and "access_firewall: false" in error.value.problem.fix
    every = [one for one in CONTROLS if "firewall" in one]
    assert declared(skip_controls=every) and declared(skip_controls=[name], firewall={"enabled": False})


def test_a_file_that_the_running_server_has_not_read_is_named():
    node = AccessNode()
    run(node)
    node.came = AGAIN
    run(node)
    assert verdicts(declared().plan(node))["ssh_running"].state == "in_sync"
    # Another one was there for a while, and then ours again: what it says is right, and not in force.
    node.read_at = node.clock
    node.put(ssh.DROPIN, node.files[ssh.DROPIN].text, mode=0o600)
    found = verdicts(declared().plan(node))
    assert found["ssh_running"].state == "drifted" and ssh.DROPIN in found["ssh_running"].reason
    assert {name for name, control in found.items() if control.state == "drifted" and name.startswith("ssh")} == {
        "ssh_running"
    }
    assert "apply_ssh" in " ".join(step.text() for step in declared().plan(node).steps)
    # Who did not come by SSH cannot prove that there is a way in, whatever else there is to say.
    node.came = ""
    assert verdicts(declared().plan(node))["ssh_running"].reason.startswith("this run did not come by SSH")
    # Where systemd starts one for each login, that reads them anew.
    node.read_at = 0
    assert verdicts(declared().plan(node))["ssh_running"].state == "in_sync"


def test_a_file_of_a_clock_that_was_ahead_makes_no_run_fail():
    node = AccessNode()
    run(node)
    node.came = AGAIN
    node.files[ssh.MAIN].changed = time.time() + 86400
    found = verdicts(run(node))["ssh_running"]
    assert found.state == "unknown" and f"when {ssh.MAIN} changed" in found.reason


@pytest.mark.parametrize("place", ["running", "dormant"])
def test_what_the_command_line_of_the_server_says_counts(place):
    node = AccessNode()
    run(node)
    node.came = AGAIN
    option = "-o PermitRootLogin=yes -4"
    if place == "running":
        node.argv = f"sshd: /usr/sbin/sshd -D {option} [listener] 0 of 10-100 startups"
    else:
        node.put("/etc/default/ssh", f'SSHD_OPTS="{option}"\n')
        node.read_at = node.clock
    found = verdicts(declared().plan(node))["ssh_root"]
    assert (
        found.state == "drifted" and "the command line of ssh.service (SSHD_OPTS in /etc/default/ssh)" in found.reason
    )


@pytest.mark.parametrize(
    ("argv", "told"),
    [("/usr/sbin/sshd -D -f /srv/other", "it reads /srv/other"), ("/usr/sbin/sshd -D -y", "option -y not recognized")],
)
def test_a_server_that_goes_by_something_else_is_unknown(argv, told):
    node = AccessNode(argv=f"sshd: {argv} [listener] 0 of 10-100 startups")
    found = verdicts(declared().plan(node))["ssh_root"]
    assert found.state == "unknown" and told in found.reason


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"ssh": {"max_auth_tries": 0}}, "ssh.max_auth_tries"),
        ({"ssh": {"banner": "issue"}}, "ssh.banner"),
        ({"ssh": {"admins": ["a b"]}}, "ssh.admins"),
        ({"proof_seconds": 0}, "proof_seconds"),
        ({"firewall": {"ssh_from": ["home"]}}, "firewall.ssh_from"),
        ({"firewall": {"fabric_interfaces": ["e;x"]}}, "firewall.fabric_interfaces"),
        ({"firewall": {"fabric_interfaces": ["e"]}}, "firewall.fabric_peers"),
        ({"published": [{**SERVICE, "ports": ["70000"]}]}, "published"),
        ({"published": [{**SERVICE, "ports": ["9-8"]}]}, "published"),
        ({"published": [{**SERVICE, "ports": []}]}, "published"),
        ({"published": [{**SERVICE, "service": 'x" accept'}]}, "published"),
        ({"published": [{**SERVICE, "bind": "eth0"}]}, "published"),
    ],
)
def test_what_no_tool_would_take_is_refused_before_anything_is_looked_at(given: dict[str, Any], told: str):
    with pytest.raises(InputError) as error:
        declared(**given)
    assert error.value.problem.wanted.startswith(told)


def test_the_fake_kernel_shows_what_was_loaded():
    """The other tests rely on it; the real one is in tests/integration/nodes/test_access.py."""
    assert firewall.shown(shown("table inet nusy {\n}\n"))["firewall_ssh"] == []
