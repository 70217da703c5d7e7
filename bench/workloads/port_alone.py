# SPDX-License-Identifier: Apache-2.0
"""The port with a small host in C that answers in batches, compared with nginx: the cost of pipe and sockets without a VM."""

import rates
import tools

CONNECTIONS = 64


def measure(bench):
    cases = {
        "one by one": lambda server, seconds: tools.wrk(server.url(), CONNECTIONS, seconds),
        "16 per write": lambda server, seconds: tools.wrk_pipelined(server.url(), CONNECTIONS, seconds),
    }
    title = f"The port alone, under a host in C ({CONNECTIONS} connections)"
    return rates.table(bench, title, cases, ("port_alone", "nginx"))
