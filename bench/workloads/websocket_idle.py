# SPDX-License-Identifier: Apache-2.0
"""Resident memory of 5,000 idle WebSocket connections, each after one message and its echo."""

import idling
import tools


def measure(bench):
    return idling.table(bench, "idle WebSocket connections", 5_000, idling.WebSocket, load, ("sparx", "cowboy"))


def load(server):
    tools.websocket(server.port, 64, 2)
