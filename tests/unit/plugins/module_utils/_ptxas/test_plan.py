# SPDX-License-Identifier: GPL-3.0-or-later
"""Verdicts, out of made-up observations. The same table on real binaries: tests/integration/ptxas."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda.tools import Arch, Fault, Version, arch_of
from ansible_collections.nusy.dgx_spark.plugins.module_utils._ptxas.model import (
    Compiled,
    Kind,
    Observation,
    Ptxas,
    Setting,
    Triton,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._ptxas.plan import (
    MAX_EXPLANATION,
    Judgement,
    compile_environment,
    confirm,
    judge,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._ptxas.rules import BLACKWELL, HYPHENED, PLAIN
from hypothesis import given
from hypothesis import strategies as st

FOLDER = "/venv/lib/python3.12/site-packages/triton"
SPARK = arch_of("sm_121a", "ptxas")
# CUDA versions of ptxas and ptxas-blackwell in the wheels, as measured.
HOLDS = {
    "3.1.0": ("12.4.99", ""),
    "3.2.0": ("12.4.99", ""),
    "3.3.1": ("12.4.99", "12.8.61"),
    "3.4.0": ("12.8.93", ""),
    "3.5.1": ("12.8.93", ""),
    "3.6.0": ("12.8.93", "12.9.86"),
    "3.7.0": ("12.8.93", "13.1.80"),
    "3.8.0": ("12.9.86", "13.3.33"),
    "3.9.0": ("12.9.86", "13.4.59"),
}
FULL = {"12.8": "12.8.93", "12.9": "12.9.86", "13.0": "13.0.88"}


def version(text: str) -> Version:
    return Version(*map(int, text.split(".")))


def tool(path: str, cuda: str, arch: Arch = SPARK, kind: Kind = "candidate") -> Ptxas:
    """A ptxas that behaves as the real one of that CUDA does."""
    needed = {80: (11, 0), 90: (12, 0), 120: (12, 8)}.get(arch.capability, (12, 9))
    found = version(cuda)
    if (found.major, found.minor) >= needed:
        return Ptxas(path, kind, found, True, 0)
    return Ptxas(path, kind, found, False, 255, f"ptxas fatal   : Value '{arch.name}' is not defined")


def cuda(release: str, arch: Arch = SPARK) -> Ptxas:
    return tool(f"/usr/local/cuda-{release}/bin/ptxas", FULL[release], arch)


def broken(path: str, fault: Fault) -> Ptxas:
    return Ptxas(path, "candidate", fault=fault, stderr="broken")


def seen(triton: str, *candidates: Ptxas, arch: Arch = SPARK, **forced: str) -> Observation:
    plain, blackwell = HOLDS.get(triton, HOLDS["3.9.0"])
    own = [tool(f"{FOLDER}/backends/nvidia/bin/ptxas", plain, arch, "vendored")]
    if blackwell:
        own.append(tool(f"{FOLDER}/backends/nvidia/bin/ptxas-blackwell", blackwell, arch, "vendored_blackwell"))
    settings = tuple(Setting(name, path, "/etc/x.env") for name, path in sorted(forced.items()))
    found = Triton(FOLDER, version(triton), triton)
    return Observation(found, "", "/venv/bin/python", (*own, *candidates), settings)


NEEDS_NOTHING = {"12.8": ("ok", {}), "12.9": ("ok", {}), "13.0": ("ok", {})}
HOPELESS = {release: ("unrepairable", {}) for release in FULL}
FORCED_129 = ("forced_ok", {PLAIN: "/usr/local/cuda-12.9/bin/ptxas"})
FORCED_130 = ("forced_ok", {PLAIN: "/usr/local/cuda-13.0/bin/ptxas"})
TABLE = {
    "3.1.0": HOPELESS,
    "3.2.0": HOPELESS,
    "3.3.1": HOPELESS,
    "3.4.0": {"12.8": ("unrepairable", {}), "12.9": FORCED_129, "13.0": ("unrepairable", {})},
    "3.5.1": {"12.8": ("unrepairable", {}), "12.9": FORCED_129, "13.0": FORCED_130},
    "3.6.0": NEEDS_NOTHING,
    "3.7.0": NEEDS_NOTHING,
    "3.8.0": NEEDS_NOTHING,
    "3.9.0": NEEDS_NOTHING,
}


@pytest.mark.parametrize("release", FULL)
@pytest.mark.parametrize("triton", TABLE)
def test_the_whole_table(triton: str, release: str) -> None:
    found = judge(seen(triton, cuda(release)), SPARK)
    verdict, environment = TABLE[triton][release]
    assert (found.verdict, found.environment) == (verdict, environment)
    assert bool(found.chosen) is (verdict != "unrepairable")
    assert found.works_now is (verdict == "ok")
    assert found.unset == () and found.assumptions == ()


@pytest.mark.parametrize("triton", TABLE)
@pytest.mark.parametrize("gpu", ["sm_80", "sm_90a"])
def test_older_gpus_need_nothing(triton: str, gpu: str) -> None:
    arch = arch_of(gpu, "ptxas")
    found = judge(seen(triton, cuda("13.0", arch), arch=arch), arch)
    assert (found.verdict, found.environment) == ("ok", {})


@pytest.mark.parametrize(("triton", "verdict"), [("3.2.0", "unrepairable"), ("3.3.1", "ok"), ("3.4.0", "ok")])
def test_sm_120_is_known_to_cuda_12_8(triton: str, verdict: str) -> None:
    arch = arch_of("sm_120", "ptxas")
    assert judge(seen(triton, arch=arch), arch).verdict == verdict


def test_the_first_usable_candidate_is_taken() -> None:
    found = judge(seen("3.4.0", cuda("12.8"), cuda("13.0"), cuda("12.9")), SPARK)
    assert found.environment == FORCED_129[1]
    found = judge(seen("3.5.1", cuda("13.0"), cuda("12.9")), SPARK)
    assert found.environment == FORCED_130[1]


def test_a_candidate_with_a_good_version_that_cannot_assemble_is_not_taken() -> None:
    liar = Ptxas("/opt/liar", "candidate", version("13.0.88"), False, 1, "no")
    assert judge(seen("3.5.1", liar), SPARK).verdict == "unrepairable"
    assert judge(seen("3.5.1", liar, cuda("13.0")), SPARK).environment == FORCED_130[1]


def test_no_triton() -> None:
    found = judge(Observation(None, "there is no Triton in /x", "", (), ()), SPARK)
    assert (found.verdict, found.environment, found.chosen) == ("no_triton", {}, "")
    assert found.explanation == "Nothing to judge: there is no Triton in /x."


def test_no_ptxas_that_runs() -> None:
    bare = replace(seen("3.5.1"), ptxas=(broken("/x/ptxas", "denied"),))
    found = judge(bare, SPARK)
    assert found.verdict == "no_ptxas"
    assert "comes without a ptxas" in found.explanation and "CUDA 12.9 or later" in found.explanation
    assert judge(replace(bare, ptxas=()), SPARK).verdict == "no_ptxas"


def test_a_triton_without_its_own_ptxas_can_be_given_one() -> None:
    found = judge(replace(seen("3.6.0"), ptxas=(cuda("13.0"),)), SPARK)
    assert (found.verdict, found.environment) == ("forced_ok", {BLACKWELL: "/usr/local/cuda-13.0/bin/ptxas"})


def test_set_already_is_the_same_verdict_and_works_now() -> None:
    path = "/usr/local/cuda-13.0/bin/ptxas"
    bare = judge(seen("3.5.1", cuda("13.0")), SPARK)
    found = judge(seen("3.5.1", cuda("13.0"), **{PLAIN: path}), SPARK)
    assert (found.verdict, found.environment) == (bare.verdict, bare.environment)
    assert (bare.works_now, found.works_now) == (False, True)
    assert found.explanation.endswith("as is set already.")


@pytest.mark.parametrize("triton", ["3.1.0", "3.2.0", "3.3.1", "3.4.0"])
def test_cuda_13_forced_on_an_old_triton_breaks_every_gpu(triton: str) -> None:
    arch = arch_of("sm_80", "ptxas")
    found = judge(seen(triton, cuda("13.0", arch), arch=arch, **{PLAIN: "/usr/local/cuda-13.0/bin/ptxas"}), arch)
    assert (found.verdict, found.environment, found.unset) == ("forced_ok", {}, (PLAIN,))
    assert found.works_now is False
    assert found.current[0].effect == "breaks"
    assert "fails for every GPU" in found.explanation and "/etc/x.env" in found.explanation
    assert found.chosen == f"{FOLDER}/backends/nvidia/bin/ptxas"


def test_a_harmful_variable_on_a_triton_that_can_be_repaired_is_replaced() -> None:
    found = judge(seen("3.4.0", cuda("12.9"), cuda("13.0"), **{PLAIN: "/usr/local/cuda-13.0/bin/ptxas"}), SPARK)
    assert (found.verdict, found.environment, found.unset) == (*FORCED_129, ())
    assert "replace it" in found.explanation


def test_a_harmful_variable_on_a_triton_that_cannot_be_repaired_is_told() -> None:
    found = judge(seen("3.4.0", cuda("13.0"), **{PLAIN: "/usr/local/cuda-13.0/bin/ptxas"}), SPARK)
    assert (found.verdict, found.environment, found.unset) == ("unrepairable", {}, (PLAIN,))
    assert "remove it" in found.explanation and "must not be forced" in found.explanation


def test_an_old_ptxas_forced_on_a_good_triton_breaks_it() -> None:
    found = judge(seen("3.6.0", cuda("12.8"), **{BLACKWELL: "/usr/local/cuda-12.8/bin/ptxas"}), SPARK)
    assert (found.verdict, found.environment, found.unset) == ("forced_ok", {}, (BLACKWELL,))
    assert found.works_now is False


def test_a_good_ptxas_forced_without_need_is_left_alone() -> None:
    found = judge(seen("3.6.0", cuda("13.0"), **{BLACKWELL: "/usr/local/cuda-13.0/bin/ptxas"}), SPARK)
    assert (found.verdict, found.unset, found.works_now) == ("ok", (), True)
    assert found.chosen == "/usr/local/cuda-13.0/bin/ptxas"
    assert "in force" in found.explanation


def test_the_plain_variable_has_no_effect_from_3_6_on() -> None:
    found = judge(seen("3.6.0", cuda("12.8"), **{PLAIN: "/usr/local/cuda-12.8/bin/ptxas"}), SPARK)
    assert (found.verdict, found.works_now, found.current[0].effect) == ("ok", True, "ignored")
    assert BLACKWELL in found.current[0].reason


def test_the_hyphened_variable_works_and_still_nothing_can_set_it() -> None:
    found = judge(seen("3.3.1", cuda("12.9"), **{HYPHENED: "/usr/local/cuda-12.9/bin/ptxas"}), SPARK)
    assert (found.verdict, found.environment, found.works_now) == ("unrepairable", {}, True)
    assert found.current[0].effect == "used"
    assert "neither systemd nor a shell can set" in found.explanation


@pytest.mark.parametrize(
    ("triton", "fault", "effect"),
    [
        ("3.2.0", "missing", "ignored"),
        ("3.2.0", "failing", "breaks"),
        ("3.2.0", "directory", "ignored"),
        ("3.2.0", "denied", "breaks"),
        ("3.4.0", "denied", "ignored"),
        ("3.4.0", "directory", "breaks"),
        ("3.4.0", "failing", "ignored"),
        ("3.5.1", "missing", "ignored"),
        ("3.5.1", "failing", "ignored"),
        ("3.5.1", "garbage", "ignored"),
        ("3.5.1", "denied", "breaks"),
        ("3.5.1", "unreachable", "breaks"),
        ("3.5.1", "unrunnable", "breaks"),
        ("3.5.1", "hangs", "breaks"),
    ],
)
def test_a_broken_binary_that_is_forced(triton: str, fault: Fault, effect: str) -> None:
    arch = arch_of("sm_80", "ptxas")
    found = judge(seen(triton, broken("/x/ptxas", fault), arch=arch, **{PLAIN: "/x/ptxas"}), arch)
    assert found.current[0].effect == effect
    assert found.works_now is (effect == "ignored")
    assert found.verdict == ("ok" if effect == "ignored" else "forced_ok")
    assert found.unset == (() if effect == "ignored" else (PLAIN,))


@pytest.mark.parametrize("value", ["", "ptxas", "./ptxas", " /usr/local/cuda-13.0/bin/ptxas"])
def test_a_variable_that_is_no_absolute_path_cannot_be_told(value: str) -> None:
    found = judge(seen("3.6.0", cuda("13.0"), **{BLACKWELL: value}), SPARK)
    assert (found.works_now, found.unset, found.verdict) == (None, (BLACKWELL,), "forced_ok")
    assert found.current[0].effect == "unpredictable"


def test_an_unknown_newer_triton_is_judged_by_what_assembles() -> None:
    found = judge(seen("4.2.0", cuda("13.0")), SPARK)
    assert found.verdict == "ok" and "newer than any release read" in found.explanation
    assert found.assumptions and found.assumptions[0] in found.explanation
    old = replace(
        seen("4.2.0", cuda("13.0")), ptxas=(tool(f"{FOLDER}/x", "12.8.93", kind="vendored_blackwell"), cuda("13.0"))
    )
    assert judge(old, SPARK).environment == {BLACKWELL: "/usr/local/cuda-13.0/bin/ptxas"}


GOOD, BAD = Compiled(True, 1.0, ""), Compiled(False, 1.0, "Traceback\nPTXASError: no such thing")


@pytest.mark.parametrize("triton", TABLE)
def test_a_compile_has_the_last_word(triton: str) -> None:
    reasoned = judge(seen(triton, cuda("13.0")), SPARK)
    good = reasoned.verdict in ("ok", "forced_ok")
    assert confirm(reasoned, GOOD if good else BAD) == reasoned
    other = confirm(reasoned, BAD if good else GOOD)
    assert other.verdict == ("unrepairable" if good else "ok")
    assert other.explanation.startswith("A real compile")
    assert other.works_now is not good
    if good:
        assert "no such thing" in other.explanation and other.environment == {} and other.chosen == ""


def test_the_compile_gets_what_should_be_set() -> None:
    path = "/usr/local/cuda-13.0/bin/ptxas"
    forced = judge(seen("3.5.1", cuda("13.0"), **{PLAIN: "/x/missing"}, **{BLACKWELL: "/y"}), SPARK)
    assert compile_environment(forced) == {PLAIN: path, BLACKWELL: "/y"}
    harmful = judge(seen("3.6.0", cuda("12.8"), **{BLACKWELL: "/usr/local/cuda-12.8/bin/ptxas"}), SPARK)
    assert compile_environment(harmful) == {}


faults = st.sampled_from(["missing", "unreachable", "directory", "denied", "failing", "garbage", "hangs"])
tools = st.one_of(
    st.builds(broken, st.text(min_size=1).map(lambda t: "/" + t), faults),
    st.builds(tool, st.text().map(lambda t: "/" + t), st.sampled_from(["12.4.99", "12.8.93", "12.9.86", "13.0.88"])),
)


@given(
    st.sampled_from([*TABLE, "2.1.0", "5.0.0"]),
    st.lists(tools, max_size=4),
    st.dictionaries(st.sampled_from([PLAIN, BLACKWELL]), st.text(), max_size=2),
)
def test_no_verdict_promises_what_was_not_seen(triton: str, candidates: list[Ptxas], forced: dict[str, str]) -> None:
    found: Judgement = judge(seen(triton, *candidates, **forced), SPARK)
    result = found.as_dict()
    explanation = str(result["explanation"])
    assert explanation and len(explanation) <= MAX_EXPLANATION and explanation.isprintable()
    assembling = {item.path for item in seen(triton, *candidates).ptxas if item.assembles}
    if found.verdict in ("ok", "forced_ok"):
        assert found.chosen in assembling
        assert set(found.environment.values()) <= {found.chosen}
    else:
        assert found.environment == {} and found.chosen == ""
    if found.verdict == "ok":
        assert found.works_now is True and not found.unset
