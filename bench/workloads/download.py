# SPDX-License-Identifier: Apache-2.0
"""A streamed response of 2 GiB, chunked and by length: rate, and how much the server's memory grows."""

import socket

import streaming

SIZE = 2 * 2**30


def measure(bench):
    results = {}
    with bench.start("sparx", "cowboy") as group:
        for framing in ("chunked", "length"):
            bench.say(framing)
            turns = bench.take_turns(group, lambda server: streaming.timed(server, SIZE, lambda: receive(server, framing)))
            results |= {(name, framing): turns[name] for name in turns}
    return streaming.table("Streamed response of 2 GiB, in writes of 64 KiB", results)


def receive(server, framing):
    """Reads to the end; complete if the body is long enough and the framing ends correctly."""
    buffer = bytearray(2**18)
    total, tail = 0, b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(f"GET /download/{SIZE}?{framing} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode())
        while size := connection.recv_into(buffer):
            total += size
            tail = (tail + bytes(buffer[max(0, size - 5) : size]))[-5:]
    return total > SIZE and (framing == "length" or tail == b"0\r\n\r\n")
