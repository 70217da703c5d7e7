# SPDX-License-Identifier: Apache-2.0
"""What the cases are written with."""

from lib.cases import Registry, requests, script

registry = Registry()
case = registry.case
get, request = requests("localhost", "http")

__all__ = ["case", "get", "registry", "request", "script"]
