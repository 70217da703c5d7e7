"""Resident memory of 10,000 idle keep-alive connections, each after one request."""

import socket
import time

import machine
import report
import tools

COUNT = 10_000
REQUEST = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n"


def measure(bench):
    count = min(COUNT, machine.descriptor_limit() - 500)
    raw = {}
    for name in bench.peers:
        with bench.start(name) as [server]:
            raw[name] = idle(server, count)
            bench.say(f"{name:8} {(total(raw[name], 'after') - total(raw[name], 'before')) / count:,.0f} bytes a connection")
    rows = [
        [
            name,
            report.count(total(one, "after") / count - total(one, "before") / count),
            ", ".join(f"{role} {(one['after'][role] - one['before'][role]) / count:,.0f}" for role in one["before"]),
            report.mebibytes(total(one, "before")),
            report.mebibytes(total(one, "after")),
            f"{one['answered']:,}",
        ]
        for name, one in raw.items()
    ]
    columns = ["server", "bytes a connection", "by process", "before", "with all open", "answered again"]
    note = "Growth of resident memory of all processes of the server; the kernel's part (about 3.7 kB a socket) is not in it."
    return report.Table(f"{count:,} idle keep-alive connections", columns, rows, raw, note)


def total(one, moment):
    return sum(one[moment].values())


def idle(server, count):
    # What the first load costs once is not the connections' cost.
    tools.wrk(server.url(), 64, 2)
    before = settled(server)
    connections = [open_one(server) for _ in range(count)]
    after = settled(server)
    answered = sum(ask(connection) for connection in connections)
    for connection in connections:
        connection.close()
    return {"before": before, "after": after, "answered": answered}


def settled(server, still=5, at_most=30):
    """The memory when it has not moved for some seconds: a VM gives back what a load took only after a while."""
    memory, since = server.memory(), time.monotonic()
    deadline = since + at_most
    while time.monotonic() < min(since + still, deadline):
        time.sleep(0.5)
        now = server.memory()
        if now != memory:
            memory, since = now, time.monotonic()
    return memory


def open_one(server):
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    if not ask(connection):
        raise SystemExit(f"bench: {server.name} closed a connection after its first request")
    return connection


def ask(connection):
    """Sends a request and reads the answer; False when the connection is gone."""
    try:
        connection.sendall(REQUEST)
        answer = b""
        while b"Hello, world!\n" not in answer:
            piece = connection.recv(4096)
            if not piece:
                return False
            answer += piece
        return True
    except OSError:
        return False
