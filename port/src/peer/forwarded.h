/* SPDX-License-Identifier: Apache-2.0 */
/* The client that trusted proxies name, and what it asked them: Forwarded (RFC 7239) and X-Forwarded-…. Pure. */
#ifndef SPARX_PEER_FORWARDED_H
#define SPARX_PEER_FORWARDED_H

#include "base/field.h"
#include "peer/cidr.h"

/* Fields whose word counts: bits. A proxy passes on what its client wrote into those that it does not write itself. */
enum { TRUST_FORWARDED = 1, TRUST_FOR = 2, TRUST_PROTO = 4, TRUST_HOST = 8 };

struct forwarded {
	struct ip client;  /* without a length: none is named */
	uint16_t port;     /* 0: not told */
	int8_t https;      /* 1, 0; -1: not told */
	bool told;         /* any of this */
	struct slice host; /* as the client asked for it, with the port if that was given; absent: not told */
};

/*
 * Reads the lists from the right, which is what the nearest proxy added, past the addresses that are trusted themselves, to the
 * first that is not, or else to the leftmost. Whatever is left of it was written by somebody who is not trusted, and is not
 * looked at. Where both fields are there they must agree, since a proxy that writes one of them may pass on what its client
 * wrote into the other. No client: none is named, or it is hidden (unknown, an obfuscated name), or malformed.
 *
 * The scheme and the host are those of the element that names the client (`proto`, `host`); or those of X-Forwarded-Proto and
 * X-Forwarded-Host at the same place from the right, or the leftmost where these lists are shorter. What is malformed is not told.
 */
void forwarded_read(struct forwarded *f, const struct field *fields, unsigned count, const struct cidr_list *trusted,
		    unsigned fields_trusted);

#endif
