#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Hosts that send nonsense: messages with random fields, golden frames with flipped bytes, and noise, while clients wait. The program must report the fault
and continue, or end with one of its statuses. SPARX_RANDOM_SECONDS (3) is the duration, SPARX_RANDOM_SEED (the time) the seed; `make -C port asan` runs it
with sanitizers."""

import os
import pathlib
import random
import socket
import struct
import subprocess
import sys
import threading
import time
import unittest

REPO = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO / "test"))
from lib import mp  # noqa: E402
from lib.program import framed  # noqa: E402

PORT = os.environ.get("SPARX_PORT") or str(REPO / "priv/sparx_port")
SECONDS = float(os.environ.get("SPARX_RANDOM_SECONDS", "3"))
SEED = int(os.environ.get("SPARX_RANDOM_SEED", time.time_ns()))

FORMATS = ["um", "u", "suu", "s", "sufb", "sufU", "sb", "sF", "suf", "su", None, "u", "u", "stfm", "subu", "sub", "stf"]
NUMBERS = [0, 1, 2, 5, 8, 9, 10, 100, 103, 200, 204, 304, 404, 599, 1000, 65000, 262144, 1 << 32, (1 << 53) + 1, (1 << 64) - 1]
OPENINGS = [
    lambda stream: [13, stream, "websocket", [], {}],
    lambda stream: [13, stream, "websocket", [], {"compress": {}, "max_message": 3}],
    lambda stream: [13, stream, "", [], {}],
    lambda stream: [5, stream, 200, [], None],
    lambda stream: [8, stream, 103, []],
]
CLIENTS = [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 3,
    b"PUT /f HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\nExpect: 100-continue\r\n\r\n" + b"x" * 4000,
    b"POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\x81\x82\0\0\0\0hi\x89\x80\0\0\0\0",
    b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\nbytes",
    b"HEAD / HTTP/1.0\r\n\r\n",
]


def golden():
    frames = []
    for file in sorted((REPO / "test/fixtures/frames").glob("*.hex")):
        lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
        frames.append(bytes.fromhex("".join(lines))[4:])
    return frames


GOLDEN = golden()


def field(rng, letter):
    if letter == "s":
        return rng.randint(0, 9)
    if letter in "uU":
        return rng.choice(NUMBERS)
    if letter in "fF":
        if rng.random() < 0.5:
            return []
        names = [16, 14, 10, 58, 59, "x", "Content-Length", "bad name", "", 64]
        return [rng.choice(names + [b"v", b"5", b"close", b"a\r\n"]) for _ in range(rng.randint(0, 5))]
    if letter == "t":
        return rng.choice(["websocket", "websocket", "", "/a"])
    if letter == "m":
        return {} if rng.random() < 0.6 else {rng.choice(["compress", "max_message", "level", "x"]): rng.choice([0, 1, 100, None, {"level": 3}, "t"])}
    return rng.choice([b"", b"hello", b"x" * rng.choice([125, 126, 20000])])


def payload(rng):
    how = rng.random()
    if how < 0.75:
        kind = rng.choice([k for k, f in enumerate(FORMATS) if f and k])
        fields = [field(rng, letter) for letter in FORMATS[kind]]
        if rng.random() < 0.1:
            fields[rng.randrange(len(fields))] = field(rng, rng.choice("sufbm"))
        if rng.random() < 0.05:
            fields.append(1)
        return mp.encode([kind, *fields])
    if how < 0.95:
        bytes_ = bytearray(rng.choice(GOLDEN) or b"\x90")
        for _ in range(rng.randint(0, 3)):
            bytes_[rng.randrange(len(bytes_))] = rng.randrange(256)
        return bytes(bytes_)
    return rng.randbytes(rng.randint(1, 40))


class RandomFrames(unittest.TestCase):
    def one(self, seed):
        rng = random.Random(seed)
        port = subprocess.Popen([PORT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
        send = lambda payload: port.stdin.write(framed(payload))
        options = {"listeners": [{"address": "127.0.0.1", "port": 0}], "eof_timeout": 20, "report": rng.random() < 0.5}
        send(mp.encode([0, 1, options]) + mp.encode([1, 50]))
        size = struct.unpack(">I", port.stdout.read(4))[0]
        ready = mp.decode(port.stdout.read(size))[0]
        address = ("127.0.0.1", ready[2]["listeners"][0]["port"])
        heard = threading.Thread(target=port.stdout.readall)
        heard.start()
        clients = []
        for _ in range(rng.randint(1, 6)):
            clients.append(socket.create_connection(address))
            clients[-1].sendall(rng.choice(CLIENTS))
        time.sleep(0.005)  # so that there are requests for the messages to name
        try:
            for stream in range(1, 9):  # some begin with a valid HELLO
                send(mp.encode(rng.choice(OPENINGS)(stream)) + mp.encode([2, stream, 2, 65000]))
            for _ in range(rng.randint(10, 200)):
                send(b"".join(payload(rng) for _ in range(rng.randint(0, 4))))
            if rng.random() < 0.2:
                port.stdin.write(rng.randbytes(3))  # a truncated frame
        except BrokenPipeError:
            pass
        for client in clients:
            client.close()
        port.stdin.close()
        status, said = port.wait(120), port.stderr.read()
        heard.join()
        port.stdout.close()
        port.stderr.close()
        self.assertIn(status, (0, 4), f"SPARX_RANDOM_SEED={seed}: {said.decode(errors='replace')[-3000:]}")

    def test_nonsense(self):
        end, seed = time.monotonic() + SECONDS, SEED
        while time.monotonic() < end:
            self.one(seed)
            seed += 1


if __name__ == "__main__":
    unittest.main()
