"""What the pool adds to a bare consumer of requests, and what consumers of the GenStage protocol cost beside it."""

import report
import servers
import tools

CONNECTIONS = 64


def measure(bench):
    names = ["bare", "sparx", "protocol"] + ["gen_stage"] * servers.gen_stage()
    with servers.Group(names) as group:
        for server in group:
            tools.wrk(server.url(), CONNECTIONS, 1)
        results = bench.take_turns(group, lambda server: server.with_cpu(lambda: tools.wrk(server.url(), CONNECTIONS, bench.seconds)))
    base = {name: report.median(results[name], "rate") for name in results}
    rows = [of_bare(report.rate_row(name, name, results, {}), base[name], base["bare"]) for name in names]
    columns = of_bare(report.RATE_COLUMNS, None, None, "of the bare one")
    return report.Table(f"Hello, world with other consumers than the pool ({CONNECTIONS} connections)", columns, rows, results)


def of_bare(row, rate, bare, cell=None):
    """A row with its share of the bare consumer's rate, in the place of those of nginx and Cowboy."""
    return [row[0], row[1], cell or report.ratio(rate, bare), *row[4:]]
