#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight
short_description: Refuse variables that nobody meant, before anything is touched
version_added: 0.1.0
description:
  - Holds every variable of a host that begins like those of a role of this collection, or with
    C(spark_), against the argument specs. A name that no role documents, a value of another
    type and an empty value are errors that say where they were written and what was probably meant.
  - In a real run also refuses C(inventories/local), unless O(ignore:spark_local_apply) names this machine.
  - Runs on the controller alone, without a connection, and judges no state of a node.
  - Makes of these variables what each role that reads one of them would call its module with, and has that
    judged by the code that the module begins with - a path that is none, a control that the role does not have,
    two controls that contradict each other. So no role is applied to a host where a later one would be refused.
  - Refuses two services on one port and address of a host, by what roles publish and C(spark_ports) adds
    (P(nusy.dgx_spark.published_ports#lookup)). A wildcard meets every address.
  - What cannot be computed before the role runs is judged by the role's own call. A warning names each, with what is
    missing.
attributes:
  check_mode:
    description: Judges the same in check mode, but for the guard of the local inventory.
    support: full
  diff_mode:
    description: Nothing is changed, so there is no diff.
    support: none
  idempotent:
    description: Reads only.
    support: full
notes:
  - A variable of something else that happens to begin like those of a role is named in
    C(spark_foreign_variables).
options: {}
author:
  - The nusy.dgx_spark maintainers (@nusy)
"""

EXAMPLES = r"""
- name: Refuse what nobody meant
  nusy.dgx_spark.preflight:
"""

RETURN = r"""
unjudged:
  description: One text for each call of a role, or port of a service, that could not be computed yet, with the reason.
  returned: success
  type: list
  elements: str
  sample:
    - >-
      the call of role prereqs on spark-1 cannot be computed before it runs, and was not judged: 'team' is undefined.
      What is wrong with it will stop that role, after those before it were applied.
error:
  description: The first error - C(key), C(kind) (always C(input)), C(wanted), C(found), C(why) and C(fix).
  returned: failure
  type: dict
  sample:
    key: input.unknown
    kind: input
    wanted: "prereqs_confrim: a name that is documented"
    found: prereqs_confrim on spark-1, at inventories/office/host_vars/spark-1.yml:2:18
    why: nothing would be done about it, and nobody would notice
    fix: call it prereqs_confirm; if it belongs to something else, add it to spark_foreign_variables
errors:
  description: All of them.
  returned: failure
  type: list
  elements: dict
"""
