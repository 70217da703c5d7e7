/* SPDX-License-Identifier: Apache-2.0 */
/* What mux asks of a session of HTTP/2, and so of nghttp2. */
#ifndef SPARX_PROTO_H2_KIND_H
#define SPARX_PROTO_H2_KIND_H

#include "proto/mux.h"

extern const struct mux_kind h2_kind;

#endif
