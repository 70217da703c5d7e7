/* SPDX-License-Identifier: Apache-2.0 */
/* The operations of one stream of many. */
#ifndef SPARX_PROTO_MUX_OPS_H
#define SPARX_PROTO_MUX_OPS_H

#include "stream/stream.h"

extern const struct stream_ops mux_stream_ops;

#endif
