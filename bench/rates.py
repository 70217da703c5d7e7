"""What the workloads have in common that measure a rate."""

import report


def table(bench, title, cases, peers=("sparx", "nginx", "cowboy"), note=""):
    """cases: {label: generate(server, seconds) -> figures}. Each server is warmed up for a second, then the servers take turns."""
    rows, raw = [], {}
    with bench.start(*peers) as group:
        for label, generate in cases.items():
            if label:
                bench.say(label)
            for server in group:
                generate(server, 1)
            results = bench.take_turns(group, lambda server: server.with_cpu(lambda: generate(server, bench.seconds)))
            base = {name: report.median(results[name], "rate") for name in results}
            rows += [report.rate_row(f"{name}, {label}" if label else name, name, results, base) for name in results]
            raw[label or "all"] = results
    return report.Table(title, report.RATE_COLUMNS, rows, raw, note)
