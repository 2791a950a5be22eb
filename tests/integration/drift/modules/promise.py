#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Returns the evidence it is told to: stands for any module of the collection in the tests
of the drift report, whatever those modules look like today."""

from __future__ import annotations

import time

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    module = AnsibleModule(
        {
            "controls": {"type": "raw"},
            "left": {"type": "raw"},
            "error": {"type": "dict"},
            "msg": {"type": "str", "default": ""},
            "hostile": {"type": "bool", "default": False},
            "sleep": {"type": "float", "default": 0},
        },
        supports_check_mode=True,
    )
    time.sleep(module.params["sleep"])
    result = {"changed": False}
    controls = module.params["controls"]
    if controls is not None:
        result["controls"] = controls
        result["changed"] = any(isinstance(c, dict) and c.get("state") == "drifted" for c in controls)
    if module.params["left"] is not None:
        result["left"] = module.params["left"]
    if module.params["hostile"]:
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
    if module.params["error"]:
        module.fail_json(msg=module.params["msg"] or "it failed", error=module.params["error"], **result)
    module.exit_json(msg=module.params["msg"], **result)


if __name__ == "__main__":
    main()
