# SPDX-License-Identifier: Apache-2.0
"""Resident memory of 2,000 idle HTTP/2 connections, each after one request."""

import idling
import tools


def measure(bench):
    return idling.table(bench, "idle HTTP/2 connections", 2_000, idling.Http2, load)


def load(server):
    tools.h2load(server.h2_url(), 16, 2, "-m32")
