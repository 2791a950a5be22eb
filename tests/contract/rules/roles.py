# SPDX-License-Identifier: GPL-3.0-or-later
"""What every role has, and that its parts say the same."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import SparkError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._memory.parse import ALLOWED_GIB
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv import lock
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv.model import Stage
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv.parse import refuse_blocked
from ansible_collections.nusy.dgx_spark.plugins.module_utils._versions.judge import known_bad
from ansible_collections.nusy.dgx_spark.plugins.module_utils._versions.matrix import ROWS
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.ports import NAME as SERVICE
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.ports import OPTIONS as PORTS
from readme import (
    CATALOGUE,
    FAULTS,
    MATRIX,
    rendered,
    rendered_catalogue,
    rendered_faults,
    rendered_guide,
    rendered_matrix,
    rendered_ports,
)
from readme import PORTS as PORTS_GUIDE
from readme import SHARED as SHARED_TABLE

from rules import Task, Tree

FILES = (
    "README.md",
    "defaults/main.yml",
    "meta/main.yml",
    "meta/argument_specs.yml",
    "meta/controls.yml",
    "tasks/main.yml",
)
CONTROL_KEYS = {"id", "title", "severity", "rationale", "references", "remedy", "disrupts"}
SEVERITIES = ("critical", "high", "medium", "low", "info")
# One recommendation each, as the benchmark numbers them: a section is no reference, and a list is not found by search.
RECOMMENDATION = re.compile(r"CIS Ubuntu 24\.04 v1\.0\.0, [1-7](\.[0-9]+){2,4}")
# Run on the controller or decide only: they cost no call on a node.
FREE = {"import_tasks", "include_tasks", "import_role", "include_role", "meta", "assert", "fail", "debug", "set_fact"}
# Happens only on a host that is named, and only when it is owed: a node in sync pays nothing for it.
FREE |= {"reboot"}
FACTS = {"nusy.dgx_spark.spark_facts", "setup", "gather_facts"}
MOST_CALLS = 2
TAKEN = {"ansible", "spark"}
MAGIC = {"group_names", "inventory_hostname", "play_hosts", "playbook_dir", "role_name"}
# Judges the role that it is told, by aspects that are listed there.
PROBE, PROBED = "nusy.dgx_spark.inference_probe", "plugins/module_utils/_inference/probe.py"
# Modules that judge the controls of their role themselves, and where these are listed.
JUDGES = {
    "nusy.dgx_spark.access": "plugins/module_utils/_access/model.py",
    "nusy.dgx_spark.endpoints_probe": "plugins/module_utils/_engines/probes.py",
    "nusy.dgx_spark.cuda_toolchain": "plugins/module_utils/_cuda/model.py",
    "nusy.dgx_spark.kernel_tuning": "plugins/module_utils/_tuning/model.py",
    "nusy.dgx_spark.launchers": "plugins/module_utils/_suite/model.py",
    "nusy.dgx_spark.llama_cpp": "plugins/module_utils/_llama/subject.py",
    "nusy.dgx_spark.nvidia_toolkit": "plugins/module_utils/_nvidia/model.py",
    "nusy.dgx_spark.memory_guard": "plugins/module_utils/_guard/model.py",
    "nusy.dgx_spark.model_snapshot": "plugins/module_utils/_models/model.py",
    "nusy.dgx_spark.ptxas_environment": "plugins/module_utils/_ptxas/subject.py",
    "nusy.dgx_spark.updates": "plugins/module_utils/_updates/subject.py",
    "nusy.dgx_spark.vllm": "plugins/module_utils/_vllm/model.py",
    "nusy.dgx_spark.vllm_runtime": "plugins/module_utils/_runtime/model.py",
    "nusy.dgx_spark.vllm_venv": "plugins/module_utils/_venv/model.py",
}
# Of meta/engines.yml, and the role that adds up what the others publish.
ENGINE_KEYS = {"variable", "unit", "program", "served", "health", "presets", "kv_cache_gib"}
SUMS = {"memory_guard"}
# A shared input of the inventory with the default that the spec names, alone or as a part of a text.
SHARED = re.compile(r"(?P<before>[^{}]*)\{\{ *spark_[a-z0-9_]+ *\| *default\((?P<value>.*)\) *\}\}(?P<after>[^{}]*)\Z")


def role_has_every_part(tree: Tree) -> Iterator[str]:
    for role in tree.roles:
        for name in FILES:
            if not (role / name).exists():
                yield f"roles/{role.name}/{name} is missing"
        scenario = tree.root / "molecule" / role.name
        if not (scenario / "molecule.yml").exists():
            yield f"molecule/{role.name}/molecule.yml is missing: no scenario proves the role alone"
        elif not (scenario / "verify.yml").exists() and "verify" not in (scenario / "molecule.yml").read_text("utf-8"):
            yield f"molecule/{role.name} verifies nothing"


def defaults_and_specs_say_the_same(tree: Tree) -> Iterator[str]:
    for role in tree.roles:
        defaults: dict[str, Any] = tree.yaml(role / "defaults" / "main.yml") or {}
        options = tree.options(role)
        for name in sorted(defaults.keys() - options.keys()):
            yield f"roles/{role.name}: {name} is in defaults, not in argument_specs"
        for name, spec in options.items():
            if spec.get("required") or "default" not in spec:
                if name in defaults:
                    yield f"roles/{role.name}: {name} has a default, argument_specs names none"
            elif name not in defaults:
                yield f"roles/{role.name}: argument_specs gives {name} a default that defaults/main.yml does not"
            elif not _same(defaults[name], spec["default"]):
                yield f"roles/{role.name}: {name} is {defaults[name]!r} in defaults, {spec['default']!r} in the specs"
            if "description" not in spec or "type" not in spec or (spec["type"] == "list" and "elements" not in spec):
                yield f"roles/{role.name}: {name} lacks a description, a type or the type of its elements"
        if list(defaults) != [name for name in options if name in defaults]:
            yield f"roles/{role.name}: defaults/main.yml and argument_specs name the variables in different orders"


def _same(default: object, spec: object) -> bool:
    shared = SHARED.match(default) if isinstance(default, str) else None
    found = yaml.safe_load(shared["value"]) if shared else default
    if shared and shared["before"] + shared["after"]:
        found = f"{shared['before']}{found}{shared['after']}"
    return type(found) is type(spec) and found == spec


def readme_tables_are_current(tree: Tree) -> Iterator[str]:
    for role in tree.roles:
        if all((role / name).exists() for name in FILES):
            try:
                if rendered(role) != (role / "README.md").read_text("utf-8"):
                    yield f"roles/{role.name}/README.md: its tables are not those of the specs: run make docs"
            except ValueError as error:
                yield f"roles/{error}"
    if rendered_guide(tree.root) != (tree.root / SHARED_TABLE[1]).read_text("utf-8"):
        yield f"{SHARED_TABLE[1]}: its table is not that of {SHARED_TABLE[0]}: run make docs"
    if rendered_matrix(tree.root) != (tree.root / MATRIX).read_text("utf-8"):
        yield f"{MATRIX}: its tables are not the version matrix: run make docs"
    if rendered_faults(tree.root) != (tree.root / FAULTS).read_text("utf-8"):
        yield f"{FAULTS}: its table is not what the probe knows: run make docs"
    if rendered_ports(tree.root) != (tree.root / PORTS_GUIDE).read_text("utf-8"):
        yield f"{PORTS_GUIDE}: its table is not what roles publish: run make docs"
    if rendered_catalogue(tree.root) != (tree.root / CATALOGUE).read_text("utf-8"):
        yield f"{CATALOGUE}: it is not what the catalogues of the roles say: run make docs"


def variables_carry_the_name_of_their_role(tree: Tree) -> Iterator[str]:
    for role in tree.roles:
        for part, prefixes in (("defaults", (f"{role.name}_",)), ("vars", (f"__{role.name}_",))):
            for path in sorted((role / part).glob("*.yml")):
                for name in tree.yaml(path) or {}:
                    if not name.startswith(prefixes):
                        yield f"{tree.relative(path)}: {name} does not begin with {prefixes[0]}"
        for task in (*tree.role_tasks(role), *tree.role_handlers(role)):
            for name in _made(task):
                if not name.startswith(f"__{role.name}_"):
                    yield f"{task.where}: makes {name}, which does not begin with __{role.name}_"
    for task in tree.play_tasks():
        for name in _made(task):
            if not name.startswith(("__spark_", "spark_", "ansible_")):
                yield f"{task.where}: makes {name}, which does not begin with spark_ or __spark_"


def _made(task: Task) -> Iterator[str]:
    """The variables that a task brings into being. Input for an included role is that role's."""
    if "register" in task.body:
        yield str(task.body["register"])
    loop_var = (task.body.get("loop_control") or {}).get("loop_var")
    if loop_var:
        yield str(loop_var)
    if task.short == "set_fact":
        yield from (name for name in task.arguments if name != "cacheable")
    if task.short not in {"include_role", "import_role"}:
        yield from task.body.get("vars") or {}


def inventories_set_only_known_variables(tree: Tree) -> Iterator[str]:
    # Shared variables are documented like those of roles, at the root.
    known = {name for folder in (tree.root, *tree.roles) for name in tree.options(folder)}
    for path in sorted((tree.root / "inventories").glob("*/*_vars/**/*.yml")):
        for name in tree.yaml(path) or {}:
            if not name.startswith("ansible_") and name not in known:
                yield f"{tree.relative(path)}: {name} is no variable of any role, and no shared one"


def names_of_roles_take_nothing_from_ansible(tree: Tree) -> Iterator[str]:
    """Every variable that begins with the name of a role is its own, or an error."""
    for role in tree.roles:
        if role.name in TAKEN or any(name.startswith(f"{role.name}_") for name in MAGIC):
            yield f"roles/{role.name}: variables of Ansible begin with this name"


def shared_variables_are_documented(tree: Tree) -> Iterator[str]:
    known = tree.options(tree.root)
    for name in known:
        if not name.startswith("spark_"):
            yield f"meta/argument_specs.yml: {name} does not begin with spark_"
    for role in tree.roles:
        for path in sorted(role.glob("**/*.yml")):
            for name in sorted(set(re.findall(r"(?<![\w.])spark_\w+", path.read_text("utf-8"))) - set(known)):
                yield f"{tree.relative(path)}: uses {name}, which meta/argument_specs.yml does not document"


def catalogues_are_valid(tree: Tree) -> Iterator[str]:
    for role in tree.roles:
        seen: set[str] = set()
        for control in tree.controls(role):
            where = f"roles/{role.name}/meta/controls.yml: {control.get('id', 'a control without id')}"
            if control.keys() != CONTROL_KEYS:
                yield f"{where}: has the keys {sorted(control)}, wanted are {sorted(CONTROL_KEYS)}"
                continue
            if not re.fullmatch(rf"{role.name}/[a-z][a-z0-9_]*", control["id"]):
                yield f"{where}: is not {role.name}/<name in snake_case>"
            if control["id"] in seen:
                yield f"{where}: is there twice"
            seen.add(control["id"])
            if control["severity"] not in SEVERITIES:
                yield f"{where}: severity {control['severity']} is none of {', '.join(SEVERITIES)}"
            if not control["references"] or not all(isinstance(text, str) and text for text in control["references"]):
                yield f"{where}: names no reference"
            for text in map(str, control["references"] or []):
                if "CIS" in text and not RECOMMENDATION.fullmatch(text):
                    yield f"{where}: {text} is not one recommendation of the benchmark, as in {RECOMMENDATION.pattern}"
            for key in ("title", "rationale", "remedy"):
                if not isinstance(control[key], str) or not control[key].strip():
                    yield f"{where}: {key} is empty"
            if not isinstance(control["disrupts"], str):
                yield f"{where}: disrupts is not text"
            if set(re.findall(r"\{[^}]*\}", str(control["remedy"]))) - {"{host}"}:
                yield f"{where}: the remedy has a placeholder other than {{host}}"
            for tags in re.findall(r"--tags[ =](\S+)", str(control["remedy"])):
                if unknown := set(tags.split(",")) - _tags(tree):
                    yield f"{where}: the remedy names the tag {', '.join(sorted(unknown))}, which no play has"


def _tags(tree: Tree) -> set[str]:
    found = {"always"}
    for _where, play in tree.plays:
        for item in (play, *(role for role in play.get("roles") or [] if isinstance(role, dict))):
            tags = item.get("tags") or []
            found |= {tags} if isinstance(tags, str) else set(tags)
    return found


def catalogue_is_what_the_role_ensures(tree: Tree) -> Iterator[str]:
    """Ids stand as they are in the tasks or vars: a computed id could not be promised."""
    for role in tree.roles:
        promised = {str(control.get("id")) for control in tree.controls(role)}
        declared: set[str] = set()
        owns_files = False
        for document in _documents(tree, role):
            for control in document:
                declared.add(str(control.get("id")))
                owns_files = owns_files or bool(control.get("files"))
        if owns_files:  # reported by ensure_state itself for a line that nobody declared
            declared.add(f"{role.name}/file_extra")
        for task in tree.role_tasks(role):
            if task.module in JUDGES:
                declared.update(_constant(tree.root / JUDGES[task.module], "CONTROLS"))
            if task.module == PROBE and task.arguments.get("role") == role.name:
                declared.update(f"{role.name}/{aspect}" for aspect in _constant(tree.root / PROBED, "ASPECTS"))
        for name in sorted(declared - promised):
            yield f"roles/{role.name}: {name} is ensured, but not in meta/controls.yml"
        for name in sorted(promised - declared):
            yield f"roles/{role.name}: {name} is in meta/controls.yml, but no call ensures it"


def _constant(path: Path, name: str) -> tuple[str, ...]:
    """A tuple of strings that a source file assigns, read and not run."""
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
            return tuple(ast.literal_eval(node.value))
    return ()


def _documents(tree: Tree, role: Path) -> Iterator[list[dict[str, Any]]]:
    variables: dict[str, Any] = {}
    for path in sorted((role / "vars").glob("*.yml")):
        variables |= tree.yaml(path) or {}
    for task in tree.role_tasks(role):
        if task.module == "nusy.dgx_spark.ensure_state":
            document = task.arguments.get("controls")
            named = re.fullmatch(r"\{\{ *(\w+) *\}\}", document) if isinstance(document, str) else None
            yield (variables.get(named[1]) or []) if named else document if isinstance(document, list) else []


def roles_make_few_calls(tree: Tree) -> Iterator[str]:
    for role in tree.roles:
        calls = [
            task.module
            for task in tree.role_tasks(role)
            if task.module and task.short not in FREE and task.module not in FACTS and task.short not in FACTS
        ]
        if len(calls) > MOST_CALLS:
            yield f"roles/{role.name} makes {len(calls)} calls per host ({', '.join(calls)}), {MOST_CALLS} are allowed"


def ensure_state_names_its_role(tree: Tree) -> Iterator[str]:
    for role in tree.roles:
        for task in tree.role_tasks(role):
            if task.module == "nusy.dgx_spark.ensure_state" and task.arguments.get("role") != role.name:
                yield f"{task.where}: says it is role {task.arguments.get('role')}"


def roles_stand_alone(tree: Tree) -> Iterator[str]:
    """No hidden dependency, and nothing it does knows a group: both belong to playbooks and inventories."""
    for role in tree.roles:
        if (tree.yaml(role / "meta" / "main.yml") or {}).get("dependencies"):
            yield f"roles/{role.name}/meta/main.yml: depends on other roles"
        for path in sorted(role.glob("**/*.y*ml")):
            if re.search(r"\bgroup_names\b|\bgroups\s*(\[|\.)", path.read_text("utf-8")):
                yield f"{tree.relative(path)}: knows a group of the inventory"
        for task in tree.role_tasks(role):
            if task.short in {"include_role", "import_role"}:
                yield f"{task.where}: calls another role"


def every_role_is_played(tree: Tree) -> Iterator[str]:
    played: dict[str, set[str]] = {}
    for where, play in tree.plays:
        for item in play.get("roles") or []:
            full = str(item["role"] if isinstance(item, dict) else item)
            tags = item.get("tags", []) if isinstance(item, dict) else []
            name = full.removeprefix("nusy.dgx_spark.")
            played.setdefault(name, set()).update([tags] if isinstance(tags, str) else tags)
            if not full.startswith("nusy.dgx_spark."):
                yield f"{where}: {full} is not named in full"
            elif name not in tree.role_names:
                yield f"{where}: there is no role {name}"
    for role in tree.roles:
        if role.name not in played:
            yield f"roles/{role.name} is in no playbook"
        elif role.name not in played[role.name]:
            yield f"roles/{role.name} has no play in which its tag is its name"


def ports_are_published(tree: Tree) -> Iterator[str]:
    """Preflight tells clashes by what roles publish, and a firewall opens nothing else."""
    for role in tree.roles:
        options, entries = tree.options(role), (tree.yaml(role / "meta" / "ports.yml") or {}).get("ports") or []
        where = f"roles/{role.name}/meta/ports.yml"
        read = set(re.findall(r"\w+", repr(entries)))
        for name in options:
            if re.search(r"_ports?\Z", name) and name not in read:
                yield f"{where}: does not publish {name}"
        for name in sorted(read):
            if name.startswith(f"{role.name}_") and name not in options:
                yield f"{where}: reads {name}, which is no variable of the role"
        seen = set()
        for entry in entries:
            service = str(entry.get("service"))
            if service in seen or not SERVICE.fullmatch(service):
                yield f"{where}: {service} is there twice, or no name"
            seen.add(service)
            if unknown := entry.keys() - PORTS.keys() - {"service", "when"}:
                yield f"{where}: {service} has {', '.join(sorted(unknown))}, which nobody reads"
            if missing := {name for name, option in PORTS.items() if option.get("required")} - entry.keys():
                yield f"{where}: {service} lacks {', '.join(sorted(missing))}"


def engines_are_published(tree: Tree) -> Iterator[str]:
    """An engine that is declared for its role alone would be in no budget of memory."""
    for role in tree.roles:
        options, where = tree.options(role), f"roles/{role.name}/meta/engines.yml"
        said = tree.yaml(role / "meta" / "engines.yml") or {}
        variable, presets = said.get("variable"), role / str(said.get("presets", "meta/engines.yml"))
        for name in options:
            if re.search(r"_(engines|workers)\Z", name) and name != variable and role.name not in SUMS:
                yield f"{where}: does not publish {name}"
        if said and (variable not in options or said.get("program") not in ALLOWED_GIB or not presets.is_file()):
            yield f"{where}: names a variable, a program or a file that is not there"
        if said and not re.fullmatch(r"[^{]*\{name\}[^{]*\.service", str(said.get("unit"))):
            yield f"{where}: its unit is no service with {{name}} in it"
        if said and not said.get("served"):
            yield f"{where}: does not say by which word an engine names its model to clients (served)"
        if said and not re.fullmatch(r"unit|http://127\.0\.0\.1:\{port\}/[a-z]+", str(said.get("health"))):
            yield f"{where}: nothing tells when it has loaded (health)"
        if unknown := said.keys() - ENGINE_KEYS:
            yield f"{where}: has {', '.join(sorted(unknown))}, which nobody reads"


def what_is_published_counts_where_its_role_is_played(tree: Tree) -> Iterator[str]:
    """Engines that are declared for all hosts are in the budget of those alone on which a playbook runs them."""
    played: dict[str, set[str]] = {}
    for _where, play in tree.plays:
        for entry in play.get("roles") or []:
            name = str(entry["role"] if isinstance(entry, dict) else entry).removeprefix("nusy.dgx_spark.")
            played.setdefault(name, set()).update(str(play["hosts"]).split(":"))
    for role in tree.roles:
        where = f"roles/{role.name}/meta/groups.yml"
        said = tree.yaml(role / "meta" / "groups.yml")
        if said is None:
            if any((role / "meta" / name).is_file() for name in ("ports.yml", "engines.yml")):
                yield f"{where} is missing: the role publishes, and nobody knows where that counts"
        elif said != {"groups": sorted(played.get(role.name, ()))}:
            yield f"{where}: playbooks run the role on hosts of {', '.join(sorted(played.get(role.name, ())))}"


def no_lock_holds_a_blocked_release(tree: Tree) -> Iterator[str]:
    """Judged by the module's own code, for every lock that the tree ships."""
    for role in tree.roles:
        for path in sorted((role / "files").glob("**/*.lock")):
            try:
                pins = lock.parse(path.read_text("utf-8"), tree.relative(path))
                refuse_blocked((Stage("any", pins),), known_bad(ROWS))
            except SparkError as error:
                yield f"{tree.relative(path)}: {error.problem.found}: {error.problem.why}"


RULES = (
    no_lock_holds_a_blocked_release,
    role_has_every_part,
    defaults_and_specs_say_the_same,
    readme_tables_are_current,
    variables_carry_the_name_of_their_role,
    inventories_set_only_known_variables,
    names_of_roles_take_nothing_from_ansible,
    shared_variables_are_documented,
    catalogues_are_valid,
    catalogue_is_what_the_role_ensures,
    roles_make_few_calls,
    ensure_state_names_its_role,
    roles_stand_alone,
    every_role_is_played,
    ports_are_published,
    engines_are_published,
    what_is_published_counts_where_its_role_is_played,
)
