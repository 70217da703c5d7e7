# SPDX-License-Identifier: Apache-2.0
"""The effect of a second port program and of the VM's scheduler flags: hello, 64 connections."""

import rates
import tools

NAMES = ["sparx", "2 ports", "+sbwt none", "+S 1:1"]
CONNECTIONS = 64


def measure(bench):
    title = f"Hello, world with other settings ({CONNECTIONS} connections)"
    return rates.beside(bench, title, NAMES, lambda server, seconds: tools.wrk(server.url(), CONNECTIONS, seconds))
