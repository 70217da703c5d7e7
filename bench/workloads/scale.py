# SPDX-License-Identifier: Apache-2.0
"""100,000 keep-alive connections, each with two requests, on six port programs: memory, and whether all are answered."""

import collections
import multiprocessing

import idling
import report
import tools

CONNECTIONS, CLIENTS = 100_000, 6
Target = collections.namedtuple("Target", "name host port")


def measure(bench):
    share = CONNECTIONS // CLIENTS + 1
    if share > idling.machine.descriptor_limit() - 100:
        raise SystemExit(f"bench: each of {CLIENTS} clients needs {share + 100:,} descriptors; raise the limit (ulimit -n)")
    with bench.start("sparx, 6 ports") as [server]:
        tools.wrk(server.url(), 64, 2)
        before = idling.settled(server)
        with Clients(server, share) as clients:
            clients.go()
            bench.say(f"{clients.count:,} are open")
            after = idling.settled(server)
            answered = clients.go()
    grown = {role: (after[role] - before[role]) / clients.count for role in before}
    row = [
        f"{clients.count:,}",
        f"{answered:,}",
        report.count(sum(grown.values())),
        ", ".join(f"{role} {size:,.0f}" for role, size in grown.items()),
        report.mebibytes(sum(before.values())),
        report.mebibytes(sum(after.values())),
    ]
    columns = ["connections", "answered again", "bytes a connection", "by process", "before", "with all open"]
    note = "The port programs have 16,667 each. Growth of resident memory; the kernel's part (about 3.7 kB a socket) is not in it."
    return report.Table("100,000 idle keep-alive connections on 6 ports", columns, [row], {"before": before, "after": after}, note)


class Clients:
    """Processes that keep connections open, each from another address of this machine, since one process has too few descriptors."""

    def __init__(self, server, share):
        self.count = share * CLIENTS
        self.ends, self.processes = [], []
        for number in range(CLIENTS):
            target = Target(server.name, f"127.0.0.{number + 1}", server.port)
            ours, theirs = multiprocessing.Pipe()
            process = multiprocessing.Process(target=hold, args=(theirs, target, share), daemon=True)
            process.start()
            self.ends.append(ours)
            self.processes.append(process)

    def go(self):
        """Makes all of them take their next step; returns how many connections were answered."""
        for end in self.ends:
            end.send("go")
        return sum(end.recv() for end in self.ends)

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        for process in self.processes:
            process.terminate()
            process.join()


def hold(orders, target, share):
    """Opens `count` connections with a request each, then sends a second request on all of them."""
    orders.recv()
    connections = [idling.Http1(target) for _ in range(share)]
    orders.send(len(connections))
    orders.recv()
    orders.send(sum(connection.ask() for connection in connections))
    orders.recv()
