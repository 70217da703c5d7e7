"""What the pool adds to a bare consumer of requests, and what consumers of the GenStage protocol cost beside it."""

import report
import servers
import tools

CONNECTIONS = 64


def measure(bench):
    rows, raw = [], {}
    with servers.Group(["bare", "sparx", "protocol"] + ["gen_stage"] * servers.gen_stage()) as group:
        for server in group:
            tools.wrk(server.url(), CONNECTIONS, 1)
        results = bench.take_turns(group, lambda server: server.with_cpu(lambda: tools.wrk(server.url(), CONNECTIONS, bench.seconds)))
    base = {name: report.median(results[name], "rate") for name in results}
    rows = [report.rate_row(name, name, results, base) for name in results]
    raw[CONNECTIONS] = results
    return report.Table(f"Hello, world with other consumers than the pool ({CONNECTIONS} connections)", report.RATE_COLUMNS, rows, raw)
