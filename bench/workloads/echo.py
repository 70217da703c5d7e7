# SPDX-License-Identifier: Apache-2.0
"""A POST of 10 KB that the handler reads and sends back, 64 connections."""

import rates
import tools

CONNECTIONS = 64


def measure(bench):
    note = "nginx has nothing that answers with a request's body."
    return rates.table(bench, f"Echo of 10 KB ({CONNECTIONS} connections)", {"": generate}, ("sparx", "cowboy"), note)


def generate(server, seconds):
    return tools.wrk(server.url("/echo"), CONNECTIONS, seconds, tools.HERE / "echo.lua")
