/* SPDX-License-Identifier: Apache-2.0 */
/* The functions that mux needs from an HTTP/2 session, and so from nghttp2. */
#ifndef SPARX_PROTO_H2_KIND_H
#define SPARX_PROTO_H2_KIND_H

#include "proto/mux.h"

extern const struct mux_kind h2_kind;

#endif
