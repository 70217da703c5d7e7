/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A function for each message of the host: order_NAME(bridge, exchange, message). The exchange is the one that the message names, alive and
 * known to the host (dispatch.c has found it); NULL if the message names none.
 */
#ifndef SPARX_BRIDGE_ORDERS_H
#define SPARX_BRIDGE_ORDERS_H

#include "bridge/exchange.h"

#define HOST(name) void order_##name(struct bridge *b, struct exchange *x, const struct message *m);
#define PORT(name)
#define MESSAGE(NAME, name, kind, direction, fields) direction(name)
#include "frames/messages.def"
#undef HOST
#undef PORT

#endif
