# SPDX-License-Identifier: GPL-3.0-or-later
"""What no task does: whatever would hide a state, guess one, or make check mode lie."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from rules import Tree

COMMANDS = {"command", "shell", "raw", "script", "expect"}
PATCHERS = {"lineinfile", "blockinfile", "replace"}
MOST_CONDITIONS = 2
SITE, IMPORT = "playbooks/site.yml", "ansible.builtin.import_playbook"


def failures_are_not_ignored(tree: Tree) -> Iterator[str]:
    for task in tree.all_tasks():
        for key in ("ignore_errors", "ignore_unreachable"):
            if task.body.get(key):
                yield f"{task.where}: {key} hides what went wrong"
        if task.body.get("failed_when") is False:
            yield f"{task.where}: failed_when: false hides what went wrong"


def check_mode_skips_no_state(tree: Tree) -> Iterator[str]:
    for task in tree.all_tasks():
        conditions = task.body.get("when", [])
        for condition in conditions if isinstance(conditions, list) else [conditions]:
            if not task.handler and re.search(r"\bnot\s+\(?\s*ansible_check_mode\b", str(condition)):
                yield f"{task.where}: is skipped in check mode, so a check says nothing about it"


def commands_only_read(tree: Tree) -> Iterator[str]:
    for task in tree.all_tasks():
        if task.short in COMMANDS and (
            task.body.get("check_mode") is not False or task.body.get("changed_when") is not False
        ):
            yield f"{task.where}: {task.short} without check_mode: false and changed_when: false"


def nobody_becomes_a_user_of_the_run(tree: Tree) -> Iterator[str]:
    for task in tree.all_tasks():
        if "become_user" in task.body:
            yield f"{task.where}: become_user fails in check mode for a user that the run makes"
    for where, play in tree.plays:
        if "become_user" in play:
            yield f"{where}: become_user fails in check mode for a user that the run makes"


def files_are_owned_whole(tree: Tree) -> Iterator[str]:
    for task in tree.all_tasks():
        if task.short in PATCHERS:
            yield f"{task.where}: {task.short} leaves what else is in the file unjudged"


def inputs_are_not_overwritten(tree: Tree) -> Iterator[str]:
    inputs = {name for role in tree.roles for name in tree.options(role)}
    for task in tree.all_tasks():
        if task.short == "set_fact":
            for name in sorted(inputs & task.arguments.keys()):
                yield f"{task.where}: sets {name}, which is an input"


def conditions_are_short(tree: Tree) -> Iterator[str]:
    for task in tree.all_tasks():
        conditions = task.body.get("when", [])
        listed = conditions if isinstance(conditions, list) else [conditions]
        count = sum(1 + len(re.findall(r"\s(?:and|or)\s", str(condition))) for condition in listed)
        if count > MOST_CONDITIONS:
            yield f"{task.where}: has {count} conditions; name them in vars, or write a filter with a test"


def controls_are_not_censored(tree: Tree) -> Iterator[str]:
    for task in tree.all_tasks():
        if task.body.get("no_log") and task.module.startswith("nusy.dgx_spark."):
            yield f"{task.where}: no_log censors its controls; secrets have their own option"


def handlers_have_unique_names(tree: Tree) -> Iterator[str]:
    names = Counter(str(task.body.get("name")) for task in tree.all_tasks() if task.handler)
    for name, count in names.items():
        if count > 1:
            yield f"{count} handlers are called {name}"


def layers_can_be_run_alone(tree: Tree) -> Iterator[str]:
    """Each begins with the preflight, which judges all its hosts, and is selected by the name of its file as a tag."""
    judged = {
        host
        for where, play in tree.plays
        if where == "playbooks/preflight.yml"
        for host in str(play["hosts"]).partition("{{")[0].split(":")
    }
    of_site = [play.get("import_playbook") or play.get(IMPORT) for where, play in tree.plays if where == SITE]
    for name in of_site:
        plays = [play for where, play in tree.plays if where == f"playbooks/{name}"]
        if not plays or "preflight.yml" not in (plays[0].get("import_playbook"), plays[0].get(IMPORT)):
            yield f"playbooks/{name}: does not begin with the preflight"
        for play in plays[1:]:
            if unjudged := set(str(play["hosts"]).split(":")) - judged:
                yield f"playbooks/{name}: the preflight does not judge {', '.join(sorted(unjudged))}"
            if play.get("tags") != [str(name).removesuffix(".yml")]:
                yield f"playbooks/{name}: the tag of play {play.get('name')} is not the name of the layer"
            for role in play.get("roles") or ():
                if role.get("tags") != [role["role"].rpartition(".")[2]]:
                    yield f"playbooks/{name}: the tag of {role['role']} is not its name"


RULES = (
    layers_can_be_run_alone,
    failures_are_not_ignored,
    check_mode_skips_no_state,
    commands_only_read,
    nobody_becomes_a_user_of_the_run,
    files_are_owned_whole,
    inputs_are_not_overwritten,
    conditions_are_short,
    controls_are_not_censored,
    handlers_have_unique_names,
)
