/* SPDX-License-Identifier: Apache-2.0 */
/* The functions that mux needs from an HTTP/3 session, and so from nghttp3 and the carrier. */
#ifndef SPARX_PROTO_H3_KIND_H
#define SPARX_PROTO_H3_KIND_H

#include "proto/mux.h"

extern const struct mux_kind h3_kind;

#endif
