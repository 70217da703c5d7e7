# SPDX-License-Identifier: Apache-2.0
"""One application of Plug on Sparx, Bandit and Plug.Cowboy (where they are, by ERL_LIBS), beside Sparx without Plug."""

import rates
import report
import servers
import tools

CASES = {
    "hello, 64 open": ("/", 64, tools.WRK_SCRIPT),
    "hello, 1 open": ("/", 1, tools.WRK_SCRIPT),
    "hello, 256 open": ("/", 256, tools.WRK_SCRIPT),
    "POST of 10 KB, 64 open": ("/echo", 64, tools.HERE / "echo.lua"),
    "Plug.Static, 100 KB, 64 open": ("/static/100", 64, tools.WRK_SCRIPT),
}
H2 = "hello, HTTP/2, 16 open of 32 streams"


def measure(bench):
    title = "An application of Plug"
    if not servers.PLUGS:
        return report.Table(title, report.RATE_COLUMNS, [], {}, "Skipped: neither Plug nor Bandit is on the code path (ERL_LIBS).")
    rows, raw = [], {}
    with servers.Group(["sparx", *servers.PLUGS]) as group:
        for label, generate in generators().items():
            # Without Plug there is no file.
            those = [server for server in group if server.name != "sparx" or "Static" not in label]
            bench.say(label)
            for server in those:
                generate(server, 1)
            results = bench.take_turns(those, lambda server: server.with_cpu(lambda: generate(server, bench.seconds)))
            first = report.median(results.get("bandit", results[those[0].name]), "rate")
            rows += [row(f"{name}, {label}", results[name], first) for name in results]
            raw[label] = results
    columns = ["server", "requests/s", "of Bandit", *report.RATE_COLUMNS[4:]]
    return report.Table(title, columns, rows, raw)


def row(label, results, first):
    cells = report.rate_row(label, label, {label: results}, {})
    return [cells[0], cells[1], report.ratio(report.median(results, "rate"), first), *cells[4:]]


def generators():
    def http1(path, connections, script):
        return lambda server, seconds: tools.wrk(server.url(path), connections, seconds, script)

    def http2(server, seconds):
        return tools.h2load(server.h2_url("/"), 16, seconds, "-m32")

    return {label: http1(*case) for label, case in CASES.items()} | {H2: http2}
