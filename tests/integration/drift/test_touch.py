# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking touches nothing: the whole machine is put under an overlay, whose upper layer then
holds exactly what a report run created, changed or removed, even for a moment."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT, ansible_playbook, validated

pytestmark = pytest.mark.one_core  # what touches a machine are the modules and the launcher

# In a mount namespace of its own: nothing of it is seen outside, or survives it.
LAB = r"""
set -e
mount -t tmpfs lab "$LAB"
mkdir "$LAB/upper" "$LAB/work" "$LAB/machine"
mount -t overlay machine -o "lowerdir=/,upperdir=$LAB/upper,workdir=$LAB/work" "$LAB/machine"
mount --rbind /proc "$LAB/machine/proc"; mount --rbind /dev "$LAB/machine/dev"; mount --rbind /sys "$LAB/machine/sys"
# The interpreter may live in root's home; opened for other users in here only.
chmod a+rx "$LAB/machine/root"
# From now on the layer has its own times of these: a file made and removed shows in them.
chmod a+rx "$LAB/machine/tmp" "$LAB/machine/var/tmp"
(cd "$LAB" && find upper -mindepth 1 -printf '%P\t%T@\n' | sort) > "$OUT/before"
set +e
chroot "$LAB/machine" setpriv --reuid "$NOBODY" --regid "$NOBODY" --clear-groups \
  env -i HOME="$CLONE/../home" PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 SPARK_DRIFT_PYTHON=test \
  "$PYTHON" "$CLONE/bin/spark-drift" $ARGUMENTS > "$LAB/said" 2>&1
echo $? > "$LAB/rc"
cd "$LAB"
find upper -mindepth 1 -printf '%P\t%T@\n' | sort | comm -13 "$OUT/before" - > touched
cp said rc touched "$OUT"
cp "$LAB/machine$CLONE/build/drift/report.json" "$OUT" 2>/dev/null
exit 0
"""


def _tracked() -> list[str]:
    done = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=False)
    return [name for name in done.stdout.split("\0") if name and (ROOT / name).exists()]


def _cannot(why: str) -> None:
    """In CI what could not be looked at has failed; elsewhere it is said and skipped."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(why)


@pytest.mark.parametrize(("user", "mode"), [(0, 0o755), (65534, 0o777)], ids=["root", "nobody, writable by all"])
def test_a_report_run_touches_nothing_but_the_clone(tmp_path: Path, user: int, mode: int) -> None:
    """In a clone that everybody may write Ansible ignores ansible.cfg, callback and collections path with it."""
    if os.geteuid() != 0 or not shutil.which("unshare") or not shutil.which("setpriv"):
        _cannot("needs root, unshare and setpriv to put the machine under an overlay")
    probe = subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "x", str(tmp_path)], check=False)
    if probe.returncode:
        _cannot("this machine allows no mounts")
    python = Path(ansible_playbook()).with_name("python")
    # Below /var/tmp: pytest's own folders are closed to other users.
    base = Path("/var/tmp") / f"nusy-touch-{os.getpid()}-{user}"
    clone, out, lab = base / "clone", tmp_path / "out", base / "lab"
    try:
        for name in _tracked():
            target = clone / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target, follow_symlinks=False)
        for folder in (out, lab, base / "home"):
            folder.mkdir(parents=True)
        clone.chmod(mode)
        subprocess.run(["chown", "-R", f"{user}:{user}", str(clone), str(base / "home")], check=True)
        paths = {"LAB": lab, "CLONE": clone, "OUT": out, "PYTHON": python}
        subprocess.run(
            ["unshare", "-m", "sh", "-c", LAB],
            env={**os.environ, **{k: str(v) for k, v in paths.items()}, "NOBODY": str(user), "ARGUMENTS": ""},
            timeout=300,
            check=True,
        )
    finally:
        shutil.rmtree(base)
    said = (out / "said").read_text()
    assert (out / "rc").read_text().strip() in ("0", "2", "3"), said
    report = validated(out / "report.json")
    assert report["run"]["complete"], said
    (local,) = report["hosts"]
    roles = {control["id"].partition("/")[0] for control in local["controls"]}
    # This machine is in the group spark, and ramalama is for workstations.
    assert roles >= {path.name for path in (ROOT / "roles").iterdir()} - {"ramalama"}, said
    inside = str(clone).lstrip("/")
    touched = [line.split("\t")[0] for line in (out / "touched").read_text().splitlines()]
    assert any(path.startswith(f"{inside}/build/drift/") for path in touched), said
    # Parents of the clone are listed because the layer has to hold them.
    elsewhere = [path for path in touched if not f"{path}/".startswith(f"{inside}/") and not inside.startswith(path)]
    assert elsewhere == []
    in_clone = {path.removeprefix(f"{inside}/").split("/")[0] for path in touched if path.startswith(f"{inside}/")}
    assert in_clone == {"build"}
