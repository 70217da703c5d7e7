# SPDX-License-Identifier: Apache-2.0
"""WebSockets: a message of 32 bytes to 1,000 connections, and the next one when all have received it."""

import rates
import tools

CONNECTIONS = 1_000


def measure(bench):
    note = "Requests are messages that have arrived; times are from the speaker's sending. Each socket has a process of its own, told by a group of OTP's pg."
    title = f"WebSocket broadcast of 32 bytes to {CONNECTIONS:,} connections"
    return rates.table(bench, title, {"": generate}, ("sparx", "cowboy"), note)


def generate(server, seconds):
    return tools.broadcast(server.port, CONNECTIONS, seconds)
