# SPDX-License-Identifier: GPL-3.0-or-later
"""pytest plugin (``-p no_ansible``): the tests run as if ansible-core were not installed.

Node code imports the standard library and this collection only; a test that passes under
this plugin proves it for the code it reaches.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder


class Refuse(MetaPathFinder):
    def find_spec(self, fullname: str, path: Sequence[str] | None, target: object = None) -> None:
        if fullname.partition(".")[0] in {"ansible", "yaml", "jinja2", "cryptography"}:
            raise ModuleNotFoundError(f"{fullname}: not on a node (tests/tools/no_ansible.py)", name=fullname)


for loaded in [name for name in sys.modules if name.partition(".")[0] in {"ansible", "yaml", "jinja2"}]:
    del sys.modules[loaded]
sys.meta_path.insert(0, Refuse())
