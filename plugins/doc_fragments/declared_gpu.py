# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The option of every module that is about the GPU alone (``_nvidia.absent.OPTION``)."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  declared_gpu:
    description:
      - What the machine is declared to have. With V(none) nothing that is for a GPU is ensured, and the result says so.
      - The machine is looked at all the same. Where it has an NVIDIA GPU, or nobody can tell, the controls are unknown.
    type: str
    choices: [nvidia, none]
    default: nvidia
"""
