#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A host that does one thing wrong, for the test of the kit: bad_host.py FAULT, with the kit's path in SPARX_PORT."""

import os
import pathlib
import struct
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from lib import mp  # noqa: E402

HELLO, DEMAND, READ, RESPOND, HEAD, DATA, END = 0, 1, 2, 4, 5, 6, 7
UPGRADE, SEND, CLOSE = 13, 14, 15
OK = [RESPOND, 1, 200, [], b"ok"]
STREAM = [HEAD, 1, 200, [], None]
SOCKET = [UPGRADE, 1, "websocket", [], {}]

# The messages in answer to the first request: stream 1.
ANSWERS = {
    "kind": [[63, 1]],
    "fields": [[RESPOND, 1, 200, []]],
    "type": [[RESPOND, 1, "200", [], b""]],
    "status": [[RESPOND, 1, 99, [], b""]],
    "header": [[RESPOND, 1, 200, ["x", b"a\r\nb: c"], b""]],
    "framing": [[RESPOND, 1, 200, ["Transfer-Encoding", b"chunked"], b""]],
    "odd": [[RESPOND, 1, 200, ["x"], b""]],
    "stream": [[RESPOND, 2, 200, [], b""]],
    "twice": [OK, OK],
    "data_first": [[DATA, 1, b"x"]],
    "after_end": [STREAM, [END, 1, None], [DATA, 1, b"x"]],
    "window": [STREAM, *[[DATA, 1, b"x" * 5000]] * 5],
    "window_whole": [[RESPOND, 1, 200, [], b"x" * 20001]],
    "length_long": [[HEAD, 1, 200, [], 3], [DATA, 1, b"four"]],
    "length_short": [[HEAD, 1, 200, [], 3], [DATA, 1, b"no"], [END, 1, None]],
    "hello_twice": [[HELLO, 1, {}]],
    "demand_zero": [[DEMAND, 0]],
    "upgrade": [SOCKET],
    "silent": [],
    "no_demand": [OK],
    "read_zero": [[READ, 1, 0, 1]],
    "reads_once": [[READ, 1, 1, 65000]],
    "left": [SOCKET, [SEND, 1, 1, b"ab", 2], [SEND, 1, 1, b"c", 0]],
    "close": [SOCKET, [CLOSE, 1, 1005, b""]],
    "release": [[17, 1]],
    "no_release": [[READ, 1, 1, 65000]],
    "no_hangup": [STREAM, [DATA, 1, b"data: hello\n\n"]],
    "free_messages": [SOCKET, *[[SEND, 1, 2, b"", 0]] * 1251],
    "long_ping": [SOCKET, [SEND, 1, 9, b"x" * 126, 0]],
}


def main():
    fault = sys.argv[1]
    kit = subprocess.Popen([os.environ["SPARX_PORT"]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)

    def write(payload):
        try:
            kit.stdin.write(struct.pack(">I", len(payload)) + payload)
        except BrokenPipeError:
            pass

    def send(*messages):
        write(b"".join(map(mp.encode, messages)))

    if fault == "no_hello":
        send([DEMAND, 1])
    elif fault == "border":
        write(mp.encode([HELLO, 1, {}])[:-1])
    elif fault == "msgpack":
        write(b"\xc1")
    elif fault == "frame":
        kit.stdin.write(struct.pack(">I", 1 << 21))
    elif fault == "version":
        send([HELLO, 2, {}])
    elif fault == "no_certificate":
        send([HELLO, 1, {"listeners": [{"address": "127.0.0.1", "port": 0, "tls": {"certificates": []}}]}])
    send([HELLO, 1, {"listeners": [{"address": "127.0.0.1", "port": 0}]}], [DEMAND, 1])
    head = kit.stdout.read(4)
    while len(head) == 4:
        kind, *fields = mp.decode(kit.stdout.read(struct.unpack(">I", head)[0]))[0]
        if kind == 65 and fields[0] == 1:
            send(*ANSWERS[fault])
        head = kit.stdout.read(4)
    return kit.wait()


if __name__ == "__main__":
    sys.exit(main())
