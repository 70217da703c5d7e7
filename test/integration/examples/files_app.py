# SPDX-License-Identifier: Apache-2.0
"""An application that sends files: by path, and as open files."""

import os
import tempfile
import urllib.parse

DATA = bytes(i * 31 >> 3 & 255 for i in range(1_000_000))
PATH = os.path.join(tempfile.mkdtemp(), "file")

with open(PATH, "wb") as made:
    made.write(DATA)


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise RuntimeError("none")
    query = dict(urllib.parse.parse_qsl(scope["query_string"].decode()))
    what = scope["path"][1:]
    assert {"http.response.pathsend", "http.response.zerocopysend"} <= scope["extensions"].keys()
    headers = [(b"content-length", query["length"].encode())] if "length" in query else []
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if what == "path":
        await send({"type": "http.response.pathsend", "path": PATH})
    elif what == "fifo":
        path = os.path.join(os.path.dirname(PATH), "fifo")
        if not os.path.exists(path):
            os.mkfifo(path)
        await send({"type": "http.response.pathsend", "path": path})
    elif what == "pieces":
        with open(PATH, "rb") as file:
            await send({"type": "http.response.body", "body": b"begin", "more_body": True})
            await send({"type": "http.response.zerocopysend", "file": file, "offset": 500_000, "count": 100_000, "more_body": True})
            file.seek(999_000)
            await send({"type": "http.response.zerocopysend", "file": file, "count": 500, "more_body": True})
            await send({"type": "http.response.zerocopysend", "file": file, "more_body": True})
            await send({"type": "http.response.body", "body": b"end"})
