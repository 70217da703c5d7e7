# SPDX-License-Identifier: Apache-2.0
"""WebSockets: 64 connections, each sends 32 bytes, waits for their echo, and sends the next."""

import rates
import tools

CONNECTIONS = 64


def measure(bench):
    note = "Requests are messages. Each socket has a process of its own on both servers; Sparx's hibernate between messages, Cowboy's do not."
    return rates.table(bench, f"WebSocket echo of 32 bytes ({CONNECTIONS} connections)", {"": generate}, ("sparx", "cowboy"), note)


def generate(server, seconds):
    return tools.websocket(server.port, CONNECTIONS, seconds)
