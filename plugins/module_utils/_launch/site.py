# SPDX-License-Identifier: GPL-3.0-or-later
"""What a launcher knows: the proven paths, the environment of services, and who called it.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import os
import pwd
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.command import SYSTEM_PATH
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.redact import HIDDEN
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import HostReader
from ansible_collections.nusy.dgx_spark.plugins.module_utils._text.systemd import parse_environment

PATHS = "/etc/nusy/paths.env"
ENVIRONMENTS = ("/etc/nusy/vllm.env", "/etc/nusy/ptxas.env")
# For the launchers themselves; no program knows them.
OWN = "NUSY_"
# What the manager of a service says to its process, and secrets, which no file of ours holds.
HANDED_ON = (
    "CREDENTIALS_DIRECTORY", "INVOCATION_ID", "JOURNAL_STREAM", "LISTEN_FDNAMES", "LISTEN_FDS", "LISTEN_PID",
    "NOTIFY_SOCKET", "RUNTIME_DIRECTORY", "TMPDIR", "WATCHDOG_PID", "WATCHDOG_USEC", "XDG_RUNTIME_DIR",
)  # fmt: skip
SECRETS = ("HF_TOKEN", "VLLM_API_KEY", "LLAMA_API_KEY")
# Name of the credential that a unit gives its engine (LoadCredential=), systemd.exec(5).
API_KEY = "api-key"
SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|(?:^|_)KEY(?:$|_)|API_?KEY", re.IGNORECASE)


@dataclass(frozen=True)
class Check:
    """One precondition. ``problem`` empty: it holds, as ``found`` says. ``fix``: what to do."""

    name: str
    found: str
    problem: str = ""
    why: str = ""
    fix: str = ""


@dataclass(frozen=True)
class Site:
    """paths: of paths.env. variables: of the environment files, the later one wins. suite: this program."""

    paths_file: str = PATHS
    paths: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    caller: Mapping[str, str] = field(default_factory=dict)
    suite: str = ""
    checks: tuple[Check, ...] = ()  # of the files themselves

    def environment(self, binary: str, own: Mapping[str, str]) -> dict[str, str]:
        """All that the program gets. The caller's PATH, PYTHON… and LD_… are not among it.

        Engines start nvcc and ninja by name: so the folders of the program and of the toolkit come
        first, both proven, then those of the system.
        """
        folders = [os.path.dirname(self.paths[name]) for name in (binary, "NVCC_BIN") if name in self.paths]
        account = _account()
        return {
            "PATH": ":".join([*dict.fromkeys(folders), SYSTEM_PATH]),
            "HOME": account.pw_dir if account else "/",
            **({"USER": account.pw_name, "LOGNAME": account.pw_name} if account else {}),
            "LANG": "C.UTF-8",
            **{name: self.caller[name] for name in (*HANDED_ON, *SECRETS) if name in self.caller},
            **{name: value for name, value in self.variables.items() if not name.startswith(OWN)},
            **own,
        }


def look(paths_file: str, environments: Iterable[str], caller: Mapping[str, str], suite: str = "") -> Site:
    """Reads the files; what is wrong with one of them is a check that fails."""
    problem, paths = _read(paths_file)
    checks = [_file("paths", paths_file, problem, "role launchers")]
    variables: dict[str, str] = {}
    for path in environments:
        problem, found = _read(path)
        variables.update(found)
        role = "role ptxas" if os.path.basename(path) == "ptxas.env" else "role vllm_runtime"
        checks.append(_file(f"environment {os.path.basename(path)}", path, problem, role))
    return Site(paths_file, paths, variables, caller, suite, tuple(checks))


def api_key(caller: Mapping[str, str]) -> tuple[str, Check | None]:
    """The credential of the unit, and whether it is one; neither where the unit has none.

    One that is empty or of two lines would leave the engine open, or with another key than its clients have.
    """
    folder = caller.get("CREDENTIALS_DIRECTORY", "")
    if not folder:
        return "", None
    path, problem, key = f"{folder}/{API_KEY}", "", ""
    try:
        with open(path, encoding="utf-8") as handle:
            key = handle.read().rstrip("\n")
        if not key or not key.isprintable() or key != key.strip():
            problem, key = f"{path} is not one line of text", ""
    except FileNotFoundError as error:
        if os.path.isdir(folder):
            return "", None
        # A manager that could not give what it says must not end in an engine that is open.
        problem = f"{folder}: {error.strerror}"
    except (OSError, UnicodeError) as error:
        problem = f"{path}: {getattr(error, 'strerror', None) or 'no text'}"
    why = "an engine without it would answer everybody who reaches its port"
    return key, Check("api key", path, problem, why, "write one line into the file that LoadCredential= names")


def binary(site: Site, name: str) -> Check:
    """One program of paths.env, as it is now: proven once does not mean there today."""
    path = site.paths.get(name, "")
    problem = "" if path else f"{site.paths_file} does not name it: it was not proven on this node"
    if path:
        problem = _unusable(path)
    return Check(
        f"binary {name}",
        path,
        problem,
        "nothing else is started in its place: a program found by luck is another program",
        "apply role launchers, whose report says what is wrong with it",
    )


def shown(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: HIDDEN if SECRET.search(name) else value for name, value in sorted(environment.items())}


def _unusable(path: str) -> str:
    if not path.startswith("/"):
        return f"{path!r} is not an absolute path"
    try:
        found = os.stat(path)
    except OSError as error:
        return f"{path}: {error.strerror}"
    if not stat.S_ISREG(found.st_mode):
        return f"{path} is not a regular file"
    if found.st_mode & stat.S_IWOTH:
        return f"{path} can be written to by everybody"
    return "" if os.access(path, os.X_OK) else f"{path} may not be executed by this user"


def _read(path: str) -> tuple[str, dict[str, str]]:
    """(problem, content). A file that somebody else can write to would choose what is started here."""
    try:
        found = os.stat(path)
        if found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o022:
            return f"{path} can be written to by others than root", {}
        return "", parse_environment(HostReader().read(path) or "")
    except OSError as error:
        return f"{path}: {error.strerror}", {}
    except Unreadable as error:
        return str(error), {}


def _file(name: str, path: str, problem: str, role: str) -> Check:
    return Check(name, path, problem, "a start without it would be another one than declared", f"apply {role}")


def _account() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(os.geteuid())
    except KeyError:
        return None
