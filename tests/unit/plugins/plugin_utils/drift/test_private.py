# SPDX-License-Identifier: GPL-3.0-or-later
"""A report is the caller's alone, and nobody else says where it goes."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift import events, private, process, produce

NOBODY = 65534
PLAY = {"p": "p", "name": "P", "hosts": ["h"], "roles": {}, "partial": False}
STORY = (
    {"e": "run", "schema": events.SCHEMA, "id": "1", "time": "2026-01-31T12:00:00Z", "mode": "check"},
    {"e": "plan", **PLAY},
    {"e": "play", **PLAY},
    {"e": "end", "t": 9.5, "bad": {}},
)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")


def run_in(directory: Path) -> None:
    """What a run writes: the lock, events, the log, the report, its renderings and history."""
    lock = events.Lock(directory)
    writer = events.EventWriter(directory)
    for event in STORY:
        writer.write(event)
    writer.close()
    process.Run(["true"], dict(os.environ), directory / "run.log", verbose=False).wait()
    produce.produce(directory, waivers=None, formats=(*produce.DEFAULT_FORMATS, "envelope"))
    lock.release()


def open_to_others(directory: Path) -> set[str]:
    return {
        str(path.relative_to(directory))
        for path in directory.rglob("*")
        if path.is_file() and path.stat().st_mode & 0o077
    }


def test_a_report_is_for_the_caller_only(tmp_path: Path) -> None:
    run_in(tmp_path / "deep/report")
    assert (tmp_path / "deep/report").stat().st_mode & 0o777 == 0o700
    assert len(list((tmp_path / "deep/report").rglob("*"))) >= 10
    assert not open_to_others(tmp_path / "deep/report")


def test_a_folder_of_an_earlier_version_goes_on_and_is_closed(tmp_path: Path) -> None:
    """Everything was open to read then; with umask 002 the group could write, too."""
    run_in(tmp_path)
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o775 if path.is_dir() else 0o664)
    runs = (tmp_path / "history/runs.jsonl").read_text()
    run_in(tmp_path)
    assert (tmp_path / "history/runs.jsonl").read_text().startswith(runs.splitlines()[0][:40])
    assert open_to_others(tmp_path) == {events.LOCK}  # it is empty
    assert tmp_path.stat().st_mode & 0o777 == (tmp_path / "history").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("name", [events.FILE, "run.log", "report.json", "drift.prom", "history/open.jsonl"])
def test_a_link_in_the_place_of_a_file_is_replaced_and_not_followed(tmp_path: Path, name: str) -> None:
    directory = tmp_path / "report"
    run_in(directory)
    (tmp_path / "precious").write_text("precious")
    (directory / name).unlink()
    (directory / name).symlink_to(tmp_path / "precious")
    run_in(directory)
    assert (tmp_path / "precious").read_text() == "precious"
    assert not (directory / name).is_symlink()


def test_what_is_neither_file_nor_link_is_never_removed(tmp_path: Path) -> None:
    """Root could: a device node that was named as the log would be gone."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(FileExistsError):
            private.fresh(tmp_path / name)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert (tmp_path / "folder").is_dir()


def test_a_folder_that_everybody_can_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    assert events.foreign(tmp_path) == "everybody can write into it"


@needs_root
@pytest.mark.parametrize("whose", ["folder", "link", "entry"])
def test_what_somebody_else_prepared_is_refused(tmp_path: Path, whose: str) -> None:
    directory = tmp_path / "report"
    directory.mkdir()
    (directory / events.LOCK).touch()
    (directory / "history").symlink_to(tmp_path)
    link = tmp_path / "link"
    link.symlink_to(directory)
    assert not events.foreign(link)
    os.lchown({"folder": directory, "link": link, "entry": directory / "history"}[whose], NOBODY, NOBODY)
    with pytest.raises(events.Foreign, match="belongs to "):
        events.Lock(link)
    assert private.prepared_by(link)
