# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the link leads, and who manages it."""

from __future__ import annotations

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Step
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda import links
from fake_node import FakeNode

LINK, PREFIX = "/usr/local/cuda", "/usr/local/cuda-13.0"
STEP = Step("point_link", LINK, (PREFIX,))


class Node(FakeNode):
    """With update-alternatives, as far as it is used; ``choices``: what is offered for cuda."""

    choices: list[str]
    broken = False

    def tool_update_alternatives(self, arguments: list[str]) -> tuple[int, str, str]:
        if self.broken:
            return 2, "", "error: unable to make it"
        if arguments[0] == "--list":
            return (0, "\n".join(self.choices), "") if self.choices else (2, "", "no alternatives for cuda")
        self.effect(" ".join(arguments))
        if arguments[0] == "--install":
            self.choices.append(arguments[3])
        elif arguments[2] not in self.choices:
            return 2, "", "not registered"
        else:
            self.put("/etc/alternatives/cuda", arguments[2], kind="link")
        return 0, "", ""


def node(**links_there: str) -> Node:
    made = Node()
    made.choices = []
    for directory in ("/usr", "/usr/local", "/etc/alternatives"):
        made.put(directory, kind="directory", mode=0o755)
    for path, target in links_there.items():
        made.put(path, target, kind="link")
    return made


@pytest.mark.parametrize(
    ("there", "kind", "target", "alternative", "leads"),
    [
        ({}, "absent", "", "", False),
        ({LINK: PREFIX}, "link", PREFIX, "", True),
        ({LINK: "cuda-13.0"}, "link", PREFIX, "", True),
        ({LINK: "/usr/local/cuda-12.9"}, "link", "/usr/local/cuda-12.9", "", False),
        ({LINK: "/etc/alternatives/cuda"}, "link", "/etc/alternatives/cuda", "cuda", False),
        ({LINK: "/etc/alternatives/cuda", "/etc/alternatives/cuda": PREFIX}, "link", PREFIX, "cuda", True),
        ({LINK: "/etc/alternatives/cuda", "/etc/alternatives/cuda": "/x"}, "link", "/x", "cuda", False),
        ({LINK: LINK}, "link", LINK, "", False),
        ({LINK: "a", "/usr/local/a": "cuda"}, "link", "/usr/local/a", "", False),
        # The prefix of a toolkit of wheels is a link itself.
        ({LINK: PREFIX, PREFIX: "cuda-13.0-0123456789abcdef"}, "link", PREFIX, "", True),
    ],
)
def test_a_link_is_followed(there: dict[str, str], kind: str, target: str, alternative: str, leads: bool) -> None:
    found = links.observe(LINK, PREFIX, node(**there))
    assert (found.kind, found.target, found.alternative, found.leads_to_prefix) == (kind, target, alternative, leads)


def test_what_is_no_link_is_said() -> None:
    made = node()
    made.put(LINK, kind="directory")
    assert links.observe(LINK, PREFIX, made).kind == "directory"


def test_a_plain_link_is_set_where_nobody_manages_it() -> None:
    made = node(**{LINK: "/usr/local/cuda-12.9"})
    links.point(STEP, made, made)
    assert made.effects == [f"symlink {LINK}"] and links.observe(LINK, PREFIX, made).leads_to_prefix


def test_the_alternative_is_set_where_there_is_one() -> None:
    made = node(**{LINK: "/etc/alternatives/cuda", "/etc/alternatives/cuda": "/usr/local/cuda-12.9"})
    made.choices = ["/usr/local/cuda-12.9", PREFIX]
    links.point(STEP, made, made)
    assert made.effects == [f"--set cuda {PREFIX}"] and links.observe(LINK, PREFIX, made).leads_to_prefix
    assert made.files[LINK].text == "/etc/alternatives/cuda"


def test_a_toolkit_that_is_not_offered_yet_is_offered() -> None:
    made = node(**{LINK: "/etc/alternatives/cuda", "/etc/alternatives/cuda": "/usr/local/cuda-12.9"})
    made.choices = ["/usr/local/cuda-12.9"]
    links.point(STEP, made, made)
    assert made.effects == [f"--install {LINK} cuda {PREFIX} 1", f"--set cuda {PREFIX}"]


def test_a_tool_that_refuses_is_an_error() -> None:
    made = node(**{LINK: "/etc/alternatives/cuda", "/etc/alternatives/cuda": "/x"})
    made.broken = True
    with pytest.raises(NodeError, match="unable to make it"):
        links.point(STEP, made, made)
