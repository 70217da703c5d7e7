"""A 1 GiB upload that the handler counts: rate, and how much the server's memory grows."""

import socket

import streaming

SIZE = 2**30


def measure(bench):
    with bench.start("sparx", "cowboy") as group:
        results = bench.take_turns(group, lambda server: streaming.timed(server, SIZE, lambda: send(server)))
    return streaming.table("Upload of 1 GiB, counted by the handler", results)


def send(server):
    block = bytes(2**18)
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        head = f"PUT /upload HTTP/1.1\r\nHost: bench\r\nContent-Length: {SIZE}\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode())
        for _ in range(SIZE // len(block)):
            connection.sendall(block)
        answer = b""
        while piece := connection.recv(4096):
            answer += piece
    return str(SIZE).encode() in answer.partition(b"\r\n\r\n")[2]
