/* SPDX-License-Identifier: Apache-2.0 */
#include <ngtcp2/ngtcp2_crypto.h>
#include <string.h>

#include "base/siphash.h"
#include "platform/platform.h"
#include "quic/parts.h"

enum { ATTEMPTS = 64 };

static uint64_t key_of(const uint8_t *cid)
{
	uint64_t key;

	memcpy(&key, cid, sizeof key);
	return key ? key : 1;
}

bool quic_route_add(struct quic *q, const ngtcp2_cid *cid, struct quic_end *end)
{
	return !idmap_get(&q->routes, key_of(cid->data)) && idmap_put(&q->routes, key_of(cid->data), end);
}

void quic_route_remove(struct quic *q, const ngtcp2_cid *cid)
{
	idmap_del(&q->routes, key_of(cid->data));
}

bool quic_route_move(struct quic *q, const ngtcp2_cid *cid, struct quic_end *end)
{
	quic_route_remove(q, cid);
	return quic_route_add(q, cid, end);
}

/* Clients choose these ids, so the hash has a secret key. */
static uint64_t initial_key(const struct quic *q, const uint8_t *cid, size_t len)
{
	uint64_t key = siphash(q->hash_secret, cid, len);

	return key ? key : 1;
}

uint64_t quic_route_add_initial(struct quic *q, const ngtcp2_cid *cid, struct quic_end *end)
{
	uint64_t key = initial_key(q, cid->data, cid->datalen);

	return !idmap_get(&q->routes, key) && idmap_put(&q->routes, key, end) ? key : 0;
}

void quic_route_remove_initial(struct quic *q, uint64_t key)
{
	if (key)
		idmap_del(&q->routes, key);
}

struct quic_end *quic_route_find(const struct quic *q, const uint8_t *cid, size_t len)
{
	struct quic_end *end = len == QUIC_CID ? idmap_get(&q->routes, key_of(cid)) : NULL;

	return end ? end : idmap_get(&q->routes, initial_key(q, cid, len));
}

bool quic_cid_make(struct quic *q, ngtcp2_cid *cid)
{
	cid->datalen = QUIC_CID;
	for (unsigned i = 0; i < ATTEMPTS; i++) {
		unsigned first;
		if (!platform_random(cid->data, QUIC_CID))
			return false;
		first = (unsigned)(cid->data[0] - cid->data[0] % q->places) + q->place;
		cid->data[0] = (uint8_t)(first > 255 ? first - q->places : first);
		if (!quic_route_find(q, cid->data, QUIC_CID))
			return true;
	}
	return false;
}
