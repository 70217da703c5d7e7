# SPDX-License-Identifier: Apache-2.0
"""50 clients that download and read 64 KB/s, and a small request beside them: its latency, and the growth of the server's memory."""

import socket
import threading
import time

import machine
import report

CLIENTS = 50
SIZE = 200 * 10**6 // 2**16 * 2**16
RATE = 64_000  # bytes per second, of each
WINDOW = 524_288  # Sparx's default
PAUSE = 0.01  # s, between two small requests


def measure(bench):
    seconds = 3 * bench.seconds  # 200 MB at 64 KB/s would take too long
    with bench.start("sparx", "cowboy") as group:
        results = bench.take_turns(group, lambda server: one(server, seconds))
    rows = [row(name, results[name]) for name in results]
    columns = ["server", "p50", "p99", "worst", "memory growth", "worst", "bound", "read, MB", "CPU %"]
    title = f"{CLIENTS} downloads of {SIZE // 10**6} MB at {RATE // 1000} KB/s, for {seconds:.0f} s, and small requests beside them"
    note = f"Bound: {CLIENTS} windows and 16 MiB. Buffers of the kernel are not in the memory."
    return report.Table(title, columns, rows, results, note)


def row(name, rounds):
    figures = report.medians(rounds)
    return [
        name,
        report.milliseconds(figures["p50"]),
        report.milliseconds(figures["p99"]),
        report.milliseconds(max(one["slowest"] for one in rounds)),
        report.mebibytes(figures["growth"]),
        report.mebibytes(max(one["growth"] for one in rounds)),
        report.mebibytes(CLIENTS * WINDOW + 16 * 2**20) if name == "sparx" else "–",
        report.count(figures["read"] / 10**6),
        ", ".join(f"{key[4:]} {value:.1f}" for key, value in figures.items() if key.startswith("cpu_")),
    ]


def one(server, seconds):
    small_requests(server, time.monotonic() + 0.5)  # one-time costs of the first requests
    cpu = server.cpu()
    readers = Readers(server, seconds)
    with machine.MemoryWatch(server) as memory:
        readers.start()
        times = small_requests(server, time.monotonic() + seconds)
        readers.join()
    after = server.cpu()
    times.sort()
    figures = {
        "p50": times[len(times) // 2],
        "p99": times[len(times) * 99 // 100],
        "slowest": times[-1],
        "growth": memory.growth,
        "read": readers.taken,
    }
    return figures | {f"cpu_{role}": (after[role] - cpu[role]) / seconds * 100 for role in cpu}


def small_requests(server, until):
    """The latency (ms) of each of a series of requests on one connection."""
    times = []
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while time.monotonic() < until:
            started = time.perf_counter()
            connection.sendall(b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n")
            answer = b""
            while b"Hello, world!\n" not in answer:
                answer += connection.recv(4096)
            times.append((time.perf_counter() - started) * 1000)
            time.sleep(PAUSE)
    return times


class Readers(threading.Thread):
    """All slow clients, in one thread: each reads its share ten times a second."""

    def __init__(self, server, seconds):
        super().__init__(daemon=True)
        self.server, self.seconds = server, seconds
        self.taken = 0

    def open(self):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        client.connect(("127.0.0.1", self.server.port))
        client.sendall(f"GET /download/{SIZE} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
        client.setblocking(False)
        return client

    def run(self):
        clients = [self.open() for _ in range(CLIENTS)]
        share, until = RATE // 10, time.monotonic() + self.seconds
        for number in range(int(self.seconds * 10)):
            for client in clients:
                try:
                    self.taken += len(client.recv(share))
                except BlockingIOError:
                    pass
            time.sleep(max(0, until - self.seconds + (number + 1) / 10 - time.monotonic()))
        for client in clients:
            client.close()
