#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_venv
short_description: Ensure a virtual environment that holds exactly what hash-locked files name
version_added: 0.1.0
description:
  - Builds immutable generations at C(<root>/<name>/<digest>) and points the link
    C(<root>/<name>/current) at the declared one in one rename. The digest is of the locks, the
    Python and the machine, so another lock is another generation, beside the one in use.
  - A generation is complete when its manifest is there, which is written last, after every file
    was compared with the RECORD of its distribution, after the declared modules could be
    imported and programs found. A run that fails or is killed leaves the one in use as it was.
  - Looking reads metadata and files only. It needs no network and runs no package tool. A file is read again
    only when its inode was touched since it was verified, so that a look at an environment of
    gigabytes takes a second.
  - Nothing is repaired in place. An altered generation is replaced by a new one of the same
    digest (C(<digest>-2)), and pruned when no process runs from it any more.
  - C(uv) installs where it is there, otherwise pip of the interpreter's ensurepip. Both get the
    same orders, hashes required, nothing resolved, wheels only, no cache, no configuration of a user.
attributes:
  check_mode:
    description: Predicts every step of a real run, without a network.
    support: full
  diff_mode:
    description: Shows each package, file and link that differs.
    support: full
  idempotent:
    description: After applying, the node is looked at again; a plan that is not empty is an error.
    support: full
extends_documentation_fragment:
  - nusy.dgx_spark.ensuring
  - nusy.dgx_spark.version_matrix
options:
  name:
    description: Name of the environment, a directory in O(root).
    type: str
    required: true
  root:
    description: Where environments are. Missing directories are made.
    type: str
    default: /opt/nusy/venvs
  interpreter:
    description: Absolute path of the CPython to build with, for example V(/usr/bin/python3.12).
    type: str
    required: true
  python:
    description: The major.minor that the locks were made for. Another interpreter is refused.
    type: str
    required: true
  machine:
    description: The machine that the locks were made for, for example V(aarch64). Empty means any.
    type: str
    default: ""
  stages:
    description:
      - Locks in the order in which they are installed. A distribution that two stages name must
        have the same version in both.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the stage, for messages.
        type: str
        required: true
      lock:
        description:
          - Text of the lock. Each distribution as C(name==version --hash=sha256:…). Ranges, URLs, editables,
            includes, options and environment markers are refused with their line.
        type: str
        required: true
      index_url:
        description:
          - Index of this stage instead of the public one. User and password in it reach the package tool
            through its environment and are never shown.
        type: str
        default: ""
      assertions:
        description: Truths that hold from the end of this stage on. Judged at every look, without importing anything.
        type: list
        elements: dict
        default: []
        suboptions:
          distribution:
            description: Distribution that a lock names.
            type: str
            required: true
          version:
            description: Version that its metadata must have, local part included.
            type: str
            default: ""
          file:
            description: Source file below site-packages, for example V(torch/version.py).
            type: str
            default: ""
          attribute:
            description: Name to which O(stages[].assertions[].file) assigns a text.
            type: str
            default: __version__
          suffix:
            description: End that this text must have, for example V(+cu130).
            type: str
            default: ""
  find_links:
    description: Directory of wheels on the node. With it no index is asked.
    type: str
    default: ""
  blocklist:
    description: Releases that are never installed, whoever locked them, beside those that the version matrix knows.
    type: list
    elements: dict
    default: []
    suboptions:
      distribution:
        description: Name of the distribution.
        type: str
        required: true
      versions:
        description: Versions, ranges such as V(>=2.10,<2.11), or V(*).
        type: list
        elements: str
        required: true
      reason:
        description: Why, with a source. Shown when a lock is refused.
        type: str
        required: true
  imports:
    description: Modules that must import, proven at every look with the rights of O(owner).
    type: list
    elements: str
    default: []
  entry_points:
    description: Programs in C(bin) that must be executable.
    type: list
    elements: str
    default: []
  cuda:
    description: Also report whether torch sees a GPU. Never judged.
    type: bool
    default: false
  owner:
    description:
      - Account that owns the environment. Everything is built with its rights, so every folder on the way must be
        root's or its own. Folders of a generation are closed to writing at its end.
    type: str
    default: root
  generation:
    description:
      - V(declared) is the one of O(stages). V(previous) goes back to the one that C(current) led to before,
        which is always kept; the declared one stays, so that both ways are one rename.
    type: str
    choices: [declared, previous]
    default: declared
  size_mib:
    description:
      - Size of a generation. Twice as much must be free, for itself and for its downloads, or nothing is begun.
        0 takes the size of the largest generation that is there.
    type: int
    default: 0
  uv:
    description: Where uv may be. The first that is there is used, otherwise pip.
    type: list
    elements: str
    default: [/usr/local/bin/uv, /usr/bin/uv]
  confirm:
    description:
      - What may be moved aside to make room, exactly as C(blocked_by) of an earlier result lists it, for example a
        hand-made environment at C(<root>/<name>/current). Nothing of it is deleted.
    type: list
    elements: str
    default: []
notes:
  - Name C(current/bin/<program>) in units, not C(current/bin/python). The programs carry the path of
    their generation, while a Python that is started through the link looks for modules through the
    link, and after a switch in another generation than it began with.
  - Proxy variables, C(SSL_CERT_FILE), C(REQUESTS_CA_BUNDLE) and C(PIP_CERT) of the task's environment are handed on
    to the package tool.
author:
  - The nusy.dgx_spark maintainers (@nusy)
"""

EXAMPLES = r"""
- name: Ensure vLLM and the torch it is built for
  nusy.dgx_spark.vllm_venv:
    name: vllm
    interpreter: /usr/bin/python3.12
    python: "3.12"
    machine: aarch64
    owner: nusy
    stages:
      - name: torch
        lock: "{{ lookup('ansible.builtin.file', 'spark-vllm-0.27.1-torch.lock') }}"
        assertions:
          - {distribution: torch, file: torch/version.py, suffix: +cu130}
      - name: vllm
        lock: "{{ lookup('ansible.builtin.file', 'spark-vllm-0.27.1.lock') }}"
    imports: [torch, vllm]
    entry_points: [vllm]

- name: Go back to the environment before this one
  nusy.dgx_spark.vllm_venv:
    name: vllm
    interpreter: /usr/bin/python3.12
    python: "3.12"
    generation: previous
    stages:
      - name: vllm
        lock: "{{ lookup('ansible.builtin.file', 'spark-vllm-0.27.1.lock') }}"
"""

RETURN = r"""
controls:
  description: One verdict for each control. See docs/contracts/evidence.md.
  returned: always, also with a failed run that got as far as looking
  type: list
  elements: dict
  contains:
    id:
      description: Id of the control.
      type: str
    state:
      description: What was found - C(in_sync), C(drifted), C(unknown) or C(not_selected).
      type: str
    before:
      description: Differing properties as found, for example each package with its version.
      type: dict
    after:
      description: The same properties as declared.
      type: dict
    reason:
      description: One line; always there for C(unknown) and C(not_selected).
      type: str
    blocked_by:
      description: The variable and value that would allow the step, empty when not blocked.
      type: str
    cause:
      description: Who moved - C(corrective), C(intentional), C(never_applied), C(blocked), C(adopted) or empty.
      type: str
left:
  description: The controls as a failed real run left them.
  returned: when a real run fails after it has looked
  type: list
  elements: dict
plan:
  description: The steps, in order, that were or would be done.
  returned: always
  type: list
  elements: str
assumptions:
  description: What the plan relies on and this task does not declare.
  returned: always
  type: list
  elements: str
venv:
  description: The environment as found.
  returned: always, also with a failed run that got as far as looking
  type: dict
  contains:
    path:
      description: The link that units and launchers name.
      type: str
    generation:
      description: Where it leads, empty when to none of ours.
      type: str
    previous:
      description: What O(generation=previous) goes back to, empty when there is none.
      type: str
    wanted:
      description: Where it must lead.
      type: str
    intact:
      description: Whether every file is as installed; null when there is no manifest.
      type: bool
    packages:
      description: Version of each distribution that is there.
      type: dict
    misrecorded:
      description:
        - Files that the RECORD of their own wheel describes wrongly, as its maker published it. The wheel as a whole
          had the locked hash, and from then on these files are judged like all others.
      type: list
      elements: str
    size_mib:
      description: Size of a generation, as declared or as found.
      type: int
    machine:
      description: Machine of the interpreter.
      type: str
    installer:
      description: Kind and path of the tool that a build uses.
      type: dict
cuda:
  description: When O(cuda) is set, C(available) (null when it could not be told) and C(reason).
  returned: always
  type: dict
obstacles:
  description: The four parts of everything that keeps a real run from repairing what differs.
  returned: always
  type: list
  elements: dict
error:
  description: The four parts of an error and its key.
  returned: on failure
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import ensure
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv.subject import MODULE


def main() -> None:
    ensure(MODULE, AnsibleModule)


if __name__ == "__main__":
    main()
