# SPDX-License-Identifier: GPL-3.0-or-later
"""Which ports a host listens on: as launchers really do, with the host's own values, and never two services on one."""

from __future__ import annotations

import itertools
from argparse import ArgumentParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Problem
from ansible_collections.nusy.dgx_spark.plugins.module_utils._launch import engines
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils import ports, variables
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.ports import Service

EVERY = "launchers_launchers: [vllm-serve, vllm-node, ray-head, ray-worker, llama-serve]\n"
PORTS = """
ports:
  - {service: web, ports: ["{{ demo_port }}"], bind: "{{ demo_address }}", reason: Pages.}
  - {service: more, ports: ["{{ demo_port + 1 }}-{{ demo_port + 9 }}"], reason: More., when: "{{ demo_more }}"}
"""
DEFAULTS = "{demo_port: 80, demo_address: '{{ spark_address | default(''127.0.0.1'') }}', demo_more: false}"


def look(folder: Path, text: str, owners: dict[str, Path] | None = None, *, computable: bool = False) -> list[Any]:
    """What is published on a host whose variables are ``text``, then what clashes."""
    path = folder / "spark-1.yml"
    path.write_text(text)
    loader = DataLoader()
    written: dict[str, Any] = loader.load_from_file(str(path), trusted_as_template=True) or {}
    templar = Templar(loader=loader, variables=written)
    host = variables.Variables("spark-1", written, templar.template)
    found = list(ports.published(owners or variables.of_collection(), host, loader, templar, computable=computable))
    return [*found, *ports.clashes([one for one in found if isinstance(one, Service)], "spark-1")]


def problems(found: list[Any]) -> list[Problem]:
    return [one for one in found if isinstance(one, Problem)]


@pytest.fixture
def demo(tmp_path: Path) -> dict[str, Path]:
    role = tmp_path / "demo"
    for name, text in (("meta/ports.yml", PORTS), ("defaults/main.yml", DEFAULTS)):
        (role / name).parent.mkdir(parents=True, exist_ok=True)
        (role / name).write_text(text)
    return {"demo": role}


def test_a_host_publishes_what_its_launchers_listen_on(tmp_path):
    ssh = "access/ssh"
    assert [one.id for one in look(tmp_path, "")] == [ssh, "launchers/vllm", "launchers/vllm-master"]
    assert [one.id for one in look(tmp_path, "launchers_launchers: [ray-worker]")] == [ssh, "launchers/ray"]
    assert [one.id for one in look(tmp_path, "launchers_launchers: []")] == [ssh]


def test_the_way_into_the_node_is_not_given_to_another_service(tmp_path):
    own = "spark_ports: {git: {ports: [%s], bind: any, peers: [any], reason: Code.}}"
    *_, clash = look(tmp_path, own % 22)
    assert isinstance(clash, Problem) and "access/ssh (tcp 22 of any" in clash.found and "git" in clash.found
    assert not any(isinstance(one, Problem) for one in look(tmp_path, "ansible_port: 2222\n" + own % 22))


def test_the_published_numbers_are_those_of_the_launchers(tmp_path):
    found = {one.service: one for one in look(tmp_path, EVERY)}

    def default(launcher: str, option: str) -> Any:
        parser = ArgumentParser()
        engines.LAUNCHERS[launcher].add(parser)
        return parser.get_default(option)

    assert found["vllm"].ports == ((default("vllm-serve", "port"),) * 2,) == ((default("vllm-node", "port"),) * 2,)
    assert found["vllm-master"].ports == ((default("vllm-node", "master_port"),) * 2,)
    assert found["ray-dashboard"].ports == ((default("ray-head", "dashboard_port"),) * 2,)
    assert found["llama"].ports == ((default("llama-serve", "port"),) * 2,)
    # Every port that the command line of Ray names, and no other.
    parser = ArgumentParser()
    engines.LAUNCHERS["ray-head"].add(parser)
    given = parser.parse_args(["--node-ip-address", "10.0.0.1"])
    given.engine = []

    words = engines.LAUNCHERS["ray-head"].command(given, SimpleNamespace(paths={"RAY_BIN": "/ray"}))
    named = {word: int(value) for word, value in itertools.pairwise(words) if word.endswith("port")}
    dashboard, low, high = (named.pop(f"--{name}-port") for name in ("dashboard", "min-worker", "max-worker"))
    assert (dashboard, dashboard) == found["ray-dashboard"].ports[0]
    published = {port for first, last in found["ray"].ports for port in range(first, last + 1)}
    assert published == {*named.values(), *range(low, high + 1)}


def test_no_two_services_of_a_site_as_it_is_shipped_meet(tmp_path):
    assert problems(look(tmp_path, EVERY)) == []


def test_variables_of_the_role_and_of_the_host_decide(tmp_path, demo):
    assert [one.public() for one in look(tmp_path, "", demo)] == [
        {
            "service": "web",
            "ports": ["80"],
            "protocol": "tcp",
            "bind": "loopback",
            "peers": [],
            "reason": "Pages.",
            "role": "demo",
        }
    ]
    (web, more) = look(tmp_path, "{spark_address: 10.0.0.7, demo_more: true, demo_port: 8000}", demo)
    assert (web.bind, web.ports, more.ports) == ("10.0.0.7", ((8000, 8000),), ((8001, 8009),))


def test_the_inventory_has_the_last_word(tmp_path, demo):
    text = "spark_ports:\n  demo/web: {ports: [81], bind: any, peers: [192.168.0.0/24]}\n"
    text += "  own: {ports: [53], protocol: udp, reason: Names.}\n"
    (web, own) = look(tmp_path, text, demo)
    assert (web.ports, web.bind, web.peers, web.reason) == (((81, 81),), "any", ("192.168.0.0/24",), "Pages.")
    assert (own.id, own.role, own.protocol, own.bind) == ("own", "", "udp", "loopback")
    assert look(tmp_path, "spark_ports: {demo/web: {ports: []}}", demo) == []
    # What is not there has no values to change, and is known all the same.
    assert [one.id for one in look(tmp_path, "spark_ports: {demo/more: {ports: [1]}}", demo)] == ["demo/web"]


@pytest.mark.parametrize(
    ("own", "meets"),
    [
        ("{ports: [80]}", "80"),
        ("{ports: [80], bind: any}", "80"),
        ("{ports: [80], bind: 0.0.0.0}", "80"),
        ("{ports: [80], bind: '::'}", "80"),
        ("{ports: [80], bind: 127.0.0.2}", "80"),
        ("{ports: [70-90]}", "80"),
        ("{ports: [1, 79-81]}", "80"),
        ("{ports: [81-90]}", ""),
        ("{ports: [80], protocol: udp}", ""),
        ("{ports: [80], bind: fabric}", ""),
        ("{ports: [80], bind: 10.0.0.7}", ""),
    ],
)
def test_two_services_on_one_port_and_address(tmp_path, demo, own, meets):
    found = problems(look(tmp_path, f"spark_ports: {{own: {own[:-1]}, reason: x}}}}", demo))
    assert bool(found) == bool(meets)
    for one in found:
        assert one.key == "preflight.ports" and one.wanted == f"One service for tcp port {meets}"
        assert "demo/web" in one.found and "own (" in one.found and "on spark-1" in one.found


def test_two_addresses_of_the_host_meet_where_they_are_one(tmp_path, demo):
    def text(one: str) -> str:
        return f"{{demo_address: 10.0.0.7, spark_ports: {{own: {{ports: [80], bind: {one}, reason: x}}}}}}"

    assert problems(look(tmp_path, text("10.0.0.8"), demo)) == []
    assert len(problems(look(tmp_path, text("10.0.0.7"), demo))) == 1
    assert len(problems(look(tmp_path, text("'::'"), demo))) == 1


def test_a_clash_names_both_variables_and_their_places(tmp_path, demo):
    text = "spark_address: 127.0.0.1\ndemo_port: 8080\ndemo_more: true\n"
    text += "spark_ports:\n  own: {ports: [8081-8100], reason: x}\n"
    (problem,) = problems(look(tmp_path, text, demo))
    assert problem.wanted == "One service for tcp port 8081-8089"
    at = f"{tmp_path}/spark-1.yml"
    # Truth values carry no place; their names do.
    assert f"demo/more (tcp 8081-8089 of loopback, by demo_more, named at {at}:3:1 and demo_port, at" in problem.found
    assert f"demo_port, at {at}:2:12)" in problem.found
    assert f"own (tcp 8081-8100 of loopback, by spark_ports, at {at}:5:3)" in problem.found
    (problem,) = problems(look(tmp_path, "spark_ports: {own: {ports: [80], reason: x}}", demo))
    assert "by role demo as it is shipped" in problem.found


@pytest.mark.parametrize(
    ("text", "wanted", "found"),
    [
        ("{own: {ports: [80], bind: lan, reason: x}}", "spark_ports.own.bind: loopback, fabric, any or an a", "'lan'"),
        ("{own: {ports: [0], reason: x}}", "spark_ports.own.ports[0]: a port or first-last", "'0'"),
        ("{own: {ports: [65536], reason: x}}", "spark_ports.own.ports[0]: a port", "'65536'"),
        ("{own: {ports: [90-80], reason: x}}", "spark_ports.own.ports[0]: a port", "'90-80'"),
        ("{own: {ports: [http], reason: x}}", "spark_ports.own.ports[0]: a port", "'http'"),
        ("{own: {ports: 80, reason: x}}", "spark_ports.own.ports: a list of texts", "80"),
        ("{own: {ports: [80]}}", "spark_ports.own.reason", "nothing"),
        ("{own: {reason: x}}", "spark_ports.own.ports", "nothing"),
        ("{own: {port: [80], reason: x}}", "spark_ports.own.port: a name that is documented", "port, which is none"),
        ("{own: {ports: [80], protocol: sctp, reason: x}}", "spark_ports.own.protocol: one of tcp, udp", "sctp"),
        ("{own: {ports: [80], bind: any, peers: [lan], reason: x}}", "spark_ports.own.peers[0]", "'lan'"),
        (
            "{own: {ports: [80], bind: any, peers: [10.0.0.1/8], reason: x}}",
            "spark_ports.own.peers[0]",
            "host bits set",
        ),
        ("{own: {ports: [80], peers: [any], reason: x}}", "spark_ports.own.peers: none", "any"),
        ("{own: 80}", "spark_ports.own: a mapping", "the number 80"),
        ("{demo/web: }", "demo/web: a mapping", "nothing (null)"),
        ("{demo/wbe: {ports: [1]}}", "spark_ports.demo/wbe: a name that is documented", "demo/wbe on spark-1"),
        ("{My Own: {ports: [1], reason: x}}", "spark_ports.My Own: a name of small letters", "'My Own'"),
        ("[80]", "spark_ports: a mapping", "a list of 1"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path, demo, text, wanted, found):
    (problem, *_more) = problems(look(tmp_path, f"spark_ports: {text}", demo))
    assert problem.wanted.startswith(wanted) and found in problem.found and "spark-1" in problem.found
    assert problem.why and problem.fix


def test_what_cannot_be_computed_yet_is_named_before_a_run_and_an_error_in_one(tmp_path, demo):
    text = "demo_port: '{{ known_only_to_the_role }}'"
    (left,) = look(tmp_path, text, demo, computable=True)
    assert (left.role, left.what) == ("demo", "the port of web") and "is undefined" in left.why
    with pytest.raises(AnsibleError, match="known_only_to_the_role"):
        look(tmp_path, text, demo)
    own = "spark_ports: {own: '{{ known_only_to_the_role }}'}"
    left, web = look(tmp_path, own, demo, computable=True)
    assert left.what == "spark_ports" and web.id == "demo/web"
    with pytest.raises(AnsibleError, match="known_only_to_the_role"):
        look(tmp_path, own, demo)
