/* What the application does with a stream of HTTP/3. */
#ifndef SPARX_PROTO_H3_OPS_H
#define SPARX_PROTO_H3_OPS_H

#include "stream/stream.h"

extern const struct stream_ops h3_stream_ops;

#endif
