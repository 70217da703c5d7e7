/* SPDX-License-Identifier: Apache-2.0 */
/* The client that trusted proxies name, with the scheme and host of its request: Forwarded (RFC 7239) and X-Forwarded-…. Pure. */
#ifndef SPARX_PEER_FORWARDED_H
#define SPARX_PEER_FORWARDED_H

#include "base/field.h"
#include "peer/cidr.h"

/* The trusted fields, as bits. A proxy passes on whatever its client writes into fields that the proxy does not write itself. */
enum { TRUST_FORWARDED = 1, TRUST_FOR = 2, TRUST_PROTO = 4, TRUST_HOST = 8 };

struct forwarded {
	struct ip client;  /* without a length: there is none */
	uint16_t port;     /* 0: unknown */
	int8_t https;      /* 1 https, 0 http; -1: unknown */
	bool told;         /* one of these is known */
	bool doubted;      /* there is a field, but no client: it is malformed, hides the client, or contradicts the other one */
	struct slice host; /* the host that the client asked for, with its port if there is one; absent: unknown */
};

/*
 * Reads the lists from the right, where the nearest proxy writes, past trusted addresses to the first address that is not
 * trusted, or else to the leftmost. Elements further left come from an untrusted writer and are ignored. If both fields are
 * present they must agree, since a proxy that writes one of them may pass on what its client wrote into the other. There is no
 * client if none is named, or if it is hidden (unknown, an obfuscated name) or malformed.
 *
 * The scheme and the host are those of the element that names the client (`proto`, `host`); or those of X-Forwarded-Proto and
 * X-Forwarded-Host at the same place from the right, or the leftmost if these lists are shorter. Malformed values are ignored.
 */
void forwarded_read(struct forwarded *f, const struct field *fields, unsigned count, const struct cidr_list *trusted,
		    unsigned fields_trusted);

#endif
