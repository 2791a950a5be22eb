# SPDX-License-Identifier: GPL-3.0-or-later
"""The module inside Ansible: arguments in, one result out; an error in a real run alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils import basic
from ansible.module_utils.testing import patch_module_args
from ansible_collections.nusy.dgx_spark.plugins.modules import endpoints_probe, inference_probe

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "module_utils" / "_inference"))

from endpoints import KEY, MODEL, engine, serving, whole


def run(
    capsys: pytest.CaptureFixture[str], check: bool = False, module: Any = inference_probe, **arguments: Any
) -> dict[str, Any]:
    with patch_module_args({**arguments, "_ansible_check_mode": check}):
        basic._ANSIBLE_PROFILE = "legacy"
        with pytest.raises(SystemExit):
            module.main()
    return json.loads(capsys.readouterr().out)  # type: ignore[no-any-return]


@pytest.mark.parametrize("check", [False, True])
def test_an_endpoint_in_order(check: bool, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(engine(KEY)) as server:
        url = f"http://127.0.0.1:{server.port}/v1"
        result = run(capsys, check, url=url, api_key=KEY, model=MODEL, sessions=10, role="demo")
    assert result["ok"] and result["changed"] is False and "failed" not in result and "diff" not in result
    assert [(one["id"], one["state"]) for one in result["controls"]] == [
        (f"demo/{aspect}", "in_sync") for aspect in ("endpoint", "access", "answers", "speed")
    ]


def test_what_is_wrong_is_an_error_in_a_real_run_and_a_report_in_a_check(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(engine()) as server:
        given: dict[str, Any] = {"url": f"http://127.0.0.1:{server.port}", "model": "other", "role": "demo"}
        real, check = run(capsys, **given), run(capsys, True, **given)
    assert real.pop("failed") and real.pop("error")["key"] == "inference.no_model" and "other" in real.pop("msg")
    assert "failed" not in check and not check["ok"]
    # Newer releases of ansible-core return it no more.
    assert {**real, "invocation": None} == {**check, "invocation": None}
    (drifted,) = [one for one in check["controls"] if one["state"] == "drifted"]
    assert drifted["id"] == "demo/endpoint" and f"{given['url']} no_model" in drifted["before"]


def test_the_key_is_in_no_result(capsys: pytest.CaptureFixture[str]) -> None:
    """Some servers repeat it in their refusal."""
    with serving(lambda asked, sock: whole(sock, 401, f"no such key: {asked.headers['authorization']}")) as server:
        for check in (False, True):
            result = run(capsys, check, url=f"http://127.0.0.1:{server.port}", api_key=KEY)
            assert KEY not in json.dumps(result) and "<secret>" in result["faults"][0]["found"]
    assert KEY not in json.dumps(run(capsys, url="http://x", api_key=f"{KEY}\n"))


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"url": "nowhere"}, "inference.url"),
        ({}, "input.missing"),
        ({"url": "http://x", "slo": {"p96": 1}}, "input.unknown"),
    ],
)
@pytest.mark.parametrize("check", [False, True])
def test_options_that_are_wrong(
    given: dict[str, Any], key: str, check: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run(capsys, check, **given)
    assert result["failed"] and result["error"]["key"] == key


def test_every_returned_key_is_documented(capsys: pytest.CaptureFixture[str]) -> None:
    documented = yaml.safe_load(inference_probe.RETURN)
    with serving(engine(KEY)) as server:
        result = run(capsys, url=f"http://127.0.0.1:{server.port}", api_key=KEY, sessions=2, expected="5", role="demo")
    assert set(result) - {"changed", "invocation", "failed", "msg"} == set(documented)
    for name in ("handshake", "load"):
        assert set(result[name]) == set(documented[name]["contains"])
    assert set(result["faults"][0]) == set(documented["faults"]["contains"])


def test_all_endpoints_of_a_node_and_no_key_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(lambda asked, sock: whole(sock, 401, f"no such key: {asked.headers['authorization']}")) as server:
        given = [{"name": "vllm@main", "url": f"http://127.0.0.1:{server.port}", "api_key": KEY}]
        for check in (False, True):
            result = run(capsys, check, endpoints_probe, endpoints=given, wait=1)
            assert bool(result.get("failed")) is not check and result["changed"] is False
            (one,) = result["endpoints"]
            assert one["name"] == "vllm@main" and one["faults"][0]["kind"] == "key_refused"
            assert KEY not in json.dumps({**result, "invocation": None})
            assert KEY not in json.dumps(result.get("invocation", {}))
    result = run(capsys, False, endpoints_probe)
    assert {one["state"] for one in result["controls"]} == {"not_selected"} and "failed" not in result
