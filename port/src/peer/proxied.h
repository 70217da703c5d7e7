/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The PROXY protocol, versions 1 and 2 (HAProxy's specification): a header before the first byte of a connection, in which a
 * proxy names its client. Pure.
 *
 * Where a header is allowed, the first bytes decide: input that begins like a header must be one, or is refused.
 */
#ifndef SPARX_PEER_PROXIED_H
#define SPARX_PEER_PROXIED_H

#include "peer/cidr.h"

/* The smallest limit that every header without extensions fits into. A line of version 1 has 107 bytes at most, whatever the
 * bound. */
enum { PROXIED_LEAST = 16 + 216, PROXIED_UNIQUE_MAX = 128 };

/* An end of the connection between the client and the proxy. */
struct proxied_end {
	struct ip ip; /* without an address: a unix socket */
	uint16_t port;
	struct slice path; /* path of a unix socket; absent: it has no name, or is not a unix socket */
};

/* The TLS parameters between the client and the proxy. Absent slices are unknown. */
struct proxied_tls {
	bool there;      /* the header has this part */
	uint8_t client;  /* bits: 1 TLS was used; 2, 4: a certificate was shown, over this connection, or in this session */
	uint32_t verify; /* 0: the certificate was verified */
	struct slice version, name, cipher, signature, key;
};

struct proxied {
	unsigned version; /* 1, 2 */
	bool silent;      /* it names no client: LOCAL, UNKNOWN, or a family that is not a stream */
	struct proxied_end source, target;
	struct slice authority, alpn, unique; /* absent: unknown */
	struct proxied_tls tls;
	struct proxied_end via; /* the proxy's end of its connection to us */
};

enum proxied_step {
	PROXIED_MORE, /* the bytes are the beginning of a header */
	PROXIED_DONE, /* a header, *used bytes long */
	PROXIED_NOT,  /* they are something else */
	PROXIED_BAD,  /* they begin like a header, but are malformed */
};

/*
 * Reads the first bytes of a connection. `max` bounds a header of version 2. The slices point into the bytes. With PROXIED_BAD,
 * *why is a phrase that says what is wrong.
 */
enum proxied_step proxied_read(struct slice bytes, size_t max, struct proxied *p, size_t *used, const char **why);

#endif
