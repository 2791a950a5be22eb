# SPDX-License-Identifier: GPL-3.0-or-later
"""Units whose change can cut whoever works on the node off from it: done by their name only.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Step

# The way in: the SSH server and whatever configures the network, by the names of Debian and Ubuntu.
ACCESS = frozenset(
    (
        *("ssh.service", "ssh.socket", "sshd.service"),
        *("NetworkManager.service", "systemd-networkd.service", "networking.service", "wpa_supplicant.service"),
    )
)
# With rules that nobody has looked at yet, each of them may close that way.
FIREWALLS = frozenset(("nftables.service", "ufw.service", "firewalld.service", "netfilter-persistent.service"))
TAKE_AWAY = frozenset(("stop_unit", "disable_unit", "mask_unit"))
BRING = frozenset(("start_unit", "restart_unit", "enable_unit"))


def of(steps: Sequence[Step], *, running: bool) -> str:
    """Why the steps that are planned for one unit need its name; empty if they do not.

    running: the unit is active now, so that a restart begins nothing new.
    """
    for step in steps:
        if step.target in ACCESS and step.action in TAKE_AWAY:
            return f"without {step.target} nobody may get into this node any more"
        if step.target in FIREWALLS and step.action in BRING and not (running and step.action == "restart_unit"):
            return f"{step.target} may close the way into this node"
    return ""
