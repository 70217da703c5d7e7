/* SPDX-License-Identifier: Apache-2.0 */
/* What mux asks of a session of HTTP/3, and so of nghttp3 and of the carrier. */
#ifndef SPARX_PROTO_H3_KIND_H
#define SPARX_PROTO_H3_KIND_H

#include "proto/mux.h"

extern const struct mux_kind h3_kind;

#endif
