# SPDX-License-Identifier: Apache-2.0
"""The hosts in other languages, compared with those languages' own servers: wrk with one thread and 64 connections."""

import shutil

import report
import servers
import tools


def measure(bench):
    names = [kind.name for kind in servers.HOSTS if shutil.which("node") or not kind.name.startswith("node")]
    with servers.Group(names) as group:
        for server in group:
            tools.wrk(server.url(), 64, 1)
        results = bench.take_turns(group, lambda server: server.with_cpu(lambda: tools.wrk(server.url(), 64, bench.seconds)))
        base = {name: report.median(results[name], "rate") for name in results}
        rows = [report.rate_row(name, name, results, base) for name in results]
    return report.Table("Hello, world from hosts in other languages (wrk -t1 -c64)", report.RATE_COLUMNS, rows, results)
