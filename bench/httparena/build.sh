#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# HttpArena calls this instead of `docker build`. SPARX is a clone of Sparx: the one that this folder is in, unless it is set.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
git -C "${SPARX:-$here/../..}" archive HEAD | docker build -t httparena-sparx -f bench/httparena/Dockerfile -
