#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: ptxas_probe
short_description: Which ptxas can build for this GPU, and what makes Triton use it
version_added: 0.1.0
description:
  - Triton compiles its kernels with a C(ptxas) of its own. Up to Triton 3.5 that one is too
    old for the GPU of DGX Spark (C(sm_121)), and every kernel fails with
    C(Value 'sm_121a' is not defined for option 'gpu-name').
  - Which variable makes Triton use another C(ptxas), and whether that helps or breaks every
    GPU, depends on the release of Triton. This module finds out for the Triton at hand.
  - Runs every C(ptxas) found - to read its version and to assemble a small PTX - and holds
    the results against what this Triton release does.
  - Changes nothing. What C(ptxas) reads and writes lies in one private temporary folder that
    is removed in any case.
  - Needs neither GPU nor driver.
notes:
  - It runs programs out of the virtual environment, and every C(ptxas). Called as root, it does
    so with the rights of the user who decides what that program is - by a folder, link or file on the
    way to it - so C(become_user) is not needed. What only root decides runs with the rights of the user who
    decides what O(venv) or O(triton_dir) is. What several users decide is not run, and a C(ptxas) on which
    the verdict depends is an error then.
  - Called by any other user, it runs all of them as that user.
  - The PTX is written in the lowest PTX version that knows the target (8.8 for C(sm_121), so
    CUDA 12.9), because a C(ptxas) refuses a version newer than its own. For a target that
    the module does not know, it is the newest version of the C(ptxas) under test.
  - A Triton newer than any known to the module is taken to behave like the newest known one;
    RV(assumptions) and RV(explanation) say so.
attributes:
  check_mode:
    description: Does the same in check mode. It never changes anything.
    support: full
  diff_mode:
    description: Nothing is changed, so there is no diff.
    support: none
  idempotent:
    description: Reads only.
    support: full
options:
  venv:
    description:
      - Absolute path of the virtual environment that Triton is installed in.
      - Exactly one of O(venv) and O(triton_dir) is required.
    type: path
  triton_dir:
    description:
      - Absolute path of the package itself, such as C(/opt/x/lib/python3.12/site-packages/triton).
      - Exactly one of O(venv) and O(triton_dir) is required.
    type: path
  candidates:
    description:
      - Absolute paths of C(ptxas) binaries that Triton may be made to use, best first, at most 32.
      - "The default is the known places: C(/usr/local/lib/nusy/cuda/X.Y/bin/ptxas) and
        C(/usr/local/cuda-X.Y/bin/ptxas), each from the newest down, C(/usr/local/cuda), C(/opt/cuda),
        C(/usr/lib/nvidia-cuda-toolkit), and the wheels C(nvidia-cuda-nvcc) and C(nvidia-cuda-nvcc-cu12)
        beside Triton."
      - A binary that O(environment) or O(environment_files) force already is looked at too, last.
    type: list
    elements: path
  arch:
    description:
      - GPU target to build for. Triton knows the capability only and adds the suffix itself;
        when its name for the target is another one, that must assemble too.
    type: str
    default: sm_121a
  compile:
    description:
      - Also compile a kernel ahead of time with the Triton of the virtual environment, with
        the variables set as they should be. It has the last word on the verdict.
      - With O(triton_dir), the Python is the one of the prefix that the folder lies in.
    type: bool
    default: false
  environment:
    description:
      - Variables that the services get. Those whose name is like C(TRITON_*PTXAS*) count.
      - The default is the environment of the module itself, which is that of the login and
        not that of a service.
    type: dict
  environment_files:
    description:
      - Absolute paths of files that the services read with C(EnvironmentFile=). They
        override O(environment), later ones override earlier ones, a missing one counts as empty.
    type: list
    elements: path
    default: []
  timeout:
    description:
      - Seconds that one program may take before it is stopped.
      - A C(ptxas) takes 0.1 seconds and a compile 0.5 to 2 on an idle machine; the default
        leaves room for a cold disk and a busy one.
    type: float
    default: 60
author:
  - The nusy.dgx_spark maintainers (@nusy)
seealso:
  - name: The ptxas story
    description: Symptom, cause, the table of versions as measured, and how to read a verdict.
    link: https://github.com/nusy/dgx_spark/blob/main/docs/guides/ptxas.md
"""

EXAMPLES = r"""
- name: Look at the ptxas of vLLM's environment
  nusy.dgx_spark.ptxas_probe:
    venv: /opt/nusy/venvs/vllm
    environment_files: [/etc/nusy/paths.env]
  become: true
  register: ptxas

- name: Stop when this Triton cannot be made to build for the GPU
  ansible.builtin.assert:
    that: ptxas.verdict in ['ok', 'forced_ok']
    fail_msg: "{{ ptxas.explanation }}"

- name: Prove it with a real compile, with one CUDA to fall back on
  nusy.dgx_spark.ptxas_probe:
    venv: /opt/nusy/venvs/vllm
    candidates: [/usr/local/cuda-13.0/bin/ptxas]
    compile: true
"""

RETURN = r"""
triton_version:
  description: Version of Triton as it writes it; empty when there is none.
  returned: success
  type: str
  sample: 3.5.1
triton_dir:
  description: Folder of the package; empty when there is none.
  returned: success
  type: str
  sample: /opt/nusy/venvs/vllm/lib/python3.12/site-packages/triton
python:
  description: Python that imports this Triton; empty when it cannot be told.
  returned: success
  type: str
  sample: /opt/nusy/venvs/vllm/bin/python
arch:
  description: The target asked for.
  returned: success
  type: str
  sample: sm_121a
ptxas:
  description: Every binary looked at, those of Triton first.
  returned: success
  type: list
  elements: dict
  contains:
    path:
      description: Absolute path.
      type: str
    kind:
      description: C(vendored) and C(vendored_blackwell) come with Triton.
      type: str
    version:
      description: CUDA version; empty when C(--version) named none.
      type: str
    assembles:
      description: It made CUDA objects for the target. An exit code of 0 alone does not count.
      type: bool
    exit_code:
      description: Of the last run; null when it could not be started or was stopped.
      type: int
    stderr:
      description: What it said when it failed, or why it was not run; at most 2000 characters.
      type: str
  sample:
    - path: /opt/nusy/venvs/vllm/lib/python3.12/site-packages/triton/backends/nvidia/bin/ptxas
      kind: vendored
      version: 12.8.93
      assembles: false
      exit_code: 255
      stderr: "ptxas fatal   : Value 'sm_121a' is not defined for option 'gpu-name'"
verdict:
  description:
    - C(ok) - nothing to set, and nothing that is set now breaks it.
    - C(forced_ok) - works when RV(environment) is set and RV(unset) is not.
    - C(unrepairable) - no variable makes this Triton build with a C(ptxas) that was found.
    - C(no_triton) - there is no Triton to judge.
    - C(no_ptxas) - no C(ptxas) that runs was found.
  returned: success
  type: str
  sample: forced_ok
environment:
  description:
    - Variables that should be set; all others like C(TRITON_*PTXAS*) are not needed. May be empty.
    - Does not depend on what is set now, unless only a binary forced now can do it.
  returned: success
  type: dict
  sample: {TRITON_PTXAS_PATH: /usr/local/cuda-13.0/bin/ptxas}
unset:
  description: Variables set now that must go, because they break what would work.
  returned: success
  type: list
  elements: str
  sample: []
chosen:
  description: The C(ptxas) that Triton runs when all this is followed; empty when none does.
  returned: success
  type: str
  sample: /usr/local/cuda-13.0/bin/ptxas
current:
  description:
    - Variables set now, by name, each with its C(path), C(source), C(effect) and C(reason).
    - The effect is C(used), C(ignored) (Triton passes over it without a word), C(breaks) or
      C(unpredictable) (no absolute path).
  returned: success
  type: dict
  sample:
    TRITON_PTXAS_PATH:
      path: /usr/local/cuda-12.8/bin/ptxas
      source: /etc/nusy/paths.env
      effect: breaks
      reason: "CUDA 12.8.93 cannot build for sm_121a"
works_now:
  description: Whether Triton builds for the target with the variables as they are now; null when unpredictable.
  returned: success
  type: bool
  sample: false
explanation:
  description: The verdict in one sentence on one line.
  returned: success
  type: str
  sample: >-
    Triton 3.5.1 cannot build for sm_121a with its own ptxas (CUDA 12.8.93);
    with TRITON_PTXAS_PATH=/usr/local/cuda-13.0/bin/ptxas (CUDA 13.0.88) it can.
assumptions:
  description: What had to be taken for granted, such as a Triton newer than any known.
  returned: success
  type: list
  elements: str
  sample: []
compiled:
  description: The real compile; null when there was no Triton to run.
  returned: when O(compile=true)
  type: dict
  contains:
    ok:
      description: A CUDA object was made.
      type: bool
    seconds:
      description: How long it took.
      type: float
    stderr:
      description: The end of what it said, at most 2000 characters.
      type: str
error:
  description: >-
    Why nothing could be said: C(key), C(kind) (C(input) or C(node)), C(wanted), C(found),
    C(why) and C(fix). A missing Triton or a broken ptxas is a verdict, not an error.
  returned: failure
  type: dict
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import exact, fail
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import SparkError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import HostReader
from ansible_collections.nusy.dgx_spark.plugins.module_utils._ptxas.model import request_of
from ansible_collections.nusy.dgx_spark.plugins.module_utils._ptxas.probe import examined

SPEC = {
    "venv": {"type": "path"},
    "triton_dir": {"type": "path"},
    "candidates": {"type": "list", "elements": "path"},
    "arch": {"type": "str", "default": "sm_121a"},
    "compile": {"type": "bool", "default": False},
    "environment": {"type": "dict"},
    "environment_files": {"type": "list", "elements": "path", "default": []},
    "timeout": {"type": "float", "default": 60},
}


def main() -> None:
    module = exact(AnsibleModule)(argument_spec=SPEC, supports_check_mode=True)
    try:
        request = request_of(module.params, os.environ)
        result = examined(request, HostReader())
    except SparkError as error:
        fail(module, error)
    else:
        module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
