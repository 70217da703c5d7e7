# SPDX-License-Identifier: Apache-2.0
"""A short answer over keep-alive connections: wrk with one thread and 1, 64 and 256 connections."""

import report
import tools

CONNECTIONS = (64, 1, 256)


def measure(bench):
    rows, raw = [], {}
    with bench.start() as group:
        for connections in CONNECTIONS:
            bench.say(f"{connections} connections")
            for server in group:
                tools.wrk(server.url(), connections, 1)
            results = bench.take_turns(group, lambda server: one(server, connections, bench.seconds))
            base = {name: report.median(results[name], "rate") for name in results}
            rows += [report.rate_row(f"{name}, {connections} open", name, results, base) for name in results]
            raw[connections] = results
    return report.Table("Hello, world over keep-alive (wrk, one thread)", report.RATE_COLUMNS, rows, raw)


def one(server, connections, seconds):
    return server.with_cpu(lambda: tools.wrk(server.url(), connections, seconds))
