# SPDX-License-Identifier: Apache-2.0
"""Short answers over TLS: wrk with 64 connections, and h2load with 16 connections of 32 streams."""

import rates
import servers
import tools

CONNECTIONS, STREAMS = 16, 32


def measure(bench):
    cases = {
        "HTTP/1.1": lambda server, seconds: tools.wrk(server.url(), 64, seconds),
        "HTTP/2": lambda server, seconds: tools.h2load(server.h2_url(), CONNECTIONS, seconds, f"-m{STREAMS}"),
    }
    title = f"Hello over TLS (64 connections; HTTP/2: {CONNECTIONS} connections of {STREAMS} streams)"
    return rates.table(bench, title, cases, servers.SECURE_NAMES)
