/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SPARX_BRIDGE_WEBSOCKET_H
#define SPARX_BRIDGE_WEBSOCKET_H

#include "bridge/exchange.h"
#include "ws/ws.h"

/* Makes the socket, before the stream is upgraded to it. deflate: the negotiated parameters; NULL: no compression. False: out of
 * memory. */
bool websocket_new(struct exchange *x, const struct ws_config *config, const struct deflate_params *deflate);
/* The stream was upgraded to it. */
void websocket_open(struct exchange *x);

#endif
