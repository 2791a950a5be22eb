# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The option of every module that judges versions (``_versions.judge.OPTIONS``)."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  version_matrix:
    description:
      - Rows beside those of the version matrix that this collection ships. One of the same C(id) takes
        the place of the shipped one. See docs/version-matrix.md.
    type: list
    elements: dict
    default: []
    suboptions:
      id:
        description: Name of the row, of C(a-z), C(0-9) and C(_).
        type: str
        required: true
      subject:
        description: C(kernel), C(driver), C(cuda), C(container_toolkit), C(connectx_firmware), C(uefi), C(nccl) or
          C(python:<distribution>).
        type: str
        required: true
      range:
        description: Bounds such as C(>=580.126.09,<581), or C(*) for every version.
        type: str
        required: true
      verdict:
        description: What is known of these versions.
        type: str
        required: true
        choices: [known_good, known_bad, unmeasured]
      why:
        description: What was seen of them.
        type: str
        required: true
      source:
        description: Who says so.
        type: str
        required: true
      remedy:
        description: What to do about it. Required for V(known_bad).
        type: str
        default: ""
      only:
        description: Where alone the row counts.
        type: str
        choices: ["", spark, founders_edition, cdi_0_7]
        default: ""
      unless:
        description: Kernel parameter with which the row does not count, such as C(kho=off).
        type: str
        default: ""
"""
