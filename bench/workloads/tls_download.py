# SPDX-License-Identifier: Apache-2.0
"""A streamed response of 1 GiB with and without TLS: the cost of TLS per GiB."""

import socket
import ssl

import streaming

SIZE = 2**30


def measure(bench):
    results = {}
    with bench.start("sparx", "sparx, tls", "cowboy", "cowboy, tls") as group:
        turns = bench.take_turns(group, lambda server: streaming.timed(server, SIZE, lambda: receive(server)))
        results |= {(name, "length"): turns[name] for name in turns}
    return streaming.table("Streamed response of 1 GiB, in writes of 64 KiB", results)


def receive(server):
    """Reads to the end; whether the response was complete."""
    buffer, total = bytearray(2**18), 0
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    if server.url().startswith("https:"):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = context.wrap_socket(connection, server_hostname="localhost")
    with connection:
        connection.sendall(f"GET /download/{SIZE}?length HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode())
        while size := connection.recv_into(buffer):
            total += size
    return total > SIZE
