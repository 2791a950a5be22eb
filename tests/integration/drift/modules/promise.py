#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Returns the evidence it is told to: stands for any module of the collection in the tests
of the drift report, whatever those modules look like today.

Ansible gives it its arguments in a file (WANT_JSON), as it does with modules that do not use
AnsibleModule: a call costs a quarter of one that does, and the report is made on the controller.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path


def main() -> None:
    params = json.loads(Path(sys.argv[1]).read_text())
    time.sleep(params.get("sleep", 0))
    result = {"changed": False, "msg": params.get("msg", "")}
    controls = params.get("controls")
    if controls is not None:
        result["controls"] = controls
        result["changed"] = any(isinstance(c, dict) and c.get("state") == "drifted" for c in controls)
    if "left" in params:
        result["left"] = params["left"]
    if params.get("hostile"):
        # What a file on a node may hold; JSON carries all of it.
        result["changed"] = True
        result["diff"] = {
            "before": "\x1b[2J\x1b]0;owned\x07" + "x" * 3_000_000,
            "after": "lone \udce9 \u202e\u2028 <script>" + "x" * 3_000_000 + "!",
            "before_header": "/etc/\x1b[31m\nevil",
            "after_header": "/etc/\x1b[31m\nevil",
        }
        result["results"] = "not a list"
        result["controls"] = {"not": "ours"}
    if "error" in params:
        result |= {"failed": True, "msg": result["msg"] or "it failed", "error": params["error"]}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
