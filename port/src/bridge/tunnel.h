/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SPARX_BRIDGE_TUNNEL_H
#define SPARX_BRIDGE_TUNNEL_H

#include "bridge/exchange.h"

/* The stream was upgraded to bytes both ways. idle_timeout in ms; 0: none. */
void tunnel_open(struct exchange *x, uint64_t idle_timeout);

#endif
