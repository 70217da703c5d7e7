/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SPARX_PROTO_H2_OPS_H
#define SPARX_PROTO_H2_OPS_H

#include "stream/stream.h"

extern const struct stream_ops h2_stream_ops;

#endif
