/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DECODE: undoes the content codings of a request body. Bytes from the session are decoded piece by piece while there is read
 * credit; the rest is kept, at most DECODE_RAW bytes, and nothing more is read until it is used up.
 */
#ifndef SPARX_BRIDGE_DECODE_H
#define SPARX_BRIDGE_DECODE_H

#include "bridge/bridge.h"

enum { DECODE_RAW = 16384 };

void decode_init(struct bridge *b);
/* Decodes for a while; whether there is more to do. */
void decode_run(struct bridge *b);
bool decode_has_work(struct bridge *b);

#endif
