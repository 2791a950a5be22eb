# SPDX-License-Identifier: GPL-3.0-or-later
"""The board: what an operator sees first, in 80 columns, without colour, from any node."""

import copy
import re

import pytest
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.render import text
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.render.console import render
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.render.markdown import render as markdown
from ansible_collections.nusy.dgx_spark.tests.tools import drift_reports

DEMO = drift_reports.demo()


def incomplete():
    report = copy.deepcopy(DEMO)
    report["run"] |= {"complete": False, "incomplete_reason": "interrupted from the keyboard"}
    return report


def test_the_first_line_says_what_matters():
    assert render(DEMO).startswith("DRIFT on 4 of 6 hosts, not all known on 4 of 6 hosts\n")
    assert render(drift_reports.clean()).startswith("CLEAN spark-1 as declared\n")


def test_an_incomplete_run_is_shouted_first():
    assert render(incomplete()).startswith("THE RUN IS INCOMPLETE: interrupted from the keyboard\nINCOMPLETE drift on")


def test_a_finding_has_change_cause_age_and_one_remedy():
    board = render(DEMO)
    assert "  CRITICAL ptxas/assembler  Triton finds an assembler that knows sm_121\n" in board
    assert "           knows sm_121: no -> yes\n" in board
    assert "           why: the node moved since it was last applied, for 3 days\n" in board
    assert "           why: blocked until you name it: storage_raid_confirm_serials:\n" in board
    assert board.count("ansible-playbook site.yml --tags ptxas --limit spark-1\n") == 1
    assert "careful: restarts vLLM" in board


def test_unknown_controls_of_one_reason_are_one_entry():
    assert "  unknown  needs root  (9 controls)\n" in render(DEMO)
    assert render(DEMO).count("needs root") == 1


def test_what_hosts_share_is_said_once():
    board = render(DEMO)
    assert "4 hosts  spark-1, spark-2, spark-3, spark-4\n" in board
    assert board.count("vm.swappiness: 60 -> 10") == 1
    assert "spark-3  1 drifted, 9 unknown, 26 in sync (1 of them above)" in board


def test_hosts_that_were_not_seen_are_named_with_the_reason():
    board = render(DEMO)
    assert "UNREACHABLE 1 host  spark-5\n" in board
    assert "No route to host" in board
    assert "  STOPPED  failed at cuda_toolchain : Ensure the toolkit\n" in board


def test_waived_controls_come_last_with_their_terms():
    board = render(DEMO)
    waived = board.index("os_hardening/auditd on spark-1 until 2026-03-31 (lab operations)")
    assert waived > board.index("needs root")


def test_worst_comes_first():
    board = render(DEMO)
    places = [
        board.index(word) for word in ("UNREACHABLE", "STOPPED", "ptxas/assembler", "sshd_password", "swappiness")
    ]
    assert places == sorted(places)


def test_repairs_come_in_the_order_of_the_plays():
    """The worst is told first, but what it builds on has to be repaired before it."""
    report = drift_reports.clean()
    severities = {"roots/first": "low", "engine/second": "critical", "roots/third": "high"}
    report["catalogue"] = {
        name: {
            "id": name, "role": name.partition("/")[0], "title": name, "severity": severity,
            "remedy": f"ansible-playbook site.yml --tags {name.partition('/')[0]} --limit {{host}}",
        }
        for name, severity in severities.items()
    }  # fmt: skip
    report["hosts"][0]["controls"] = [{"id": name, "state": "drifted"} for name in severities]
    board = render(report)
    assert board.index("engine/second") < board.index("roots/third") < board.index("roots/first")
    assert board.index("--tags roots") < board.index("--tags engine")
    assert board.count("--tags roots") == 1


def test_repaired_controls_are_told_after_a_real_run():
    report = drift_reports.clean()
    report["run"]["mode"] = "apply"
    report["hosts"][0]["controls"][0] |= {
        "repaired": True,
        "before": {"package jq": "absent"},
        "after": {"package jq": "installed"},
    }
    board = render(report)
    assert board.startswith("CLEAN spark-1 as declared\n")
    assert "1 repaired in this run" in board
    assert "repaired 1: prereqs/packages" in board


@pytest.mark.parametrize("unicode", [False, True])
@pytest.mark.parametrize("report", [DEMO, incomplete(), drift_reports.fleet(60, 40, 9)])
def test_it_fits_80_columns(report, unicode):
    # The one exception is a command whose host list has no place to break it.
    wide = [line for line in render(report, unicode=unicode).splitlines() if text.width(line) > 80]
    assert [line for line in wide if "," not in line or " " in line.strip()] == []


def test_colour_is_only_there_when_asked_and_says_nothing_of_its_own():
    coloured = render(DEMO, color=True)
    assert "\x1b" not in render(DEMO)
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == render(DEMO)


def test_without_unicode_it_is_ascii():
    report = drift_reports.clean()
    report["hosts"][0]["name"] = "spärk"
    assert render(report).isascii()
    assert "sp\\xe4rk" in render(report)
    assert "spärk" in render(report, unicode=True)


@pytest.mark.parametrize("hosts", [1, 40, 400])
def test_a_fleet_fits_on_a_bounded_board(hosts):
    lines = render(drift_reports.fleet(hosts, 60, 12), more="build/drift/index.html").splitlines()
    assert len(lines) <= 200
    assert lines[-1].endswith("details: build/drift/index.html")


def test_what_did_not_fit_is_counted():
    board = render(drift_reports.fleet(400, 60, 12), most_lines=60)
    assert re.search(r"^[1-9]\d* more hosts or shared findings did not fit: index.html$", board, re.M)


@pytest.mark.parametrize("unicode", [False, True])
def test_hostile_output_cannot_reach_the_terminal(unicode):
    board = render(drift_reports.hostile(), unicode=unicode, most_lines=10_000)
    assert all(line.isprintable() for line in board.split("\n"))
    assert "\\x1b]52;c;" in board


def test_a_hostile_host_name_is_quoted_in_the_command():
    assert "'??touch??tmp?pwned????id??id?'" in render(drift_reports.hostile(), columns=140, most_lines=10_000)


def test_machines_that_are_all_the_same_are_told_once():
    board = render(drift_reports.site())
    assert board.count("NVIDIA GB10") == 1
    assert board.index("NVIDIA GB10") < board.index("UNREACHABLE")


def test_advice_is_not_printed_as_a_command():
    board = render(drift_reports.site())
    assert "  repair   Upgrade Triton (3.6 and later bring a ptxas for this GPU), or install\n" in board
    assert """\n           --limit spark-4 -e '{"prereqs_confirm": ["/opt/nusy"]}'\n""" in board


def test_a_report_that_knows_nothing_says_so():
    report = copy.deepcopy(drift_reports.clean())
    for control in report["hosts"][0]["controls"]:
        control |= {"state": "unknown", "reason": "needs root"}
    assert render(report).startswith("NOTHING KNOWN on spark-1, no drift seen\n")


def test_a_repair_says_which_variables_of_the_run_it_needs():
    report = copy.deepcopy(DEMO)
    assert "add the -e" not in render(report)
    report["run"]["variables"] = ["prereqs_skip_controls", "site"]
    assert "add the -e of this run: prereqs_skip_controls, site\n" in render(report)
    assert "given `prereqs_skip_controls`, `site` with `-e`" in markdown(report)
