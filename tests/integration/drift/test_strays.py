# SPDX-License-Identifier: GPL-3.0-or-later
"""A secret that is written where none belongs is refused, and whoever asks Ansible for all it has is not shown it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SECRET = "hunter22-in-the-wrong-place"
# From the environment, as from a vault: Ansible quotes the lines of a file that somebody made a mistake in.
PLAY = """\
- hosts: localhost
  gather_facts: false
  ignore_errors: true
  vars:
    stray: "{{ lookup('ansible.builtin.env', 'STRAY') }}"
    words: ["--api-key={{ stray }}"]
  tasks:
    - ansible.builtin.import_role: {name: nusy.dgx_spark.vllm}
      vars:
        vllm_engines: [{name: a, model: /nonexistent/a.gguf, port: 8000, options: {api_key: "{{ stray }}"}}]
    - ansible.builtin.import_role: {name: nusy.dgx_spark.vllm}
      vars:
        vllm_engines:
          - name: a
            model: /nonexistent/a
            port: 8000
            options: {kv_transfer_config: {password: "{{ stray }}"}}
    - ansible.builtin.import_role: {name: nusy.dgx_spark.llama_cpp}
      vars:
        llama_cpp_engines: [{name: a, model: /nonexistent/a.gguf, port: 8000, options: {api_key: "{{ stray }}"}}]
    - ansible.builtin.import_role: {name: nusy.dgx_spark.ramalama}
      vars:
        ramalama_workers: [{name: a, model: /nonexistent/a.gguf, port: 8000, context: 512, arguments: "{{ words }}"}]
    - nusy.dgx_spark.preflight:
      vars:
        vllm_engines: [{name: a, model: /nonexistent/a.gguf, port: 8000, options: {hf_token: "{{ stray }}"}}]
"""


def test_nobody_is_shown_a_secret_in_the_wrong_place(tmp_path):
    (tmp_path / "play.yml").write_text(PLAY)
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-vvv", "--check", "--diff"]
    command += ["-i", "localhost,", "-c", "local", str(tmp_path / "play.yml")]
    env = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "SPARK_DRIFT_DIR": str(tmp_path / "drift")}
    env["STRAY"] = SECRET
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=240, check=False)
    reports = [path.read_text(encoding="utf-8") for path in (tmp_path / "drift").rglob("*") if path.is_file()]
    assert reports and not any(SECRET in text for text in (done.stdout, done.stderr, *reports))
    # Each was judged, and refused for that alone.
    assert "options.api-key: no secret on a command line. Found: one, not shown" in done.stdout
    assert "options.kv-transfer-config: no secret on a command line" in done.stdout
    assert "options.hf-token: no secret on a command line" in done.stdout
    assert "arguments[0]: an option that the declaration does not answer for. Found: '--api-key'" in done.stdout
    assert "llama_cpp_engines.options" in done.stdout
