/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SPARX_BRIDGE_EVENTS_H
#define SPARX_BRIDGE_EVENTS_H

#include "bridge/bridge.h"

/* The sink of all streams: b->sink. */
void events_init(struct bridge *b);

#endif
