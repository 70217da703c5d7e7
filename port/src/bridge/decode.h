/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DECODE: a request body comes to the host without its content codings. What the session gives is decoded as far as there is read credit,
 * a piece at a time; what is left is kept, at most DECODE_RAW bytes of it, and nothing more is read before it is used up.
 */
#ifndef SPARX_BRIDGE_DECODE_H
#define SPARX_BRIDGE_DECODE_H

#include "bridge/bridge.h"

enum { DECODE_RAW = 16384 };

void decode_init(struct bridge *b);
/* Decodes for a while; and whether it could go on. */
void decode_run(struct bridge *b);
bool decode_has_work(struct bridge *b);

#endif
