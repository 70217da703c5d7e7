# SPDX-License-Identifier: Apache-2.0
"""A short response to 1,000 connections, all of which send requests without a pause."""

import rates
import tools

CONNECTIONS = 1000


def measure(bench):
    return rates.table(bench, f"Hello, world to {CONNECTIONS:,} busy connections (wrk, one thread)", {"": generate})


def generate(server, seconds):
    return tools.wrk(server.url(), CONNECTIONS, seconds)
