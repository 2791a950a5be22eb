# SPDX-License-Identifier: GPL-3.0-or-later
"""The API key of an engine: the credential of its unit, and never an open engine in its place."""

from __future__ import annotations

import os
import socket

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._launch import site


def test_it_is_the_line_of_the_credential(tmp_path):
    (tmp_path / "api-key").write_text("open-sesame\n")
    key, check = site.api_key({"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert key == "open-sesame" and check is not None and not check.problem


@pytest.mark.parametrize("caller", [{}, {"CREDENTIALS_DIRECTORY": ""}])
def test_without_credentials_there_is_none(caller):
    assert site.api_key(caller) == ("", None)


def test_a_unit_with_other_credentials_has_none(tmp_path):
    (tmp_path / "tls-key").write_text("x")
    assert site.api_key({"CREDENTIALS_DIRECTORY": str(tmp_path)}) == ("", None)


@pytest.mark.parametrize("text", ["", "\n", " blank", "two\nlines", "bell\a", "\udcff"])
def test_what_is_no_key_is_a_reason_not_to_start(text, tmp_path):
    (tmp_path / "api-key").write_bytes(os.fsencode(text))
    key, check = site.api_key({"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert key == "" and check is not None and str(tmp_path) in check.problem


def test_credentials_that_the_manager_promised_and_did_not_give_are_a_reason_not_to_start(tmp_path):
    key, check = site.api_key({"CREDENTIALS_DIRECTORY": str(tmp_path / "gone")})
    assert key == "" and check is not None and "gone" in check.problem


@pytest.mark.parametrize(("launcher", "variable"), [("vllm-serve", "VLLM_API_KEY"), ("llama-serve", "LLAMA_API_KEY")])
def test_the_engine_gets_it_by_environment_and_not_on_its_command_line(node, monkeypatch, launcher, variable, tmp_path):
    (tmp_path / "api-key").write_text("open-sesame\n")
    calls = []
    monkeypatch.setattr(os, "execve", lambda _path, argv, env: calls.append((argv, env)))
    node.run(launcher, CREDENTIALS_DIRECTORY=str(tmp_path))
    ((argv, env),) = calls
    assert env[variable] == "open-sesame" and "sesame" not in " ".join(argv)


def test_who_takes_the_place_of_a_running_one_is_not_told_that_its_port_is_taken(node, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        words = ("llama-serve", "--check", f"{node.root}/tiny.gguf", "--port", str(taken.getsockname()[1]))
        node.run(*words)
        assert "FAIL port" in capsys.readouterr().out
        node.run(words[0], "--replacing", *words[1:])
        assert "port" not in capsys.readouterr().out
