# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks on the collection as it is shipped: built, installed into build/, and looked at there.

usage: artefact.py build|docs-lint|sanity|importer|docs

A checkout holds more than the artefact (link, caches, inventories); what ships must pass
alone. Every tool gets a home folder inside build/, so nothing outside the clone is touched.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"
HOME = BUILD / "home"
TREE = BUILD / "artefact"
BIN = Path(sys.executable).parent
# Those with something to look at; that they ran is checked, as a green run of nothing has been seen.
SANITY_MUST_RUN = {
    "action-plugin-docs", "ansible-doc", "changelog", "compile", "empty-init", "import", "line-endings",
    "pep8", "pylint", "runtime-metadata", "shebang", "symlinks", "validate-modules", "yamllint",
}  # fmt: skip
INSTALLED = TREE / "ansible_collections" / "nusy" / "dgx_spark"


def run(*argv: object, cwd: Path = ROOT, env: Mapping[str, str] | None = None) -> str:
    """What it said, which is also shown while it is said; the end of everything when it fails."""
    print("$", *argv, flush=True)
    HOME.mkdir(parents=True, exist_ok=True)
    # Tools look for each other and for settings by HOME, PATH and ANSIBLE_*: all of them ours.
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "XDG_", "PYTEST_"))}
    clean |= {"HOME": str(HOME), "PATH": f"{BIN}:{os.environ['PATH']}", "PIP_CACHE_DIR": str(BUILD / "cache" / "pip")}
    said = []
    with subprocess.Popen(
        [str(word) for word in argv], cwd=cwd, env={**clean, **(env or {})}, text=True, errors="replace",
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        for line in process.stdout or ():
            said.append(line)
            print(line, end="", flush=True)
    if process.returncode:
        sys.exit(f"{argv[0]}: exit code {process.returncode}")
    return "".join(said)


def build() -> Path:
    """The archive, made from the tree as it is, and installed below build/artefact."""
    shutil.rmtree(TREE, ignore_errors=True)
    TREE.mkdir(parents=True)
    run("ansible-galaxy", "collection", "build", "--force", "--output-path", TREE, ROOT)
    (archive,) = TREE.glob("*.tar.gz")
    run("ansible-galaxy", "collection", "install", "--force", "--offline", "-p", TREE, archive)
    return archive


def docs_lint() -> None:
    settings = {"ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections")}
    run("antsibull-docs", "lint-collection-docs", "--plugin-docs", "--validate-collection-refs", "self", ".",
        env=settings)  # fmt: skip


def sanity() -> None:
    """ansible-test makes ten environments, and fetches a script for them from the project's own
    file host. The script's one job is a pip in each; the one of .venv will do, without a network
    and without being installed and compiled ten times."""
    build()
    import ansible_test._internal.python_requirements as requirements
    import pip

    alone = HOME / "pip"  # beside it, in .venv, are packages that those environments must not see
    alone.mkdir(parents=True, exist_ok=True)
    (alone / "pip").unlink(missing_ok=True)
    (alone / "pip").symlink_to(Path(pip.__file__).parent)

    (version,) = set(re.findall(r"pip='([0-9.]+)'", Path(requirements.__file__ or "").read_text()))
    script = HOME / ".ansible" / "test" / "cache" / f"get_pip_{version.replace('.', '_')}.py"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(
        "import pathlib, sysconfig\n"
        f"pathlib.Path(sysconfig.get_path('purelib'), 'pip.pth').write_text({str(alone)!r})\n"
    )
    if ignored := list(INSTALLED.glob("tests/sanity/ignore*")):
        sys.exit(f"{ignored[0].name}: mend the finding, do not ignore it")
    # Inside a clone ansible-test asks git for the files, and to git all of build/ is ignored: it would
    # look at nothing and call that fine. As a repository of its own the artefact has all its files.
    run("git", "init", "--quiet", "--template=", cwd=INSTALLED)
    said = run("ansible-test", "sanity", "--python", "{}.{}".format(*sys.version_info), "--color", "no", cwd=INSTALLED)
    ran = set(re.findall(r"^Running sanity test \"([^\"]+)\"", said, re.MULTILINE))
    if missing := SANITY_MUST_RUN - ran:
        sys.exit(f"ansible-test did not run {', '.join(sorted(missing))}")
    print(f"{len(ran)} sanity tests ran")


def importer() -> None:
    archive = build()
    settings = BUILD / "galaxy-importer.cfg"
    # ansible-test runs as a layer of its own, and ansible-lint in layer static, by a profile as strict and
    # where a finding fails: here it would only be logged. ansible-doc runs as Galaxy runs it.
    settings.write_text(
        "[galaxy-importer]\nrun_ansible_test = false\nrun_flake8 = false\nrun_ansible_lint = false\n"
        f"check_required_tags = true\nansible_local_tmp = {BUILD / 'ansible/tmp'}\n"
    )
    work = BUILD / "importer"  # the importer leaves its result in the working folder
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    said = run(
        BIN / "python", "-m", "galaxy_importer.main", archive,
        cwd=work, env={"GALAXY_IMPORTER_CONFIG": str(settings)},
    )  # fmt: skip
    if warned := re.findall(r"^(?:WARNING|ERROR): .*", said, re.MULTILINE):
        sys.exit(f"the importer accepts it, and says: {warned[0]}")


def docs() -> None:
    """HTML of every plugin, module and role in build/docs; a warning is an error."""
    site = BUILD / "docs-source"
    shutil.rmtree(site, ignore_errors=True)
    site.mkdir(parents=True)
    settings = {"ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections")}
    same = ("--use-current", "--squash-hierarchy", "--fail-on-error", "--dest-dir")
    run("antsibull-docs", "sphinx-init", *same, site, "--lenient", "--sphinx-theme", "alabaster",
        "--project", "nusy.dgx_spark", "--title", "nusy.dgx_spark", "nusy.dgx_spark", env=settings)  # fmt: skip
    with (site / "conf.py").open("a") as configuration:
        configuration.write(
            "# The build needs no network: other projects' pages cannot be looked up, so a reference to a\n"
            "# section of theirs stays text. Ours are checked by antsibull-docs lint (layer static).\n"
            "intersphinx_mapping = {}\nsuppress_warnings = ['ref.ref']\npygments_style = 'default'\n"
        )
    (site / "rst").chmod(0o700)  # antsibull-docs wants it for itself
    run("antsibull-docs", "--config-file", site / "antsibull-docs.cfg", "collection", *same, site / "rst",
        "--cleanup", "everything", "nusy.dgx_spark", env=settings)  # fmt: skip
    shutil.rmtree(BUILD / "docs", ignore_errors=True)
    run("sphinx-build", "--builder", "html", "--fail-on-warning", "--keep-going", "--quiet",
        "--conf-dir", site, "--doctree-dir", site / "doctrees", site / "rst", BUILD / "docs")  # fmt: skip
    print(f"build/docs/index.html: {len(list((BUILD / 'docs').rglob('*.html')))} pages")


TASKS = {"build": build, "docs-lint": docs_lint, "sanity": sanity, "importer": importer, "docs": docs}

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in TASKS:
        print((__doc__ or "").strip(), file=sys.stderr)
        sys.exit(64)
    TASKS[sys.argv[1]]()
