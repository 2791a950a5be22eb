# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the archive begins: the name it is called by says which program it is.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import errno
import io
import os
import sys

STATE = "spark-ensure-state"
MODELS = "spark-models"
# What units of engines run before they count as started, and before they are stopped.
PROBES = ("engine-ready", "engine-drain")
# Run by a launcher under the Python of the virtual environment.
SERVER = "llama-server"


def main(release: str) -> int:
    """The exit code of the program. Somebody who stops reading (``| head``) is no error to tell of."""
    try:
        code = _main(release)
        sys.stdout.flush()
        return code
    except OSError as error:
        if error.filename is not None:
            raise
        # Python would try again at its end, and exit with a number of its own.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno != errno.EPIPE:
            sys.stderr.write(
                f"{os.path.basename(sys.argv[0])}: what it found cannot be written: {error.strerror}. "
                "Why it matters: nobody has read it. What to do: write it elsewhere.\n"
            )
        return 1


def _main(release: str) -> int:
    # Each imports what it needs: a launcher that becomes an engine should not wait for the rest.
    from ansible_collections.nusy.dgx_spark.plugins.module_utils._launch.engines import LAUNCHERS

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # words and paths are bytes
    suite = os.path.realpath(sys.argv[0])
    name, words = os.path.basename(sys.argv[0]), sys.argv[1:]
    known = (*sorted(LAUNCHERS), *PROBES, STATE, MODELS, SERVER)
    if name not in known and words:
        name, *words = words
    if words[:1] == ["--version"] or name == "--version":
        sys.stdout.write(release + "\n")
        return 0
    if name in LAUNCHERS:
        from ansible_collections.nusy.dgx_spark.plugins.module_utils._launch.main import main as launch

        return launch(name, words, os.environ, suite)
    if name == SERVER:
        from ansible_collections.nusy.dgx_spark.plugins.module_utils._launch.llama_server import main as serve

        return serve(words)
    if name in PROBES:
        from ansible_collections.nusy.dgx_spark.plugins.module_utils._engines.ready import main as probe

        return probe(name, words, os.environ)
    if name == STATE:
        from ansible_collections.nusy.dgx_spark.plugins.module_utils._console.main import main as state

        return state(words)
    if name == MODELS:
        from ansible_collections.nusy.dgx_spark.plugins.module_utils._models.tool import main as models

        return models(words)
    sys.stderr.write(f"{suite}: {name!r} is none of {', '.join(known)}\n")
    return 64
