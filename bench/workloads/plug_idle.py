# SPDX-License-Identifier: Apache-2.0
"""Resident memory of idle connections of an application of Plug: 10,000 kept alive, and 5,000 WebSockets."""

import idling
import report
import servers
import tools


def measure(bench):
    title = "Idle connections of an application of Plug"
    if not servers.PLUGS:
        return report.Table(title, ["server"], [], {}, "Skipped: neither Plug nor Bandit is on the code path (ERL_LIBS).")
    rows, raw, note = [], {}, ""
    for what, count, kind, load in (
        ("kept alive", 10_000, idling.Http1, lambda server: tools.wrk(server.url(), 64, 2)),
        ("WebSockets", 5_000, idling.WebSocket, lambda server: tools.websocket(server.port, 64, 2)),
    ):
        table = idling.table(bench, what, count, kind, load, servers.PLUGS)
        rows += [[f"{row[0]}, {count:,} {what}", *row[1:]] for row in table.rows]
        raw[what], columns, note = table.raw, table.columns, table.note
    return report.Table(title, columns, rows, raw, note)
