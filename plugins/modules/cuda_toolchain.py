#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: cuda_toolchain
short_description: Ensure a CUDA toolkit that builds for the GPU, at a known place
version_added: 0.1.0
description:
  - Looks at the toolkit under a prefix by running it - which of its tools are there, which release
    they are of, and whether they build a CUDA object for the GPU - and makes it what is declared.
  - "The toolkit comes from one of three sources. V(existing) adopts one that is there and changes
    nothing of it. V(apt) installs NVIDIA's packages. V(wheel) makes a toolkit of NVIDIA's wheels."
  - The proof is a look and is the same in check mode. What compilers read and write lies in one
    private temporary folder that is removed in any case. Neither GPU nor driver is needed.
  - What others have made is changed only when O(confirm) names it. Until then the control is
    drifted with C(blocked_by), the rest converges and the task does not fail.
notes:
  - A real run that ends well leaves C(/var/lib/nusy/applied/cuda_toolchain.json), from which later
    checks tell whether the node or the declaration moved.
  - Programs below a prefix that somebody else than root decides about are run with their rights.
  - On DGX OS no repository is added, whatever is declared; the one of the system is adopted.
  - No toolkit and no package is ever removed.
  - Proxy variables, C(SSL_CERT_FILE), C(REQUESTS_CA_BUNDLE) and C(PIP_CERT) of the task's environment are handed on to
    pip, nothing else of it and no configuration file.
  - The proof uses the C(g++) that C(nvcc) finds in the folders of the system. Without one, the control
    C(cuda_toolchain/builds) is unknown and says what C(ptxas) alone can do.
  - C(cuobjdump) and C(nvdisasm) only read what was built, and may be of a later release of the same major
    version - NVIDIA has wheels of them from 13.2 on.
attributes:
  check_mode:
    description: Makes the same plan, compiles the same proof, and applies nothing.
    support: full
  diff_mode:
    description: Shows each differing property of each drifted control.
    support: full
  idempotent:
    description: After applying, the node is looked at again; a plan that is not empty is an error.
    support: full
extends_documentation_fragment:
  - nusy.dgx_spark.declared_gpu
  - nusy.dgx_spark.ensuring
options:
  version:
    description: Release of the toolkit, major.minor, quoted.
    type: str
    default: "13.0"
  source:
    description: Where the toolkit comes from.
    type: str
    choices: [existing, apt, wheel]
    default: existing
  prefix:
    description:
      - Absolute path of the toolkit; its tools are in C(bin) below it.
      - Empty stands for C(/usr/local/cuda-<version>), or C(/usr/local/lib/nusy/cuda/<version>) with O(source=wheel).
      - With O(source=wheel) it is a link to a directory beside it that is replaced as a whole.
        Anything else in its place is moved aside only when O(confirm) names it. Root runs what is in there,
        so none is made where somebody else than root decides about the folder or one above it.
    type: str
    default: ""
  link:
    description:
      - Absolute path of a link that must lead to the prefix, such as C(/usr/local/cuda). Empty for none.
      - Where C(update-alternatives) manages that link, the alternative is set.
      - A link that leads elsewhere is changed only when O(confirm) names it, unless it leads to
        a toolkit below C(/usr/local/lib/nusy/cuda), or still to where this module made it lead.
    type: str
    default: ""
  components:
    description: Tools that must be there, be executable and be of this release. The others are looked at as well.
    type: list
    elements: str
    choices: [nvcc, ptxas, nvlink, fatbinary, cuobjdump, nvdisasm]
    default: [nvcc, ptxas, nvlink, fatbinary, cuobjdump, nvdisasm]
  arch:
    description: GPU target of the proof.
    type: str
    default: sm_121
  compile:
    description: Prove it with C(nvcc). Otherwise C(ptxas) alone has to assemble for the target.
    type: bool
    default: true
  timeout:
    description: Seconds that one program may take before it is stopped.
    type: float
    default: 60
  packages:
    description:
      - Packages with O(source=apt), as C(name) or C(name=version). Those that bring a driver are refused.
      - "The default is what engines need to build kernels at run time: C(cuda-nvcc), C(cuda-cuobjdump),
        C(cuda-nvdisasm), C(cuda-cudart-dev), C(cuda-cccl), C(cuda-nvrtc-dev) and C(libcurand-dev) of the release."
    type: list
    elements: str
    default: []
  holds:
    description: Which of O(packages) are held at their version, by exact name.
    type: list
    elements: str
    default: []
  repository_url:
    description:
      - Address of the apt repository with O(source=apt). Empty for NVIDIA's own, which is known for
        Ubuntu 22.04 and 24.04, and for Debian 12 on x86_64.
      - A source of this address that somebody has configured is adopted, and none is added.
    type: str
    default: ""
  repository_fingerprint:
    description: Fingerprint of the key that signs the repository, 40 digits. The default is NVIDIA's.
    type: str
    default: EB693B3035CD5710E231E123A4B469963BF863CC
  repository_key:
    description: The key itself, armoured. When it is empty a real run fetches it from O(repository_key_url).
    type: str
    default: ""
  repository_key_url:
    description:
      - Where the key is fetched from, an https or file address. Nothing is written unless what comes is
        the key with O(repository_fingerprint) and no other.
      - Empty stands for C(3bf863cc.pub) beside the packages.
    type: str
    default: ""
  lock:
    description: Text of the hash-locked requirements file with O(source=wheel). All that builds must be of one release.
    type: str
    default: ""
  interpreter:
    description: Python whose pip installs the wheels. It needs C(venv) and nothing else.
    type: str
    default: /usr/bin/python3
  index_url:
    description: Package index of the wheels; empty for the public one. It may hold a password and is shown nowhere.
    type: str
    default: ""
  find_links:
    description: Absolute path of a folder on the node that holds the wheels; then no index is asked.
    type: str
    default: ""
seealso:
  - module: nusy.dgx_spark.ptxas_probe
  - module: nusy.dgx_spark.ensure_state
author:
  - The nusy.dgx_spark maintainers (@nusy)
"""

EXAMPLES = r"""
- name: Adopt what DGX OS brings, and have /usr/local/cuda lead to it
  nusy.dgx_spark.cuda_toolchain:
    link: /usr/local/cuda
  become: true
  register: cuda

- name: Install NVIDIA's packages, and keep the compiler at its version
  nusy.dgx_spark.cuda_toolchain:
    source: apt
    holds: [cuda-nvcc-13-0]
  become: true

- name: Make a toolkit of wheels that were copied to the node
  nusy.dgx_spark.cuda_toolchain:
    source: wheel
    lock: "{{ lookup('ansible.builtin.file', 'toolkit.lock') }}"
    find_links: /srv/wheels
  become: true
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
      description: Differing properties as found.
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
prefix:
  description: Absolute path of the toolkit.
  returned: on a supported system that is declared to have a GPU
  type: str
  sample: /usr/local/cuda-13.0
version:
  description: Version that C(nvcc) names; empty when it does not run.
  returned: on a supported system that is declared to have a GPU
  type: str
  sample: 13.0.88
binaries:
  description: Every tool by its name, those that are not required too. In a real run, as they are at its end.
  returned: on a supported system that is declared to have a GPU
  type: dict
  contains:
    path:
      description: Absolute path.
      type: str
    version:
      description: Version it names; empty when it names none.
      type: str
    fault:
      description: >-
        Why it is no such tool - C(missing), C(unreachable), C(directory), C(denied), C(uninterpreted), C(unrunnable),
        C(failing), C(garbage) or C(hangs), or C(unjudged) when it was not run; empty when it is one.
      type: str
    stderr:
      description: What is wrong with it in words.
      type: str
    size_mib:
      description: Size in MiB.
      type: float
  sample:
    nvcc:
      path: /usr/local/cuda-13.0/bin/nvcc
      version: 13.0.88
      fault: ""
      stderr: ""
      size_mib: 28.8
size_mib:
  description: Size of the whole toolkit in MiB.
  returned: on a supported system that is declared to have a GPU
  type: int
  sample: 310
link:
  description: >-
    The link - C(path), C(kind), C(target), C(alternative) (that manages it) and C(leads_to_prefix). Empty when none is
    declared.
  returned: on a supported system that is declared to have a GPU
  type: dict
  sample:
    path: /usr/local/cuda
    kind: link
    target: /usr/local/cuda-13.0
    alternative: cuda
    leads_to_prefix: true
proof:
  description: What building for the target came to.
  returned: on a supported system that is declared to have a GPU
  type: dict
  contains:
    arch:
      description: The target.
      type: str
    assembled:
      description: C(ptxas) alone made a CUDA object; null when it was not asked.
      type: bool
    built:
      description: C(nvcc) made a CUDA object out of a C(.cu); null when it could not be asked.
      type: bool
    read_back:
      description: >-
        What found code for the target in it - C(cuobjdump), or C(elf), the header alone, which has no suffix of the
        target.
      type: str
    reason:
      description: What it lacked or said.
      type: str
  sample: {arch: sm_121, assembled: true, built: true, read_back: cuobjdump, reason: ""}
provides:
  description:
    - Names of docs/contracts/paths-env.md with the proven paths of this toolkit.
    - In a real run, as they are at its end.
  returned: on a supported system that is declared to have a GPU
  type: dict
  sample: {NVCC_BIN: /usr/local/cuda-13.0/bin/nvcc}
left:
  description: The controls as a failed real run left them; see docs/contracts/evidence.md.
  returned: when a real run fails after it has looked
  type: list
  elements: dict
plan:
  description: The steps, in order, that were or would be done.
  returned: always
  type: list
  elements: str
refused:
  description: Why a real run would not be begun; see M(nusy.dgx_spark.ensure_state).
  returned: when there is such a reason
  type: list
  elements: str
unused_confirm:
  description: Names in O(confirm) that no step asked for.
  returned: when there are such names
  type: list
  elements: str
assumptions:
  description: What the plan relies on and this declaration does not say.
  returned: always
  type: list
  elements: str
error:
  description: The four parts of an error and its key.
  returned: on failure
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import ensure
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda.subject import MODULE


def main() -> None:
    ensure(MODULE, AnsibleModule)


if __name__ == "__main__":
    main()
