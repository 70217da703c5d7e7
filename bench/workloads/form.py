# SPDX-License-Identifier: Apache-2.0
"""A 2 GiB file in a form (multipart/form-data), read part by part, compared with the same upload unparsed: rate, and how much the memory grows."""

import socket

import streaming

SIZE = 2 * 2**30
BLOCK = bytes(2**18)
BOUNDARY = "----WebKitFormBoundary7MA4YWxkTrZu0gW"
HEAD = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="f"\r\nContent-Type: application/octet-stream\r\n\r\n'.encode()
TAIL = f"\r\n--{BOUNDARY}--\r\n".encode()


def measure(bench):
    results = {}
    with bench.start("sparx") as group:
        for what in ("unparsed", "form"):
            bench.say(what)
            turns = bench.take_turns(group, lambda server: streaming.timed(server, SIZE, lambda: send(server, what)))
            results |= {(name, what): turns[name] for name in turns}
    return streaming.table("A file of 2 GiB, in a form and unparsed", results)


def send(server, what):
    head, tail = (HEAD, TAIL) if what == "form" else (b"", b"")
    path, type_ = ("/form", f"multipart/form-data; boundary={BOUNDARY}") if what == "form" else ("/upload", "application/octet-stream")
    length = SIZE + len(head) + len(tail)
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(
            f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: {type_}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n".encode() + head
        )
        for _ in range(SIZE // len(BLOCK)):
            connection.sendall(BLOCK)
        connection.sendall(tail)
        answer = b""
        while piece := connection.recv(4096):
            answer += piece
    return str(SIZE).encode() in answer.partition(b"\r\n\r\n")[2]
