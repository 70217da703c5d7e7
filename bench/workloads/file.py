# SPDX-License-Identifier: Apache-2.0
"""Files of 1 MiB and of 1 GiB that are in the page cache, beside nginx's sendfile and Cowboy's: rate, memory, CPU time."""

import os
import pathlib
import socket
import tempfile

import report
import streaming
import tools

MIB = 2**20
CASES = {"1 MiB, 1 client": (1, 1), "1 MiB, 64 clients": (1, 64), "1 GiB, 1 client": (1024, 1)}
PEERS = ("sparx", "nginx", "cowboy")


def measure(bench):
    with tempfile.TemporaryDirectory(prefix="sparx-bench-") as folder:
        os.chmod(folder, 0o755)  # nginx runs as another user
        os.environ["BENCH_FILES"] = folder
        for size in (1, 1024):
            make(pathlib.Path(folder) / str(size), size * MIB)
        with bench.start(*PEERS) as group:
            for server in group:
                (pathlib.Path(server.folder.name) / "files").symlink_to(folder)  # where nginx looks for it
            results = {}
            for case, (size, clients) in CASES.items():
                bench.say(case)
                turns = bench.take_turns(group, lambda server: once(bench, server, size, clients))
                results |= {(name, case): turns[name] for name in turns}
    return table(results)


def make(path, size):
    """Writes a file that is neither all zeros nor sparse, and reads it once to put it into the cache."""
    block = os.urandom(MIB)
    with path.open("wb") as file:
        for _ in range(size // MIB):
            file.write(block)


def once(bench, server, size, clients):
    if size == 1024:
        return streaming.timed(server, size * MIB, lambda: receive(server, size))
    figures, done = None, {}

    def load():
        done.update(tools.wrk(server.url(f"/files/{size}"), clients, bench.seconds))
        return done["errors"] == 0

    figures = streaming.timed(server, 1, load)
    mebibytes = done["requests"] * size
    figures["mib_per_s"] = done["rate"] * size
    for role in server.roles:
        figures[f"cpu_{role}"] *= 1024 / 2**30 / max(1, mebibytes)  # the CPU time was counted per byte
    return figures


def receive(server, size):
    buffer = bytearray(2**18)
    total = 0
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(f"GET /files/{size} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode())
        while n := connection.recv_into(buffer):
            total += n
    return total > size * MIB


def table(results):
    base = {key: report.median(results[key], "mib_per_s") for key in results}
    rows = []
    for name, case in results:
        rounds = results[name, case]
        figures = report.medians(rounds)
        errors = sum(result["errors"] for result in rounds)
        cpu = {key[4:]: value for key, value in figures.items() if key.startswith("cpu_")}
        rows.append(
            [
                f"{name}, {case}",
                report.count(figures["mib_per_s"]) + (f" ({errors} wrong)" if errors else ""),
                report.ratio(figures["mib_per_s"], base.get(("nginx", case))),
                report.ratio(figures["mib_per_s"], base.get(("cowboy", case))),
                report.mebibytes(figures["growth"]),
                f"{sum(cpu.values()):.2f} (" + ", ".join(f"{role} {value:.2f}" for role, value in cpu.items()) + ")",
            ]
        )
    columns = ["server", "MiB/s", "of nginx", "of Cowboy", "memory growth", "CPU s/GiB"]
    return report.Table("Files from the page cache", columns, rows, {f"{name}, {case}": rounds for (name, case), rounds in results.items()})
