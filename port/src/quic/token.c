/* SPDX-License-Identifier: Apache-2.0 */
/* Answers without a connection, and tokens that prove addresses. Received bytes and time bound both. */
#include <string.h>

#include "platform/platform.h"
#include "quic/parts.h"

enum {
	STRAYS = 100,   /* answers per second to packets that belong to no connection */
	RESET_MIN = 21, /* shortest stateless reset: RFC 9000 10.3, */
	RESET_MAX = 42, /* and one that looks like any packet; always shorter than its cause, so that no loop can arise */
};

static const uint64_t second = NGTCP2_SECONDS;

/* ---- tokens ---- */

bool quic_reset_token(const struct quic *q, const ngtcp2_cid *cid, uint8_t *token)
{
	return ngtcp2_crypto_generate_stateless_reset_token(token, q->reset_secret, QUIC_SECRET, cid) == 0;
}

size_t quic_new_token(const struct quic *q, const ngtcp2_path *path, uint64_t now, uint8_t *token, size_t size)
{
	ngtcp2_ssize n;

	if (size < NGTCP2_CRYPTO_MAX_REGULAR_TOKENLEN)
		return 0;
	n = ngtcp2_crypto_generate_regular_token(token, q->token_secret, QUIC_SECRET, path->remote.addr, path->remote.addrlen, now);
	return n > 0 ? (size_t)n : 0;
}

enum quic_token quic_token_check(const struct quic *q, const ngtcp2_pkt_hd *hd, const struct quic_datagram *d, uint64_t now,
				 ngtcp2_cid *original)
{
	if (hd->tokenlen == 0)
		return QUIC_TOKEN_NONE;
	if (hd->token[0] == NGTCP2_CRYPTO_TOKEN_MAGIC_RETRY2)
		return ngtcp2_crypto_verify_retry_token2(original, hd->token, hd->tokenlen, q->token_secret, QUIC_SECRET,
							 hd->version, &d->from.any, d->from_len, &hd->dcid, 10 * second, now) == 0
			       ? QUIC_TOKEN_RETRY
			       : QUIC_TOKEN_BAD;
	if (hd->token[0] == NGTCP2_CRYPTO_TOKEN_MAGIC_REGULAR &&
	    ngtcp2_crypto_verify_regular_token(hd->token, hd->tokenlen, q->token_secret, QUIC_SECRET, &d->from.any, d->from_len,
					       86400 * second, now) == 0)
		return QUIC_TOKEN_NEW;
	return QUIC_TOKEN_NONE; /* a token of another server, or an old one */
}

/* ---- who must prove an address ---- */

/*
 * Whether clients must first prove their address: if very many have not; and if connections of a peer are limited, since anybody
 * could use up another peer's limit with forged packets.
 */
bool quic_wants_proof(struct quic *q)
{
	const struct config *config = q->pool->env.config;

	return q->half_open >= config->h3_retry || config->limit_connections || config->limit_connection_rate ||
	       !conn_pool_may_shake(q->pool);
}

/* ---- answers ---- */

static void answer(struct quic *q, const struct quic_datagram *d, const uint8_t *bytes, ngtcp2_ssize n)
{
	ngtcp2_path path = quic_path_of(d);
	size_t sent;

	if (n > 0 && quic_socket_send(q, &path, 0, bytes, (size_t)n, (size_t)n, &sent))
		q->pool->bytes_out += sent;
}

static bool may_answer(struct quic *q)
{
	return bucket_take(&q->strays, q->pool->loop->now_us, STRAYS, 1000000);
}

void quic_say_versions(struct quic *q, const ngtcp2_version_cid *vc, const struct quic_datagram *d)
{
	uint32_t versions[] = {0, NGTCP2_PROTO_VER_V1, NGTCP2_PROTO_VER_V2};
	uint8_t grease;

	if (!may_answer(q) || !platform_random(&grease, 1))
		return;
	versions[0] = 0x0a0a0a0a | (uint32_t)(grease & 0xf0) << 24;
	answer(q, d, quic_scratch(),
	       ngtcp2_pkt_write_version_negotiation(quic_scratch(), d->n, grease, vc->scid, vc->scidlen, vc->dcid, vc->dcidlen,
						    versions, sizeof versions / sizeof *versions));
}

void quic_say_retry(struct quic *q, const ngtcp2_pkt_hd *hd, const struct quic_datagram *d, uint64_t now)
{
	uint8_t token[NGTCP2_CRYPTO_MAX_RETRY_TOKENLEN2];
	ngtcp2_ssize n;
	ngtcp2_cid id;

	if (!quic_cid_make(q, &id))
		return;
	n = ngtcp2_crypto_generate_retry_token2(token, q->token_secret, QUIC_SECRET, hd->version, &d->from.any, d->from_len, &id,
						&hd->dcid, now);
	if (n < 0)
		return;
	q->figures.retries++;
	answer(q, d, quic_scratch(),
	       ngtcp2_crypto_write_retry(quic_scratch(), d->n, hd->version, &hd->scid, &id, &hd->dcid, token, (size_t)n));
}

void quic_say_close(struct quic *q, const ngtcp2_pkt_hd *hd, const struct quic_datagram *d, uint64_t code)
{
	if (may_answer(q))
		answer(q, d, quic_scratch(),
		       ngtcp2_crypto_write_connection_close(quic_scratch(), d->n, hd->version, &hd->scid, &hd->dcid, code, NULL,
							    0));
}

void quic_say_reset(struct quic *q, const uint8_t *cid, const struct quic_datagram *d)
{
	uint8_t token[NGTCP2_STATELESS_RESET_TOKENLEN], chance[RESET_MAX];
	size_t n = d->n > RESET_MAX ? RESET_MAX : d->n - 1, random;
	ngtcp2_cid id;

	if (n < RESET_MIN || !may_answer(q))
		return;
	random = n - sizeof token;
	ngtcp2_cid_init(&id, cid, QUIC_CID);
	if (quic_reset_token(q, &id, token) && platform_random(chance, random))
		answer(q, d, quic_scratch(), ngtcp2_pkt_write_stateless_reset(quic_scratch(), n, token, chance, random));
}
