# SPDX-License-Identifier: GPL-3.0-or-later
"""Drift reports for tests, demonstrations and measurements.

``demo()`` is a small site on a bad day with every state once, ``site()`` the one that the
documents show, ``fleet()`` is of any size, ``hostile()`` is what an attacker on a node would
like the operator's tools to swallow.
"""

from __future__ import annotations

import copy
from pathlib import Path

from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.catalogue import read

PLAYBOOK = "site.yml"
DAY = 86400

# id, severity, title, what applying disrupts
_CONTROLS = (
    ("prereqs/packages", "medium", "Base packages are installed", ""),
    ("prereqs/user", "high", "The service user exists and cannot log in", ""),
    ("prereqs/directories", "medium", "The site's directories belong to the service user", ""),
    ("prereqs/paths_env", "high", "/etc/nusy/paths.env names proven binaries", ""),
    ("os_hardening/sshd_password", "critical", "SSH refuses passwords", "reloads sshd"),
    ("os_hardening/sshd_root", "critical", "SSH refuses root", "reloads sshd"),
    (
        "os_hardening/firewall",
        "high",
        "The firewall opens only published ports",
        "may cut connections that are not published",
    ),
    ("os_hardening/auditd", "medium", "Changes to accounts and sudo are recorded", ""),
    ("kernel_tuning/swappiness", "medium", "vm.swappiness keeps weights in memory", ""),
    ("kernel_tuning/min_free_kbytes", "medium", "The kernel keeps room for DMA", ""),
    ("kernel_tuning/hugepages", "low", "Transparent huge pages are on request", ""),
    (
        "nvidia_toolkit/cdi",
        "high",
        "The CDI specification matches the driver",
        "new containers use the new specification",
    ),
    ("nvidia_toolkit/runtime", "medium", "Docker knows the NVIDIA runtime", "restarts docker and every container"),
    ("memory_guard/oomd", "high", "The inference slice is killed before the machine stalls", ""),
    ("memory_guard/slice_max", "high", "The inference slice leaves memory for the system", ""),
    ("storage_raid/array", "critical", "The scratch array has all its members", "rebuilds the array for hours"),
    ("storage_raid/mount", "high", "/srv/models is mounted from the array", ""),
    ("network/fabric_mtu", "high", "Fabric ports use jumbo frames", "takes the fabric down for seconds"),
    ("runtime_lock/holds", "medium", "Driver and kernel packages are held", ""),
    ("ssh_mesh/known_hosts", "medium", "Every node knows the host keys of its peers", ""),
    ("cuda_toolchain/version", "high", "CUDA 13.0 is the toolkit in use", ""),
    ("cuda_toolchain/link", "medium", "/usr/local/cuda points to the declared toolkit", ""),
    ("vllm_venv/packages", "high", "The vLLM environment equals its lock file", "restarts vLLM"),
    ("vllm_venv/interpreter", "medium", "The environment uses the declared Python", "rebuilds the environment"),
    ("ptxas/assembler", "critical", "Triton finds an assembler that knows sm_121", "restarts vLLM"),
    ("ptxas/environment", "high", "Only one place sets TRITON_PTXAS_PATH", "restarts vLLM"),
    ("launchers/unit", "high", "The vLLM unit is enabled and runs", "restarts vLLM"),
    ("models/snapshot", "medium", "Model files match their checksums", "downloads up to 60 GB"),
    ("gateway/config", "high", "Envoy runs the declared routes", "drains and restarts Envoy"),
    ("gateway/tls", "critical", "The gateway's certificate is valid for 30 days", "reloads Envoy"),
    ("monitoring/exporter", "low", "The node exporter answers on loopback", ""),
    ("alerting/rules", "medium", "The alert rules are the declared ones", ""),
    ("backup/timer", "high", "The backup ran in the last day", ""),
    ("backup/restore", "medium", "The last restore test passed", ""),
    ("updates/pinned", "low", "Only declared sources can update the system", ""),
    ("drift_timer/timer", "info", "The drift report runs every night", ""),
)
_RATIONALES = {
    "ptxas": "An assembler without sm_121 makes every Triton kernel fail on the first request, long after the service "
    "looked healthy.",
    "os_hardening": "The machine holds the site's models and keys, and it is reachable from the whole lab network.",
    "storage_raid": "A degraded scratch array loses all model files with the next disk.",
}


def _catalogue() -> dict[str, dict[str, object]]:
    catalogue: dict[str, dict[str, object]] = {}
    for name, severity, title, disrupts in _CONTROLS:
        role = name.split("/")[0]
        catalogue[name] = {
            "role": role,
            "title": title,
            "severity": severity,
            "rationale": _RATIONALES.get(role, "Keeps the node equal to what the site declares."),
            "references": [f"docs/roles/{role}.md"],
            "remedy": f"ansible-playbook {PLAYBOOK} --tags {role} --limit {{host}}",
            "disrupts": disrupts,
        }
    return catalogue


def _document(hosts: list[dict[str, object]], catalogue: dict[str, dict[str, object]]) -> dict[str, object]:
    counts = dict.fromkeys(("in_sync", "drifted", "unknown", "waived", "not_selected"), 0)
    unreachable = 0
    for host in hosts:
        unreachable += host["state"] == "unreachable"
        for control in host["controls"]:  # type: ignore[attr-defined]
            counts[control["state"]] += 1
    unsure = unreachable or counts["unknown"]
    return {
        "schema": "nusy.dgx_spark.drift/1",
        "run": {
            "id": "20260131T120000Z-3f2a",
            "started": "2026-01-31T12:00:00Z",
            "seconds": 41.7,
            "mode": "check",
            "playbook": PLAYBOOK,
            "complete": True,
            "incomplete_reason": "",
            "collection": "0.1.0",
            "ansible": "2.19.14",
        },
        "summary": {
            "hosts": len(hosts),
            "unreachable": unreachable,
            "partial": sum(host["state"] == "partial" for host in hosts),
            **counts,
            "exit_code": 3 if unsure else 2 if counts["drifted"] else 0,
        },
        "catalogue": catalogue,
        "waivers": {"file": "", "problems": [], "unused": []},
        "trend": [],
        "hosts": hosts,
    }


def _drifted(
    name: str,
    before: dict[str, object],
    after: dict[str, object],
    cause: str,
    days: float | None = None,
    **more: object,
):
    control = {"id": name, "state": "drifted", "before": before, "after": after, "cause": cause, **more}
    if days is not None:
        control["age_seconds"] = int(days * DAY)
        control["first_seen"] = f"2026-01-{31 - int(days):02d}T03:00:00Z"
    return control


def _host(name: str, findings: list[dict[str, object]], state: str = "reached", reason: str = "") -> dict[str, object]:
    found = {f["id"]: f for f in findings}
    controls = [found.pop(c[0], {"id": c[0], "state": "in_sync"}) for c in _CONTROLS]
    return {"name": name, "state": state, "reason": reason, "controls": [*controls, *found.values()]}


def clean() -> dict[str, object]:
    """One host on which everything is as declared."""
    return _document([_host("spark-1", [])], _catalogue())


def demo() -> dict[str, object]:
    """Six nodes on a bad day: every state, cause and kind of host once."""
    swappiness = _drifted("kernel_tuning/swappiness", {"vm.swappiness": 60}, {"vm.swappiness": 10}, "intentional", 0)
    root = {"state": "unknown", "reason": "needs root"}
    waiver = {
        "reason": "The vendor's agent needs it until the next maintenance window",
        "owner": "lab operations",
        "expires": "2026-03-31",
        "control": "os_hardening/auditd",
        "host": "spark-1",
        "state": "drifted",
    }
    spark_1 = _host(
        "spark-1",
        [
            swappiness,
            _drifted(
                "ptxas/assembler",
                {
                    "ptxas": "/opt/nusy/venvs/vllm/lib/python3.12/site-packages/triton/backends/nvidia/bin/ptxas",
                    "version": "12.4.131",
                    "knows sm_121": "no",
                },
                {"ptxas": "/usr/local/cuda-13.0/bin/ptxas", "version": "13.0.88", "knows sm_121": "yes"},
                "corrective",
                3,
            ),
            _drifted(
                "storage_raid/array",
                {"/dev/md/scratch members": ["nvme1n1", "nvme2n1"], "state": "clean, degraded"},
                {"/dev/md/scratch members": ["nvme1n1", "nvme2n1", "nvme3n1"], "state": "clean"},
                "blocked",
                12,
                blocked_by="storage_raid_confirm_serials: [S6Z2NF0W512204]",
            ),
            _drifted(
                "drift_timer/timer", {"drift.timer": "absent"}, {"drift.timer": "enabled, active"}, "never_applied", 0
            ),
            {
                "id": "os_hardening/auditd",
                "state": "waived",
                "before": {"auditd.service": "masked"},
                "after": {"auditd.service": "enabled, active"},
                "cause": "corrective",
                "waiver": waiver,
                "first_seen": "2026-01-11T03:00:00Z",
                "age_seconds": 20 * DAY,
            },
        ],
    )
    spark_2 = _host(
        "spark-2",
        [
            swappiness,
            _drifted(
                "vllm_venv/packages",
                {"torch": "2.9.0+cu130", "triton": "3.5.0", "xgrammar": "0.1.25"},
                {"torch": "2.9.1+cu130", "triton": "3.5.1", "xgrammar": "0.1.27"},
                "intentional",
                0,
            ),
            _drifted(
                "os_hardening/sshd_password",
                {"passwordauthentication": "yes", "set by": "/etc/ssh/sshd_config.d/90-vendor.conf"},
                {"passwordauthentication": "no"},
                "corrective",
                1,
            ),
            {
                "id": "models/snapshot",
                "state": "unknown",
                "reason": "the checksum of 3 files takes longer than the limit of 60 s",
            },
        ],
    )
    spark_3 = _host(
        "spark-3",
        [
            swappiness,
            *(
                {"id": c[0], **root}
                for c in _CONTROLS
                if c[0].split("/")[0] in ("os_hardening", "memory_guard", "backup", "runtime_lock")
            ),
        ],
    )
    late = [c[0] for c in _CONTROLS[20:]]
    spark_4 = _host(
        "spark-4",
        [
            swappiness,
            {
                "id": "cuda_toolchain/version",
                "state": "unknown",
                "task": "cuda_toolchain : Ensure the toolkit",
                "reason": "/usr/local has 212 MiB free, 4.6 GiB are needed",
            },
            *(
                {"id": name, "state": "unknown", "reason": "not reached (after cuda_toolchain : Ensure the toolkit)"}
                for name in late
                if name != "cuda_toolchain/version"
            ),
        ],
        "partial",
        "failed at cuda_toolchain : Ensure the toolkit",
    )
    spark_5 = _host(
        "spark-5",
        [{"id": c[0], "state": "unknown", "reason": "the host is unreachable"} for c in _CONTROLS],
        "unreachable",
        "ssh: connect to host 10.0.0.15 port 22: No route to host",
    )
    spark_6 = _host(
        "spark-6",
        [
            {"id": "gateway/config", "state": "not_selected", "reason": "not in the group gateway"},
            {"id": "gateway/tls", "state": "not_selected", "reason": "not in the group gateway"},
        ],
    )
    report = _document([spark_1, spark_2, spark_3, spark_4, spark_5, spark_6], _catalogue())
    report["waivers"] = {
        "file": "waivers.yml",
        "problems": [],
        "unused": ["prereqs/packages on spark-9, expires 2026-02-28"],
    }
    past = ((3, 0), (3, 0), (8, 9), (8, 9), (5, 36), (2, 36), (2, 9), (1, 9), (1, 9), (4, 9), (3, 9), (5, 25))
    report["trend"] = [
        {"id": f"run-{day}", "started": f"2026-01-{19 + day}T03:00:00Z", "mode": "check", "drifted": d, "unknown": u}
        for day, (d, u) in enumerate(past)
    ]
    return report


def site() -> dict[str, object]:
    """The roles of this collection on six real-looking machines: what the documents show.

    The catalogue is that of the tree, the evidence has the shape that its modules return.
    """
    names: dict[str, dict[str, object]] = {}
    here = "ansible-playbook site.yml -i inventories/lab"
    for role in ("prereqs", "ptxas"):
        entries, problems = read(role, Path(__file__).resolve().parents[2] / "roles" / role)
        if problems:
            raise ValueError(problems)
        for name, about in entries.items():
            names[name] = {**about, "remedy": about["remedy"].replace("ansible-playbook site.yml", here)}
    machine = "NVIDIA DGX Spark, NVIDIA GB10, driver 580.95.05, Ubuntu 24.04.3 LTS, kernel 6.14.0-1013-nvidia, 120 GiB"

    def host(name: str, *findings: dict[str, object], **more: object) -> dict[str, object]:
        found = {finding["id"]: finding for finding in findings}
        controls = [found.get(name, {"id": name, "state": "in_sync"}) for name in names]
        return {"name": name, "state": "reached", "reason": "", "machine": machine, "controls": controls, **more}

    file = "file /etc/nusy/ptxas.env"
    right = "TRITON_PTXAS_PATH=/usr/local/cuda-13.0/bin/ptxas"
    ninja = _drifted("prereqs/packages_build", {"package ninja-build": "absent"}, {"package ninja-build": "installed"},
                     "intentional", 0)  # fmt: skip
    timer = "unit systemd-timesyncd.service"
    clock = {"before": {f"{timer}: active": "inactive", f"{timer}: enabled": "disabled"},
             "after": {f"{timer}: active": "active", f"{timer}: enabled": "enabled"}}  # fmt: skip
    waiver = {"reason": "the clock comes from the rack until it is moved", "owner": "ana@lab.example",
              "expires": "2026-03-31", "control": "prereqs/time_sync", "host": "spark-6",
              "state": "drifted"}  # fmt: skip
    lost = "ssh: connect to host 10.0.0.15 port 22: No route to host"
    report = _document(
        [
            host(
                "spark-1",
                ninja,
                _drifted(
                    "ptxas/environment",
                    {file: "TRITON_PTXAS_PATH=/usr/local/cuda-12.8/bin/ptxas"},
                    {file: right},
                    "corrective",
                    3,
                    task="ptxas : Ensure that the variables which count are set, and no others",
                ),
            ),
            host(
                "spark-2",
                ninja,
                _drifted(
                    "ptxas/file_extra",
                    {file: "TRITON_CACHE_DIR=/tmp/triton"},
                    {file: "absent"},
                    "corrective",
                    9,
                    reason="/etc/nusy/ptxas.env has lines that no control declares",
                ),
                _drifted("prereqs/time_sync", clock["before"], clock["after"], "corrective", 1),
            ),
            host(
                "spark-3",
                ninja,
                _drifted(
                    "ptxas/assembles",
                    {"Triton 3.4.0 builds for sm_121a": "unrepairable"},
                    {"Triton 3.4.0 builds for sm_121a": "ok or forced_ok"},
                    "corrective",
                    2,
                    reason="Its own ptxas (CUDA 12.8.93) does not know sm_121a, and Triton 3.4.0 refuses the one of "
                    "CUDA 13.0",
                    task="ptxas : Ensure that the variables which count are set, and no others",
                ),
            ),
            host(
                "spark-4",
                ninja,
                _drifted(
                    "prereqs/root_code",
                    {"directory /opt/nusy: owner": "build:build"},
                    {"directory /opt/nusy: owner": "nusy:nusy"},
                    "blocked",
                    12,
                    blocked_by="prereqs_confirm: [/opt/nusy]",
                    reason="/opt/nusy is not empty and belongs to somebody else",
                ),
            ),
            host(
                "spark-5",
                *({"id": name, "state": "unknown", "reason": f"unreachable: {lost}"} for name in names),
                state="unreachable",
                reason=lost,
            ),
            host(
                "spark-6",
                {"id": "prereqs/time_sync", "state": "waived", "cause": "corrective", "waiver": waiver,
                 "first_seen": "2026-01-11T03:00:00Z", "age_seconds": 20 * DAY, **clock},
            ),
        ],
        names,
    )  # fmt: skip
    report["run"] = {**report["run"], "directory": "/home/ana/dgx_spark", "variables": []}  # type: ignore[dict-item]
    past = ((2, 0), (2, 0), (9, 0), (9, 0), (4, 12), (4, 12), (3, 0), (1, 0), (1, 0), (2, 0), (4, 0), (4, 12))
    report["trend"] = [
        {"id": f"run-{day}", "started": f"2026-01-{19 + day}T03:00:00Z", "mode": "check", "drifted": d, "unknown": u}
        for day, (d, u) in enumerate(past)
    ]
    return report


def fleet(hosts: int, controls: int, bad: int) -> dict[str, object]:
    """``bad`` of ``controls`` are drifted or unknown on each host, half of them only there."""
    severities = ("low", "medium", "high", "critical", "info")
    catalogue = {
        f"role_{n % 35}/control_{n}": {
            "role": f"role_{n % 35}",
            "title": f"Control number {n} holds on this node",
            "severity": severities[n % 5],
            "rationale": "Something would break otherwise, and this sentence says how.",
            "references": ["docs/example.md"],
            "remedy": f"ansible-playbook site.yml --tags role_{n % 35} --limit {{host}}",
            "disrupts": "",
        }
        for n in range(controls)
    }
    names = list(catalogue)

    def control(host: int, n: int) -> dict[str, object]:
        if (n - host * 7) % controls >= bad:
            return {"id": names[n], "state": "in_sync"}
        if n % 3 == 0:
            return {"id": names[n], "state": "unknown", "reason": "needs root"}
        own = f"value of node {host}" if n % 2 else "value of a node"
        path = f"/etc/nusy/{names[n]}.conf"
        return {
            "id": names[n],
            "state": "drifted",
            "before": {"value": own, "mode": "0644", "set by": path},
            "cause": "corrective",
            "after": {"value": "declared value", "mode": "0640"},
            "first_seen": "2026-01-28T03:00:00Z",
            "age_seconds": 3 * DAY,
        }

    nodes: list[dict[str, object]] = [
        {
            "name": f"spark-{h:04d}",
            "state": "reached",
            "reason": "",
            "controls": [control(h, n) for n in range(controls)],
        }
        for h in range(hosts)
    ]
    return _document(nodes, catalogue)


PAYLOADS = (
    "<script>window.pwned=1</script>",
    "</script><!--<script>window.pwned=1</script>",
    "<img src=x onerror=window.pwned=1>",
    '"><svg/onload=window.pwned=1>',
    "javascript:window.pwned=1",
    "\x1b[2J\x1b]0;owned\x07\x1b]52;c;cHduZWQ=\x07\x9b31m",
    "NUL\x00 BEL\x07 BS\x08 DEL\x7f",
    "lone \ud800 surrogate \udfff",
    "right\u202eto left\u2066 and \u200bnothing\ufeff, \u2028 \u2029",
    "; touch /tmp/pwned #$(id)`id`",
    "| a | b |\n# heading\n```\n[x](javascript:alert(1)) @everyone #1 ![](http://192.0.2.1/x)",
    "]]> & &lt; &#x3c; %s %00 {{ 7*7 }} {% raw %}",
    '\nfake_metric{host="x"} 1\n',
    "zalgo" + "\u0301" * 300,
    "x" * 1_000_000,
)


def hostile() -> dict[str, object]:
    """Every payload in every place that a node, an inventory or a role can fill."""
    report = copy.deepcopy(demo())
    catalogue: dict[str, object] = {}
    hosts = []
    for n, payload in enumerate(PAYLOADS):
        name = f"{payload}/{n}"
        catalogue[name] = {
            "role": payload,
            "title": payload,
            "severity": payload,
            "rationale": payload,
            "references": [payload, 7, None],
            "remedy": f"run {{host}} {payload}",
            "disrupts": payload,
        }
        text = {"reason": payload, "blocked_by": payload, "cause": payload, "task": payload, "first_seen": payload}
        values = {
            payload: payload,
            "__proto__": {"pwned": 1},
            "constructor": payload,
            "list": [payload, None, 1.5, True],
            "deep": {"a": {"b": [payload]}},
        }
        waiver = {"reason": payload, "owner": payload, "expires": payload}
        hosts.append(
            {
                "name": payload,
                "state": ("reached", "partial", "unreachable")[n % 3],
                "reason": payload,
                "controls": [
                    {"id": name, "state": "drifted", "before": values, "after": {}, "age_seconds": 1e308, **text},
                    {"id": "__proto__", "state": "unknown", **text},
                    {"id": "constructor/x", "state": "waived", "waiver": waiver, "before": payload, **text},
                    {"id": "toString", "state": payload, "before": [payload], "age_seconds": "soon"},
                    {"id": payload, "state": "in_sync", "repaired": True, "after": values},
                    {"id": "not/selected", "state": "not_selected", "reason": payload},
                    {"id": 5, "state": None},
                    payload,
                ],
            }
        )
    report["catalogue"] = {**catalogue, "__proto__": {"title": "x"}}
    report["hosts"] = [*report["hosts"], *hosts, {}, None]  # type: ignore[misc]
    report["waivers"] = {
        "file": PAYLOADS[0],
        "problems": list(PAYLOADS),
        "unused": [*PAYLOADS, {"control": PAYLOADS[1]}],
    }
    report["run"] = {
        **report["run"],
        "playbook": PAYLOADS[1],
        "collection": PAYLOADS[2],
        "complete": False,  # type: ignore[dict-item]
        "incomplete_reason": PAYLOADS[5],
        "started": PAYLOADS[3],
        "seconds": float("nan"),
    }
    return report
