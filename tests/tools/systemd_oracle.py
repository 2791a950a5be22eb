# SPDX-License-Identifier: GPL-3.0-or-later
"""systemd's own parsers, asked without systemd as PID 1.

`python systemd_oracle.py` answers JSON lines: {"environment": text} with the variables that
a service would get, {"command": text} with the arguments it would be started with. It calls
the functions that PID 1 calls (load_env_file and strv_env_clean of libsystemd-shared,
config_parse_exec and replace_env_argv around it), in a process of its own: a wrong guess
about a private C interface may crash, and must not take the tests with it.

The interfaces are private to systemd and were read for the version named in VERSIONS; with
any other the oracle says so and answers nothing. Nodes in tests/integration/nodes prove the
same on whole systems of other versions.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import tempfile
from pathlib import Path

VERSIONS = ("252",)
PLACES = ("/usr/lib/x86_64-linux-gnu/systemd", "/usr/lib/aarch64-linux-gnu/systemd", "/usr/lib/systemd")


def libraries() -> tuple[Path, Path] | None:
    for place in map(Path, PLACES):
        for version in VERSIONS:
            pair = place / f"libsystemd-shared-{version}.so", place / f"libsystemd-core-{version}.so"
            if all(path.exists() for path in pair):
                return pair
    return None


def strings(vector: ctypes.Array[ctypes.c_char_p] | ctypes._Pointer[ctypes.c_char_p]) -> list[str]:
    found: list[str] = []
    index = 0
    while vector and (item := vector[index]) is not None:
        found.append(item.decode("utf-8", "surrogateescape"))
        index += 1
    return found


class Oracle:
    def __init__(self, shared: Path, core: Path) -> None:
        self.shared = ctypes.CDLL(str(shared))
        self.core = ctypes.CDLL(str(core))
        for name in ("log_set_max_level",):
            getattr(self.shared, name)(ctypes.c_int(0))
        for name in ("strv_env_clean_with_callback", "replace_env_argv"):
            getattr(self.shared, name).restype = ctypes.POINTER(ctypes.c_char_p)
        self.folder = tempfile.mkdtemp(prefix="systemd-oracle-")
        self.unit: ctypes.c_void_p | None = None

    def environment(self, text: str) -> dict[str, str] | None:
        path = Path(self.folder, "env")
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        vector = ctypes.POINTER(ctypes.c_char_p)()
        if self.shared.load_env_file(None, str(path).encode(), ctypes.byref(vector)) < 0:
            return None
        clean = self.shared.strv_env_clean_with_callback(vector, None, None)
        return dict(entry.split("=", 1) for entry in strings(clean))

    def command(self, text: str) -> list[str] | None:
        """One ExecStart= line: [program, arguments…]; None when systemd refuses it."""
        if self.unit is None:
            self.unit = self._service()
        # struct ExecCommand begins with path and argv; the parser appends to the list at *head.
        head = ctypes.POINTER(ctypes.c_void_p)()
        code = self.core.config_parse_exec(
            b"oracle.service", b"oracle", 1, b"Service", 1, b"ExecStart", 0, text.encode(),
            ctypes.byref(head), self.unit,
        )  # fmt: skip
        if code < 0 or not head:
            return None
        path = ctypes.cast(head[0], ctypes.c_char_p).value or b""
        argv = ctypes.cast(head[1], ctypes.POINTER(ctypes.c_char_p))
        variables = (ctypes.c_char_p * 3)(b"HOME=/home/wrong", b"x=wrong", None)
        replaced = strings(self.shared.replace_env_argv(argv, variables))
        return [path.decode(), *replaced[1:]]

    def _service(self) -> ctypes.c_void_p:
        os.environ["XDG_RUNTIME_DIR"] = self.folder
        manager, unit = ctypes.c_void_p(), ctypes.c_void_p()
        user_scope, minimal_test_run = 2, 1
        code = self.core.manager_new(user_scope, minimal_test_run, ctypes.byref(manager))
        if code < 0:
            raise OSError(-code, "manager_new")
        # The size of a Service is private too: room for a bigger one than any version has.
        code = self.core.unit_new_for_name(manager, ctypes.c_size_t(1 << 16), b"oracle.service", ctypes.byref(unit))
        if code < 0:
            raise OSError(-code, "unit_new_for_name")
        return unit


def main() -> int:
    found = libraries()
    if found is None:
        print(json.dumps({"unavailable": f"no libsystemd-shared and libsystemd-core of version {VERSIONS}"}))
        return 0
    oracle = Oracle(*found)
    print(json.dumps({"libraries": [path.name for path in found]}), flush=True)
    for line in sys.stdin:
        ((question, text),) = json.loads(line).items()
        print(json.dumps(getattr(oracle, question)(text)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
