/* SPDX-License-Identifier: Apache-2.0 */
/* The proxy in front of a connection, as the host sees it. */
#ifndef SPARX_BRIDGE_VIA_H
#define SPARX_BRIDGE_VIA_H

#include "bridge/bridge.h"

/* Writes REQUEST's field `proxy` (NULL: the connection has no PROXY header), and the most bytes that it may take. */
size_t via_bound(const struct proxied *p);
uint8_t *via_put(uint8_t *at, const struct proxied *p);
/* The same for the field `client`, if trusted proxies name the client. */
size_t named_bound(const struct forwarded *f);
uint8_t *named_put(uint8_t *at, const struct forwarded *f);

#endif
