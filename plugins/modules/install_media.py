#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: install_media
short_description: Render what installs a machine by itself
version_added: 0.1.0
description:
  - Renders the seed of cloud-init and the content of the volume OEMDATA for NVIDIA's custom installation of DGX OS, or
    the seed of an autoinstall for Ubuntu Server 24.04, into one folder for each host.
  - Runs on the controller alone, without a connection. Nothing is downloaded, and no image is made.
  - What is declared is judged whole before a file is written. There is no option for a password - public keys are the
    only way in - and the disk that is erased is named by its serial.
  - The same input gives the same bytes. A folder with files that nobody made here is refused.
attributes:
  check_mode:
    description: Says what would be written.
    support: full
  diff_mode:
    description: Shows every file; packages by their digest.
    support: full
  idempotent:
    description: Writes what differs, and nothing else.
    support: full
options:
  declared:
    description: What to install, as C(spark_install) of the inventory has it (C(docs/guides/install-media.md)).
    type: dict
    required: true
  directory:
    description: Folder on the controller, for a folder of each host. Both are for their owner alone.
    type: str
    required: true
author:
  - The nusy.dgx_spark maintainers (@nusy)
"""

EXAMPLES = r"""
- name: Render what installs the host
  nusy.dgx_spark.install_media:
    declared:
      system: ubuntu
      user: admin
      authorized_keys: ["{{ lookup('ansible.builtin.file', '~/.ssh/id_ed25519.pub') }}"]
      disk_serial: SAMSUNG_MZALC4T0HBL1_S7XXNX0T000001
    directory: build/install-media
"""

RETURN = r"""
folder:
  description: Folder of the host.
  returned: success
  type: str
  sample: /home/ana/site/build/install-media/spark-1
files:
  description: What is in it.
  returned: success
  type: list
  elements: str
  sample: [SHA256SUMS, meta-data, user-data]
commands:
  description: What to do with it. Nothing of that is done here.
  returned: success
  type: list
  elements: str
error:
  description: The first error - C(key), C(kind), C(wanted), C(found), C(why) and C(fix).
  returned: failure
  type: dict
errors:
  description: All of them.
  returned: failure
  type: list
  elements: dict
"""
