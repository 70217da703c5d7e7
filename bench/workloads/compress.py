# SPDX-License-Identifier: Apache-2.0
"""JSON of 10 and 100 KB, compressed for each request: gzip of nginx's level (1) and of Cowboy's (6), zstd and br; 64 connections. One port program
compresses on one core, Cowboy on all: the rows with 2 ports have one for each core of a machine with two."""

import report
import servers
import tools

CONNECTIONS = 64
# The server that each is compared with.
PEERS = {"sparx, gzip 1": "nginx"} | dict.fromkeys(
    ["sparx, gzip 6", "sparx, gzip 6, 2 ports", "sparx, zstd 3", "sparx, zstd 3, 2 ports", "sparx, br 3"], "cowboy, gzip 6"
)


def measure(bench):
    rows, raw = [], {}
    with servers.Group(["nginx", "cowboy, gzip 6", *PEERS]) as group:
        for size in (10, 100):
            bench.say(f"{size} KB")
            for server in group:
                generate(server, size, 1)
            results = bench.take_turns(group, lambda server: server.with_cpu(lambda: generate(server, size, bench.seconds)))
            rates = {name: report.median(results[name], "rate") for name in results}
            for name in results:
                peer = PEERS.get(name)
                base = {"nginx" if peer == "nginx" else "cowboy": rates[peer]} if peer else {}
                rows.append(report.rate_row(f"{name}, {size} KB", name, results, base))
            raw[size] = results
    return report.Table(f"JSON that is compressed ({CONNECTIONS} connections)", report.RATE_COLUMNS, rows, raw)


def generate(server, size, seconds):
    coding = server.name.split(", ")[1].split()[0] if ", " in server.name else "gzip"
    return tools.wrk(server.url(f"/documents/{size}"), CONNECTIONS, seconds, headers=[f"Accept-Encoding: {coding}"])
