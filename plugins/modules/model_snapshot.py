#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: model_snapshot
short_description: Ensure that exactly the declared bytes of models are on a node
version_added: 0.1.0
description:
  - Publishes the declared files of one commit of a repository at C(<root>/<name>/<revision>), and leads the link
    C(<root>/<name>/current) there. A snapshot appears in one rename when every file of it has its declared SHA-256.
  - What this node has already under another name or revision is copied. The rest comes from O(peers), in their order,
    and then from the hub, with C(huggingface_hub) of the environment of O(python). It all runs as O(owner).
  - A download that was cut off or killed goes on where it stopped, also in the next run.
  - Looking reads no bytes. A file is hashed again only when its inode was touched since it was compared.
  - A file that was changed, cut, removed or given away is drift, and is fetched again alone.
attributes:
  check_mode:
    description: Predicts every step of a real run, without a network.
    support: full
  diff_mode:
    description: Shows each snapshot that is missing, and each file that differs in one that is there.
    support: full
  idempotent:
    description: After applying, the node is looked at again; a plan that is not empty is an error.
    support: full
extends_documentation_fragment:
  - nusy.dgx_spark.ensuring
options:
  models:
    description: The models of this node. What does not fit is left out in their order.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name on this node, of lower-case letters, digits, dots, dashes and underscores.
        type: str
        required: true
      repository:
        description: Repository on the hub, C(owner/name).
        type: str
        required: true
      revision:
        description: Full commit, 40 hexadecimal digits.
        type: str
        required: true
      files:
        description: Every file that is wanted of that commit.
        type: list
        elements: dict
        required: true
        suboptions:
          path:
            description: Path in the repository.
            type: str
            required: true
          size:
            description: Bytes.
            type: int
            required: true
          sha256:
            description: SHA-256 of the content, hexadecimal.
            type: str
            required: true
      licence:
        description: Name of the licence that somebody has read.
        type: str
        required: true
      gated:
        description: The hub gives it only to who accepted the licence. Only for such models O(token) is sent.
        type: bool
        default: false
      quantisation:
        description: How its weights are quantised. Written to the label of the snapshot.
        type: str
        default: ""
  root:
    description: Where models are.
    type: str
    default: /srv/models
  owner:
    description: Account that fetches and owns models, and its group of the same name.
    type: str
    default: nusy
  python:
    description: Python of an environment that has C(huggingface_hub).
    type: str
    default: /opt/nusy/venvs/vllm/current/bin/python
  endpoint:
    description: The hub, or a mirror of it.
    type: str
    default: https://huggingface.co
  token:
    description: Token for gated models. It is on no command line, in no environment and in no result.
    type: str
    default: ""
  proxy:
    description:
      - Proxy by which the hub is asked, C(http://[user:password@]host[:port]). It is on no command line, in no
        environment and in no result. Proxies of the environment are not used.
    type: str
    default: ""
  no_proxy:
    description: Hosts, domains and addresses that are asked without O(proxy). This machine always is.
    type: list
    elements: str
    default: []
  offline:
    description: Never ask the hub. What neither this node nor a peer has makes the run fail.
    type: bool
    default: false
  peers:
    description:
      - Where snapshots may be copied from, as C(rsync) names it, C([user@]host:/srv/models) or a folder of this node.
      - What a peer does not have, or has with other bytes, comes from the next source; the result says so.
    type: list
    elements: str
    default: []
  reserve_gib:
    description: GiB that stay free. Looked for before the first byte.
    type: int
    default: 20
  verify:
    description: V(everything) hashes every file in this look, whatever its inode tells.
    type: str
    choices: [stamps, everything]
    default: stamps
  tiers:
    description:
      - Places of a storage plan. C(hot_models), C(checkpoints), C(knowledge_graphs), C(vector_indexes), C(artifacts)
        and C(cold_archive) have a place when nothing else is said; any other name needs O(tiers[].path).
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: What is kept there.
        type: str
        required: true
      path:
        description:
          - The folder. Empty means O(root) for C(hot_models), C(/srv/checkpoints), C(/srv/knowledge-graphs),
            C(/srv/vector-indexes), C(/srv/artifacts), and C(/srv/archive) for C(cold_archive). Folders of the system
            are refused.
        type: str
        default: ""
      owner:
        description: Account and group that own it. Empty means O(owner).
        type: str
        default: ""
      mode:
        description:
          - Its mode, octal digits, in which not everybody may write. Empty means C(0755) for C(hot_models) and C(0750)
            for all others.
        type: str
        default: ""
      free_gib:
        description: GiB that have to be free there.
        type: int
        default: 20
      file_systems:
        description: Kinds of file systems, such as V(ext4) and V(xfs), of which one has to hold it. Empty means any.
        type: list
        elements: str
        default: []
      mounted:
        description:
          - It has to be a file system of its own, and is not made where it is none. True for C(cold_archive) and false
            for all others unless it is said.
        type: bool
notes:
  - An unused snapshot, and a file in a snapshot that nobody declares, goes only when O(confirm) has its path.
    A snapshot from which a process runs stays. What was not published by this module is never removed.
  - Files of more than 50 GB cannot be had from the hub without C(hf_xet), which this does not use. Weights are
    published in smaller pieces.
seealso:
  - module: nusy.dgx_spark.vllm_venv
author:
  - The nusy.dgx_spark maintainers (@nusy)
"""

EXAMPLES = r"""
- name: Ensure one model, from the first node if it has it
  nusy.dgx_spark.model_snapshot:
    peers: ["nusy@spark-1:/srv/models"]
    models:
      - name: tiny
        repository: example/tiny
        revision: 0123456789abcdef0123456789abcdef01234567
        licence: apache-2.0
        files:
          - path: config.json
            size: 2
            sha256: 44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a
  become: true
"""

RETURN = r"""
controls:
  description: One verdict for each control. See docs/contracts/evidence.md.
  returned: always, also with a failed run that got as far as looking
  type: list
  elements: dict
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
  description: What the plan relies on.
  returned: always
  type: list
  elements: str
snapshots:
  description: For each model its path, whether it is C(whole), bytes that are C(missing), how many files came from
    which source (C(came)), and which sources were passed over and why (C(passed)).
  returned: when the place could be looked at
  type: list
  elements: dict
unused:
  description: Snapshots and begun downloads that no model names.
  returned: when the place could be looked at
  type: list
  elements: dict
free:
  description: Bytes that are free where the models are, or would be.
  returned: when the place could be looked at
  type: int
others:
  description: Paths of what somebody else has put there.
  returned: when the place could be looked at
  type: list
  elements: str
refused:
  description: Why a real run stops before its first step, since it would certainly fail half-way.
  returned: when there is such a reason
  type: list
  elements: str
unused_confirm:
  description: Names in O(confirm) that no step asked for.
  returned: when there are such names
  type: list
  elements: str
error:
  description: The four parts of an error and its key.
  returned: on failure
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import ensure
from ansible_collections.nusy.dgx_spark.plugins.module_utils._models.subject import MODULE


def main() -> None:
    ensure(MODULE, AnsibleModule)


if __name__ == "__main__":
    main()
