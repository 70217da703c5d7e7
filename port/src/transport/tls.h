/* SPDX-License-Identifier: Apache-2.0 */
/* TLS over a socket: the state of one connection, and the state that a listener's connections share. */
#ifndef SPARX_TRANSPORT_TLS_H
#define SPARX_TRANSPORT_TLS_H

#include "tls/tls.h"
#include "transport/transport.h"

struct transport_tls {
	struct tls_store *store;              /* certificates for new connections */
	const uint64_t *now;                  /* ms */
	uint64_t handshakes, resumed, failed; /* handshakes completed, of these resumed, and ended by an error */
};

extern const struct transport_ops transport_tls_ops;

/* The state of a new connection; NULL: out of memory. */
void *transport_tls_open(struct transport_tls *shared);

#endif
