# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The options of every module that takes models by their names in the manifest (``_models.named.OPTIONS``)."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  models:
    description:
      - The manifest that names of models are looked up in, as M(nusy.dgx_spark.model_snapshot) takes it. Of each model
        C(name), C(revision) and the C(path) of its C(files) are read.
    type: list
    elements: dict
    default: []
  models_root:
    description: Where M(nusy.dgx_spark.model_snapshot) keeps them.
    type: str
    default: /srv/models
"""
