/* SPDX-License-Identifier: Apache-2.0 */
/* The options of UPGRADE (PROTOCOL.md 7.1). */
#ifndef SPARX_BRIDGE_UPGRADE_OPTIONS_H
#define SPARX_BRIDGE_UPGRADE_OPTIONS_H

#include "frames/options.h"
#include "ws/ws.h"

/* For a WebSocket; for a tunnel, which has only idle_timeout. False: *fault says why. */
bool websocket_options(struct slice raw, struct ws_config *config, struct config_fault *fault);
bool tunnel_options(struct slice raw, uint64_t *idle_timeout, struct config_fault *fault);

#endif
