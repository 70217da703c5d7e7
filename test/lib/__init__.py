# SPDX-License-Identifier: Apache-2.0
"""Modules that the Python tests share: codecs (h1, h2, ws, mp), a driver of sparx_port, hosts and clients for it, one runner."""
