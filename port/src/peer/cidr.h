/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses of peers, and ranges of addresses in options. Pure. */
#ifndef SPARX_PEER_CIDR_H
#define SPARX_PEER_CIDR_H

#include "base/slice.h"

enum { CIDR_LIST_MAX = 64 };

/* An IPv4-mapped IPv6 address (::ffff:192.0.2.1) is always stored as IPv4. */
struct ip {
	uint8_t bytes[16];
	uint8_t len; /* 4, 16, or 0: a unix socket has no address */
};

struct cidr {
	struct ip ip;
	uint8_t bits; /* length of the prefix */
};

struct cidr_list {
	struct cidr at[CIDR_LIST_MAX];
	unsigned count;
};

struct ip ip_of(const uint8_t *bytes, size_t len);
/* Parses an address without port, brackets or zone. False: it is not an address. */
bool ip_parse(struct slice text, struct ip *ip);

/* "192.0.2.1", "10.0.0.0/8", "2001:db8::/32", or "unix" for all unix sockets. Returns the fault, or NULL. */
const char *cidr_parse(struct slice text, struct cidr *c);
bool cidr_list_contains(const struct cidr_list *list, const struct ip *ip);

#endif
