# SPDX-License-Identifier: GPL-3.0-or-later
"""All endpoints of a node: one verdict on each aspect, of real questions on loopback."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._engines import probes

sys.path.append(str(Path(__file__).resolve().parent.parent / "_state"))
sys.path.append(str(Path(__file__).resolve().parent.parent / "_inference"))

from declare import filled
from endpoints import KEY, MODEL, Authority, engine, serving, whole


def params(*given: dict[str, Any], **more: Any) -> dict[str, Any]:
    return filled(probes.ARGUMENT_SPEC, {"endpoints": list(given), **more})


def ask(*given: dict[str, Any], wait: float = 0, **more: Any) -> tuple[dict[str, Any], Any, list[probes.Asked]]:
    wanted = params(*given, **more)
    asked = probes.ask(probes.requests(wanted), wait, wanted["skip_controls"])
    found = {one.id: one for one in probes.controls(asked, wanted["skip_controls"])}
    return found, probes.error(asked), asked


def at(server: Any, name: str = "one", **more: Any) -> dict[str, Any]:
    return {"name": name, "url": f"http://127.0.0.1:{server.port}/v1", "model": MODEL, **more}


def states(found: dict[str, Any]) -> list[str]:
    return [found[name].state for name in probes.CONTROLS]


def test_all_that_answer_are_in_sync_and_nobody_is_loaded_unasked() -> None:
    with serving(engine(KEY)) as first, serving(engine()) as second:
        found, error, asked = ask(at(first, api_key=KEY), at(second, "two"))
        assert states(found) == ["in_sync", "in_sync", "in_sync", "not_selected"] and error is None
        assert [probes.told(one)["name"] for one in asked] == ["one", "two"] and "controls" not in probes.told(asked[0])
        # The list of models, once without the key, and one question.
        assert (len(first.asked), len(second.asked)) == (3, 2)
        found, error, asked = ask(at(second), sessions=3, requests=1)
        assert states(found)[3] == "in_sync" and asked[0].found.facts["load"]["answered"] == 3


def test_what_is_wrong_with_each_is_told_by_its_address() -> None:
    with serving(engine()) as fine, serving(engine()) as open_one:
        gone = {"name": "gone", "url": "http://127.0.0.1:9/v1"}
        found, error, _asked = ask(at(fine), at(open_one, api_key=KEY), gone, at(fine, model="other"))
    assert states(found) == ["drifted", "drifted", "unknown", "not_selected"]
    assert [change.key.rpartition(" ")[2] for change in found["probe/endpoint"].changes] == ["refused", "no_model"]
    # And by its name, with what to do.
    assert "gone: start its unit" in found["probe/endpoint"].reason and "one: name it" in found["probe/endpoint"].reason
    assert "open" in found["probe/access"].changes[0].key and str(open_one.port) in str(error)
    assert str(error).startswith("one: http://") and "; also not right: gone, one" in str(error)


def test_what_is_skipped_is_not_judged_and_stops_nobody() -> None:
    with serving(engine()) as server:
        found, error, _asked = ask(at(server, api_key=KEY), skip_controls=["probe/access"])
    assert found["probe/access"].reason == "named in probe_skip_controls" and error is None
    with pytest.raises(InputError, match="misspelt"):
        probes.requests(params(skip_controls=["probe/acess"]))


def test_without_an_engine_there_is_nothing_to_ask() -> None:
    found, error, _asked = ask()
    assert {(one.state, one.reason) for one in found.values()} == {("not_selected", "no endpoint is declared")}
    assert error is None


def test_one_that_loads_is_waited_for_and_one_that_is_wrong_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "EVERY", 0.01)
    turned_away: list[int] = []

    def loading(asked: Any, sock: Any) -> None:
        if len(turned_away) < 2:
            turned_away.append(1)
            whole(sock, 503, {"error": "Loading model"})
        else:
            engine()(asked, sock)

    with serving(loading) as server:
        found, error, _asked = ask(at(server), wait=30)
        assert states(found)[0] == "in_sync" and error is None
        before = len(server.asked)
        assert ask(at(server, model="other"), wait=30)[1] is not None
        assert len(server.asked) - before == 1


def test_the_certificate_of_the_server_is_that_of_the_file(authority: Authority) -> None:
    one, other = authority.issue("one"), authority.issue("other")
    with serving(engine(), authority.server(one)) as server:
        url = f"https://127.0.0.1:{server.port}"
        fine, error, _asked = ask({"name": "a", "url": url, "server_certificate": str(one[0])})
        assert states(fine)[0] == "in_sync" and error is None
        wrong, _error, _asked = ask({"name": "a", "url": url, "server_certificate": str(other[0])})
        assert "pin" in wrong["probe/endpoint"].changes[0].key
        unknown, error, asked = ask({"name": "a", "url": url, "server_certificate": "/nowhere.pem"})
        assert states(unknown) == ["unknown"] * 3 + ["not_selected"] and "/nowhere.pem" in str(error)
        assert probes.told(asked[0])["unknown"]["endpoint"].startswith("/nowhere.pem")


def test_what_cannot_be_meant_is_refused_by_its_place() -> None:
    with pytest.raises(InputError, match=r"endpoints\[0\] \(a\), url"):
        probes.requests(params({"name": "a", "url": "nowhere"}))
    with pytest.raises(InputError, match=r"endpoints\[0\] \(a\), url: https://, since server_certificate"):
        probes.requests(params({"name": "a", "url": "http://127.0.0.1:8000/v1", "server_certificate": "/c.pem"}))
    with pytest.raises(InputError, match="wait: 0 to 7200"):
        probes.requests(params(wait=-1))
