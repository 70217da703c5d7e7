# SPDX-License-Identifier: Apache-2.0
"""The cost of the pool compared with a bare consumer of requests, and with consumers of the GenStage protocol."""

import rates
import servers
import tools

CONNECTIONS = 64


def measure(bench):
    names = ["bare", "sparx", "protocol"] + ["gen_stage"] * servers.library("gen_stage")
    title = f"Hello, world with other consumers than the pool ({CONNECTIONS} connections)"
    return rates.beside(bench, title, names, lambda server, seconds: tools.wrk(server.url(), CONNECTIONS, seconds))
