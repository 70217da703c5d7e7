/* SPDX-License-Identifier: Apache-2.0 */
/* The client that trusted proxies name: Forwarded (RFC 7239) and X-Forwarded-For. Pure. */
#ifndef SPARX_PEER_FORWARDED_H
#define SPARX_PEER_FORWARDED_H

#include "base/field.h"
#include "peer/cidr.h"

/*
 * Reads the lists from the right, which is what the nearest proxy added, past the addresses that are trusted themselves, to the
 * first that is not, or else to the leftmost. Whatever is left of it was written by somebody who is not trusted, and is not
 * looked at. Where both fields are there they must agree, since a proxy that writes one of them may pass on what its client
 * wrote into the other. False: no client is named, or it is hidden (unknown, an obfuscated name), or malformed.
 */
bool forwarded_client(const struct field *fields, unsigned count, const struct cidr_list *trusted, struct ip *client);

#endif
