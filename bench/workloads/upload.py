# SPDX-License-Identifier: Apache-2.0
"""A 2 GiB upload that the handler counts, by length and chunked: rate, and how much the server's memory grows."""

import socket

import streaming

SIZE = 2 * 2**30
BLOCK = bytes(2**18)
FRAMINGS = {
    "length": (f"Content-Length: {SIZE}", BLOCK, b""),
    "chunked": ("Transfer-Encoding: chunked", b"%x\r\n%b\r\n" % (len(BLOCK), BLOCK), b"0\r\n\r\n"),
}


def measure(bench):
    results = {}
    with bench.start("sparx", "cowboy") as group:
        for framing in FRAMINGS:
            bench.say(framing)
            turns = bench.take_turns(group, lambda server: streaming.timed(server, SIZE, lambda: send(server, framing)))
            results |= {(name, framing): turns[name] for name in turns}
    return streaming.table("Upload of 2 GiB, counted by the handler", results)


def send(server, framing):
    field, block, end = FRAMINGS[framing]
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(f"PUT /upload HTTP/1.1\r\nHost: bench\r\n{field}\r\nConnection: close\r\n\r\n".encode())
        for _ in range(SIZE // len(BLOCK)):
            connection.sendall(block)
        connection.sendall(end)
        answer = b""
        while piece := connection.recv(4096):
            answer += piece
    return str(SIZE).encode() in answer.partition(b"\r\n\r\n")[2]
