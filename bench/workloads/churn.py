# SPDX-License-Identifier: Apache-2.0
"""A new connection for each request (Connection: close), 64 at a time: accepting and closing."""

import rates
import tools

CONNECTIONS = 64


def measure(bench):
    note = "The times begin when a connection is open; what opening costs is in the rate."
    return rates.table(bench, f"A connection for each request ({CONNECTIONS} at a time)", {"": generate}, note=note)


def generate(server, seconds):
    return tools.wrk(server.url(), CONNECTIONS, seconds, headers=["Connection: close"])
