/* SPDX-License-Identifier: Apache-2.0 */
/* The operations of an HTTP/3 stream (stream_ops). */
#ifndef SPARX_PROTO_H3_OPS_H
#define SPARX_PROTO_H3_OPS_H

#include "stream/stream.h"

extern const struct stream_ops h3_stream_ops;

#endif
