# SPDX-License-Identifier: GPL-3.0-or-later
"""Download files of a hub with huggingface_hub. Runs as the owner of the models, under the Python that has it.

It gets the job as JSON on its standard input, so that a token and the password of a proxy are on no command line and in
no environment that another process can read, and prints one line of JSON for each file that failed. Only what
``hf_hub_download`` does between its lock and its rename is used of the library: since 2.0 that begins a file anew
after every interrupted process, and sixty gigabytes are to go on where they stopped. What is complete is compared
with its declared SHA-256 by who called this.

This text is handed to that Python as it is, so it imports nothing of this collection.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

# As many as the library itself downloads side by side.
WORKERS = 8
# What is lost of a file when its connection is cut; the library's own pieces are ten times as large.
PIECE = 1 << 20


class MoreThanDeclared(Exception):
    """Room was looked for by the declared size."""


class Part(io.BufferedRandom):
    """What has come of one file. The library writes whatever a hub sends, and compares its size at the end."""

    most = 0

    def write(self, piece: Any) -> int:
        if self.tell() + len(piece) > self.most:
            self.seek(0)
            self.truncate()
            raise MoreThanDeclared(f"more than {self.most} bytes came")
        return super().write(piece)


def get(job: Any, hub: Any, file: Any) -> None:
    """One file, from the byte on where an earlier run stopped."""
    url = hub.hf_hub_url(job["repository"], file["path"], revision=job["revision"], endpoint=job["endpoint"])
    headers = hub.utils.build_hf_headers(token=job["token"] or False, library_name="nusy.dgx_spark")
    download = importlib.import_module("huggingface_hub.file_download").http_get
    # Without compression: ranges count the bytes of the file itself.
    headers["Accept-Encoding"] = "identity"
    place = os.path.join(job["folder"], file["sha256"])
    descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with Part(io.FileIO(descriptor, "r+")) as out:
        out.most = file["size"]
        if out.seek(0, os.SEEK_END) > file["size"]:
            out.seek(0)
            out.truncate()
        if out.tell() < file["size"] or not file["size"]:
            download(url, out, resume_size=out.tell(), headers=headers, expected_size=file["size"])
        out.flush()


def persistently(job: Any, hub: Any, file: Any) -> Any:
    """With another try for what a hub says of itself: its connections the library tries again by itself."""
    for delay in (*job["delays"], None):
        try:
            get(job, hub, file)
        except Exception as error:  # reported, whatever it is: others go on
            status = getattr(getattr(error, "response", None), "status_code", 0) or 0
            if status >= 500 and delay is not None:
                time.sleep(delay)
                continue
            return {
                "path": file["path"],
                "status": status,
                "kind": type(error).__name__,
                "errno": getattr(error, "errno", None) or 0,
                "said": str(error),
            }
        return None
    return None


def tell(failed: Any) -> None:
    sys.stdout.write(json.dumps(failed) + "\n")
    sys.stdout.flush()


def main() -> None:
    job = json.load(sys.stdin)
    if job["proxy"]:
        # This machine is never asked by way of another: a token may go there without TLS.
        around = ",".join(("localhost", "127.0.0.1", "::1", *job["no_proxy"]))
        os.environ.update(http_proxy=job["proxy"], https_proxy=job["proxy"], no_proxy=around)
    try:
        hub = importlib.import_module("huggingface_hub")
        constants: Any = importlib.import_module("huggingface_hub.constants")
        constants.DOWNLOAD_CHUNK_SIZE = PIECE
    except ImportError as error:
        tell({"path": "", "status": 0, "kind": "NoLibrary", "errno": 0, "said": str(error)})
        return
    with ThreadPoolExecutor(WORKERS) as pool:
        for failed in pool.map(partial(persistently, job, hub), job["files"]):
            if failed:
                tell(failed)


if __name__ == "__main__":
    main()
