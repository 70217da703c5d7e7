# SPDX-License-Identifier: Apache-2.0
"""The frames of cases/, over HTTP/2."""

from lib import cases
from lib.peer import H2

from .case import registry


class Http2(cases.Suite):
    name, registry, client = "http2", registry, H2


SUITES = [Http2]
