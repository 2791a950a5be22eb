# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The options that every module has which ensures what it has to look at first (``_core.entry.OPTIONS``)."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  skip_controls:
    description: Ids of controls to leave alone. They are reported as C(not_selected).
    type: list
    elements: str
    default: []
  confirm:
    description:
      - Victims that the operator allows to be touched, exactly as C(blocked_by) of an earlier result lists them.
    type: list
    elements: str
    default: []
"""
