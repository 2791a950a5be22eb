# SPDX-License-Identifier: GPL-3.0-or-later
"""Drift made by hand is named alone, and the generation replaced; what only looks touched is none."""

from __future__ import annotations

import os
import subprocess

import pytest
from venv_bench import Bench, altered, control, diff, states


def removed(bench: Bench) -> None:
    bench.site.chmod(0o755)
    (bench.site / "alpha.py").unlink()


def hooked(bench: Bench) -> None:
    bench.site.chmod(0o755)
    (bench.site / "zz.pth").write_text("import os\n")


def customised(bench: Bench) -> None:
    bench.site.chmod(0o755)
    (bench.site / "sitecustomize.py").write_text("import os\n")


def precompiled(bench: Bench) -> None:
    bench.site.chmod(0o755)
    (bench.site / "stray.pyc").write_bytes(b"code")


def relinked(bench: Bench) -> None:
    folder = bench.home / bench.current / "bin"
    folder.chmod(0o755)
    (folder / "python").unlink()
    (folder / "python").symlink_to("/usr/bin/false")


def disabled(bench: Bench) -> None:
    (bench.home / bench.current / "bin" / "alpha").chmod(0o644)


def test_a_folder_that_others_can_write_is_closed(open_bench: Bench) -> None:
    """As long as it is open nobody's rights are the right ones to run what is in it."""
    alpha = open_bench.wheel("alpha", "1.0")
    open_bench.apply(alpha, imports=["alpha"])
    open_bench.home.chmod(0o777)
    plan = open_bench.check(alpha, imports=["alpha"])
    assert states(plan) == {"place": "drifted", "use": "unknown"}
    assert "a group or everybody" in control(plan, "use").reason
    assert [step.action for step in plan.steps] == ["close_directory"]
    assert open_bench.apply(alpha, imports=["alpha"]) == plan
    assert open_bench.home.stat().st_mode & 0o777 == 0o755
    assert states(open_bench.check(alpha, imports=["alpha"])) == {}


@pytest.mark.parametrize(
    ("damage", "path", "change"),
    [
        (altered, "alpha.py", ("altered", "as installed")),
        (removed, "alpha.py", ("missing", "as installed")),
        (hooked, "zz.pth", ("extra", "absent")),
        (customised, "sitecustomize.py", ("extra", "absent")),
        (precompiled, "stray.pyc", ("extra", "absent")),
        (relinked, "bin/python", ("altered", "as installed")),
        (disabled, "bin/alpha", ("altered", "as installed")),
    ],
)
def test_a_touched_file_is_named_alone_and_the_generation_replaced(bench: Bench, damage, path, change) -> None:
    alpha = bench.wheel("alpha", "1.0", programs={"alpha": "alpha:main"})
    bench.apply(alpha)
    first = bench.current
    damage(bench)
    plan = bench.check(alpha)
    assert states(plan) == {"files": "drifted"}
    assert plan.steps[-1].text() == f"remove_generation {first}"
    ((found, told),) = diff(plan, "files").items()
    assert found.endswith(path) and told == change
    assert control(plan, "files").cause == "corrective"
    assert bench.apply(alpha) == plan
    assert bench.current == f"{first}-2" and not (bench.home / first).exists()
    assert states(bench.check(alpha)) == {}


def test_a_package_installed_by_hand_is_told_as_one_package(bench: Bench) -> None:
    alpha = bench.wheel("alpha", "1.0")
    bench.apply(alpha)
    bench.site.chmod(0o755)
    beta = bench.wheel("beta", "2.0")
    subprocess.run([bench.uv[0], "pip", "install", "-q", "--no-cache", "--no-index", "--find-links", bench.wheels,
                    "--python", bench.home / "current/bin/python", beta.path], check=True)  # fmt: skip
    plan = bench.check(alpha)
    assert diff(plan, "packages") == {"beta": ("2.0", "absent")}
    assert states(plan) == {"packages": "drifted"}
    bench.apply(alpha)
    assert states(bench.check(alpha)) == {}


def test_what_follows_from_sources_or_only_looks_touched_is_no_drift(bench: Bench) -> None:
    alpha = bench.wheel("alpha", "1.0")
    bench.apply(alpha)
    os.utime(bench.site / "alpha.py")
    for compiled in bench.site.glob("__pycache__/*.pyc"):
        compiled.write_bytes(b"written anew")
    assert states(bench.check(alpha)) == {}


def test_a_change_with_the_old_size_and_time_is_still_seen(bench: Bench) -> None:
    alpha = bench.wheel("alpha", "1.0")
    bench.apply(alpha)
    file = bench.site / "alpha.py"
    then = file.stat()
    text = file.read_text()
    file.write_text(text.replace("1.0", "6.6"))
    os.utime(file, ns=(then.st_atime_ns, then.st_mtime_ns))
    assert states(bench.check(alpha))["files"] == "drifted"


def test_a_lost_link_is_only_a_lost_link(bench: Bench) -> None:
    alpha = bench.wheel("alpha", "1.0")
    bench.apply(alpha, imports=["alpha"])
    (bench.home / "current").unlink()
    plan = bench.check(alpha, imports=["alpha"])
    assert states(plan) == {"current": "drifted"}
    assert [step.action for step in plan.steps] == ["switch"]
    bench.apply(alpha, imports=["alpha"])
    assert states(bench.check(alpha)) == {}


def test_a_link_that_leads_elsewhere_is_turned(bench: Bench) -> None:
    alpha = bench.wheel("alpha", "1.0")
    bench.apply(alpha)
    name = bench.current
    (bench.home / "current").unlink()
    (bench.home / "current").symlink_to("/usr")
    assert diff(bench.check(alpha), "current") == {f"{bench.home}/current": ("/usr", name)}
    bench.apply(alpha)
    assert bench.current == name
