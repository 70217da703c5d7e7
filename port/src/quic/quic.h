/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QUIC, RFC 9000, for HTTP/3: a UDP socket next to a TLS listener, and its connections, which are members of the same pool as
 * those over TCP, under the same limits.
 *
 * It is built if libngtcp2 (1.11 or later) and libnghttp3 (1.8 or later) are found: SPARX_HTTP3. Otherwise quic_open refuses.
 */
#ifndef SPARX_QUIC_QUIC_H
#define SPARX_QUIC_QUIC_H

#include <stdio.h>

#include "conn/pool.h"
#include "tls/tls.h"

struct quic;

struct quic_figures {
	uint64_t accepted, connections;       /* connections so far; open connections */
	uint64_t handshakes, resumed, failed; /* handshakes completed, of these resumed, and ended by an error */
	uint64_t retries;                     /* clients that had to prove their address first */
	uint64_t dropped;                     /* packets that belong to no connection */
};

#ifdef SPARX_HTTP3

enum { QUIC_EXISTS = 1 };

/* Binds a UDP socket to the address of the listener and to this port. `store`: the certificates for new connections. NULL: *rule
   says why not; *taken: another program uses that port. */
struct quic *quic_open(struct conn_pool *pool, const struct listener_config *config, unsigned index, uint16_t port,
		       struct tls_store *const *store, bool *taken, char *rule, size_t size);
int quic_descriptor(const struct quic *q);
/* Part of a turn: receives packets. True if there may be more. */
bool quic_run(struct quic *q);
/* Stops accepting connections. */
void quic_drain(struct quic *q);
/* Frees it, when no connection is left. */
void quic_close(struct quic *q);
void quic_figures(const struct quic *q, struct quic_figures *figures);

#else

enum { QUIC_EXISTS = 0 };

static inline struct quic *quic_open(struct conn_pool *pool, const struct listener_config *config, unsigned index, uint16_t port,
				     struct tls_store *const *store, bool *taken, char *rule, size_t size)
{
	(void)pool;
	(void)config;
	(void)index;
	(void)port;
	(void)store;
	*taken = false;
	snprintf(rule, size,
		 "no HTTP/3: this program was built without it (libngtcp2 1.11, libngtcp2_crypto_gnutls, libnghttp3 1.8)");
	return NULL;
}

static inline int quic_descriptor(const struct quic *q)
{
	(void)q;
	return -1;
}

static inline bool quic_run(struct quic *q)
{
	return q;
}

static inline void quic_drain(struct quic *q)
{
	(void)q;
}

static inline void quic_close(struct quic *q)
{
	(void)q;
}

static inline void quic_figures(const struct quic *q, struct quic_figures *figures)
{
	(void)q;
	*figures = (struct quic_figures){0};
}

#endif

#endif
