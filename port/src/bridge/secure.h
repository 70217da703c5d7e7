/* SPDX-License-Identifier: Apache-2.0 */
/* TLS as the host sees it. */
#ifndef SPARX_BRIDGE_SECURE_H
#define SPARX_BRIDGE_SECURE_H

#include "bridge/bridge.h"

/* Reads the `tls` of HELLO's listeners. False: fault says what is wrong. */
bool secure_certify(struct bridge *b, struct config_fault *fault);
/* Writes REQUEST's field `tls` (NULL: the connection is plain), and the most bytes that it may take. */
size_t secure_bound(const struct secure *s);
uint8_t *secure_put(uint8_t *at, const struct secure *s);
/* The same without the client's certificate; valid until the next call. */
struct slice secure_pack(const struct secure *s);

#endif
