# SPDX-License-Identifier: GPL-3.0-or-later
"""What both forms of the demo say and run, and where all of it is left."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / "build" / "demo"
REPORT = PLACE / "report.json"
# Of modules that run on this machine: they would leave one in the home.
TMP = PLACE / "ansible" / "modules"
STOP_SECONDS = 10
# What is shown of a command that failed; the transcript has the rest.
LINES, LINE = 20, 300


class Ended(Exception):
    """Why the demo cannot go on, and what to do."""


class Transcript:
    """What is said, on the terminal and in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: TextIO = path.open("w", encoding="utf-8")
        self._begun = time.monotonic()

    def say(self, line: str) -> None:
        text = f"{time.monotonic() - self._begun:6.1f} s  {line}"
        print(text, flush=True)
        self._file.write(f"{text}\n")
        self._file.flush()

    def run(self, argv: Sequence[str | Path], seconds: float, **env: str) -> str:
        """All that it says is for the file, its last lines for who has to mend it."""
        words = [str(word) for word in argv]
        self._file.write(f"\n$ {shlex.join(words).replace(f'{ROOT}/', '')}\n")
        self._file.flush()
        begin = self.path.stat().st_size
        process = subprocess.Popen(
            [*_mortal(), *words], cwd=ROOT, env={**os.environ, **_inside(), **env},
            stdin=subprocess.DEVNULL, stdout=self._file, stderr=self._file,
        )  # fmt: skip
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Ended(f"{Path(words[0]).name} was still running after {seconds:g} s, and was stopped") from None
        finally:
            end(process)
            # It wrote by a handle of its own.
            self._file.seek(0, os.SEEK_END)
        with self.path.open(encoding="utf-8", errors="replace") as file:
            file.seek(begin)
            said = file.read()
        if code:
            last = [line[:LINE] for line in said.splitlines()[-LINES:]]
            raise Ended("\n".join([f"{Path(words[0]).name} ended with {code}; its last words:", *last]))
        return said

    def ask(self, inventory: Sequence[str | Path], given: dict[str, Any], key: str) -> None:
        """Twelve sessions by the module inference_probe: REPORT has all that it found."""
        words = [word for path in inventory for word in ("-i", path)]
        given = {"demo_report": str(REPORT), "demo_tmp": str(TMP), **given}
        argv = [program("ansible-playbook"), *words, "tests/demo/probe.yml", "-e", json.dumps(given)]
        # Not over the report of who looked at this machine before.
        self.run(argv, 240, DEMO_KEY=key, SPARK_DRIFT_ENABLED="false")
        found = json.loads(REPORT.read_text("utf-8"))
        load = found["load"]
        self.say("asked as a client: listed, streamed, and refused without the key")
        self.say(f"first token after {found['handshake']['first_token_seconds'] * 1000:.1f} ms")
        self.say(f"{load['sessions']} sessions at once: {load['answered']} of {load['requests']} requests answered, "
                 f"P50 {load['p50']:.2f} s, P95 {load['p95']:.2f} s, P99 {load['p99']:.2f} s, "
                 f"{load['tokens_per_second']:.0f} tokens a second")  # fmt: skip

    def hold_back(self, key: str) -> None:
        """The key is in nothing that is left."""
        left = [path for kind in ("*.txt", "*.json", "*.html", "*.log", "*.jsonl") for path in PLACE.rglob(kind)]
        if telling := [path for path in left if key in path.read_text("utf-8", "replace")]:
            raise Ended(f"the key is in {', '.join(map(str, telling))}: tell the maintainers")


def program(name: str) -> Path:
    """One of the environment that runs this."""
    return Path(sys.executable).parent / name


def end(process: subprocess.Popen[Any]) -> None:
    """What is left of it when it was not waited for to its end."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def give_back() -> None:
    """With sudo in somebody's clone: what that one is going to read and write is that one's."""
    owner = ROOT.stat()
    if os.geteuid() == 0 != owner.st_uid:
        for path in (PLACE.parent, PLACE.parent / "cache", PLACE, *PLACE.rglob("*")):
            if path.exists() or path.is_symlink():
                os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _mortal() -> list[str]:
    """A run that is killed takes its command along: that would go on with the node of the next run."""
    return ["setpriv", "--pdeathsig", "TERM", "--"] if shutil.which("setpriv") else []


def _inside() -> dict[str, str]:
    """What Ansible and pip would leave in the home of the caller, or in the tree, stays in build/."""
    rust = Path.home() / ".rustup"
    return {
        "PYTHONDONTWRITEBYTECODE": "1",
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_HOME": str(PLACE / "ansible"),
        "ANSIBLE_NOCOLOR": "1",
        "PIP_CACHE_DIR": str(ROOT / "build" / "cache" / "pip"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        # pip asks rustc for its version, and the rustc of a version manager then writes into the home.
        "RUSTUP_HOME": os.environ.get("RUSTUP_HOME") or str(rust if rust.exists() else PLACE / "rustup"),
    }
