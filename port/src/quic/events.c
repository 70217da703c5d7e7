/* SPDX-License-Identifier: Apache-2.0 */
/* ngtcp2's callbacks for a connection, and HTTP/3's calls to it. */
#include <ngtcp2/ngtcp2_crypto_gnutls.h>
#include <string.h>

#include "platform/platform.h"
#include "quic/parts.h"

enum {
	ALERT_UNEXPECTED_MESSAGE = 10,
	ALERT_MISSING_EXTENSION = 109,
	HELLO_MAX = 2 * TLS_HELLO_MAX, /* bytes of ClientHellos: a second one may follow a HelloRetryRequest */
};

void quic_failed(struct quic_conn *c, int error)
{
	if (c->failed)
		return;
	c->failed = true;
	switch (error) {
	case NGTCP2_ERR_DRAINING:
	case NGTCP2_ERR_CLOSING:
	case NGTCP2_ERR_DROP_CONN:
	case NGTCP2_ERR_IDLE_CLOSE:
	case NGTCP2_ERR_HANDSHAKE_TIMEOUT:
		c->silent = true;
		break;
	case NGTCP2_ERR_RETRY:
		c->silent = c->unordered = true;
		break;
	case NGTCP2_ERR_CRYPTO:
		ngtcp2_ccerr_set_tls_alert(&c->error, ngtcp2_conn_get_tls_alert(c->ng), NULL, 0);
		break;
	default:
		ngtcp2_ccerr_set_liberr(&c->error, error, NULL, 0);
		break;
	}
}

/* ---- the handshake ---- */

/* The TLS session is made when the ClientHello is complete, since only then the server name is known. */
static int begin_tls(struct quic_conn *c, ngtcp2_encryption_level level, const uint8_t *data, size_t n)
{
	struct tls_hello hello;
	int result;

	if (!buf_append(&c->hello, data, n))
		return NGTCP2_ERR_NOMEM;
	switch (tls_first_message(buf_at(&c->hello), buf_len(&c->hello), &hello)) {
	case TLS_FIRST_MORE:
		return 0;
	case TLS_FIRST_WRONG:
		ngtcp2_conn_set_tls_alert(c->ng, hello.alert);
		return NGTCP2_ERR_CRYPTO;
	default:
		break;
	}
	if (hello.lacks_quic) {
		/* RFC 9001 8.2. ngtcp2 aborts when it has to send a packet of such a handshake. */
		ngtcp2_conn_set_tls_alert(c->ng, ALERT_MISSING_EXTENSION);
		return NGTCP2_ERR_CRYPTO;
	}
	c->tls = tls_session_for_quic(*c->quic->store, hello.name, &c->ref);
	if (!c->tls || ngtcp2_crypto_gnutls_configure_server_session(tls_session_native(c->tls)) != 0)
		return NGTCP2_ERR_NOMEM;
	ngtcp2_conn_set_tls_native_handle(c->ng, tls_session_native(c->tls));
	result = ngtcp2_crypto_read_write_crypto_data(c->ng, level, buf_at(&c->hello), buf_len(&c->hello));
	buf_free(&c->hello);
	return result;
}

/*
 * After the handshake no TLS message from a client is allowed: KeyUpdate is forbidden (RFC 9001 6), and if the library answered
 * it, ngtcp2 would abort.
 */
static int on_crypto(ngtcp2_conn *ng, ngtcp2_encryption_level level, uint64_t offset, const uint8_t *data, size_t n, void *ctx)
{
	struct quic_conn *c = ctx;
	int result;

	if (level == NGTCP2_ENCRYPTION_LEVEL_INITIAL && offset + n > HELLO_MAX)
		return NGTCP2_ERR_CRYPTO_BUFFER_EXCEEDED;
	if (c->shaken || (level == NGTCP2_ENCRYPTION_LEVEL_1RTT) || (!c->tls && level != NGTCP2_ENCRYPTION_LEVEL_INITIAL)) {
		ngtcp2_conn_set_tls_alert(ng, ALERT_UNEXPECTED_MESSAGE);
		return NGTCP2_ERR_CRYPTO;
	}
	result = c->tls ? ngtcp2_crypto_read_write_crypto_data(ng, level, data, n) : begin_tls(c, level, data, n);
	if (result == 0 || result == NGTCP2_ERR_NOMEM)
		return result;
	result = ngtcp2_conn_get_tls_error(ng);
	return result ? result : NGTCP2_ERR_CRYPTO;
}

static void validated(struct quic_conn *c)
{
	if (c->validated)
		return;
	c->validated = true;
	c->quic->half_open--;
}

static int on_shaken(ngtcp2_conn *ng, void *ctx)
{
	struct quic_conn *c = ctx;
	uint8_t token[NGTCP2_CRYPTO_MAX_REGULAR_TOKENLEN];
	size_t n;

	c->shaken = true;
	validated(c);
	tls_session_shaken(c->tls);
	c->owner.secure = tls_session_facts(c->tls);
	c->quic->figures.handshakes++;
	c->quic->figures.resumed += c->owner.secure->resumed;
	conn_record_secured(c->member.pool, c->record, c->owner.secure, "");
	n = quic_new_token(c->quic, ngtcp2_conn_get_path(ng), quic_now(c->quic), token, sizeof token);
	if (n && ngtcp2_conn_submit_new_token(ng, token, n) != 0)
		return NGTCP2_ERR_CALLBACK_FAILURE;
	c->h3 = h3_start(&c->owner, &quic_carrier);
	if (!c->h3)
		return NGTCP2_ERR_CALLBACK_FAILURE;
	c->state = QUIC_OPEN;
	return 0;
}

/* ---- streams ---- */

/* Makes ngtcp2 return when HTTP/3 has ended the connection. */
static int go_on(const struct quic_conn *c)
{
	return c->failed ? NGTCP2_ERR_CALLBACK_FAILURE : 0;
}

static int on_stream_data(ngtcp2_conn *ng, uint32_t flags, int64_t id, uint64_t offset, const uint8_t *data, size_t n, void *ctx,
			  void *user)
{
	struct quic_conn *c = ctx;

	(void)ng;
	(void)offset;
	(void)user;
	c->moved += n;
	if (c->h3)
		h3_receive(c->h3, id, data ? data : (const uint8_t *)"", n, flags & NGTCP2_STREAM_DATA_FLAG_FIN);
	return go_on(c);
}

static int on_acked(ngtcp2_conn *ng, int64_t id, uint64_t offset, uint64_t n, void *ctx, void *user)
{
	struct quic_conn *c = ctx;

	(void)ng;
	(void)offset;
	(void)user;
	c->moved += n;
	if (c->h3)
		h3_acked(c->h3, id, n);
	return go_on(c);
}

static int on_stream_close(ngtcp2_conn *ng, uint32_t flags, int64_t id, uint64_t code, void *ctx, void *user)
{
	struct quic_conn *c = ctx;

	(void)ng;
	(void)user;
	if (c->h3)
		h3_gone(c->h3, id, flags & NGTCP2_STREAM_CLOSE_FLAG_APP_ERROR_CODE_SET ? code : 0);
	return go_on(c);
}

static int on_stream_reset(ngtcp2_conn *ng, int64_t id, uint64_t size, uint64_t code, void *ctx, void *user)
{
	struct quic_conn *c = ctx;

	(void)ng;
	(void)size;
	(void)code;
	(void)user;
	if (c->h3)
		h3_reset(c->h3, id);
	return go_on(c);
}

static int on_window(ngtcp2_conn *ng, int64_t id, uint64_t max, void *ctx, void *user)
{
	struct quic_conn *c = ctx;

	(void)ng;
	(void)max;
	(void)user;
	if (c->h3)
		h3_unblocked(c->h3, id);
	return go_on(c);
}

/* ---- connection ids, paths ---- */

static void on_random(uint8_t *at, size_t n, const ngtcp2_rand_ctx *ctx)
{
	(void)ctx;
	if (!platform_random(at, n))
		memset(at, 0, n);
}

static int on_new_id(ngtcp2_conn *ng, ngtcp2_cid *cid, uint8_t *token, size_t len, void *ctx)
{
	struct quic_conn *c = ctx;

	(void)ng;
	if (len != QUIC_CID || !quic_cid_make(c->quic, cid) || !quic_reset_token(c->quic, cid, token) ||
	    !quic_route_add(c->quic, cid, &c->end))
		return NGTCP2_ERR_CALLBACK_FAILURE;
	return 0;
}

static int on_id_retired(ngtcp2_conn *ng, const ngtcp2_cid *cid, void *ctx)
{
	struct quic_conn *c = ctx;

	(void)ng;
	quic_route_remove(c->quic, cid);
	return 0;
}

/* The peer is the address of the validated path, not that of the last packet. */
static int on_path(ngtcp2_conn *ng, uint32_t flags, const ngtcp2_path *path, const ngtcp2_path *old,
		   ngtcp2_path_validation_result result, void *ctx)
{
	struct quic_conn *c = ctx;
	struct peer *peer = &c->owner.peer;
	struct slice octets;
	in_port_t port;

	(void)ng;
	(void)flags;
	(void)old;
	if (result != NGTCP2_PATH_VALIDATION_RESULT_SUCCESS)
		return 0;
	c->narrow_until = 0;
	octets = quic_octets((const void *)path->remote.addr, &port);
	peer->address_len = (uint8_t)octets.len;
	memcpy(peer->address, octets.at, octets.len);
	peer->port = ntohs(port);
	octets = quic_octets((const void *)path->local.addr, &port);
	memcpy(peer->local, octets.at, octets.len);
	memcpy(peer->local + octets.len, &port, sizeof port);
	return 0;
}

const ngtcp2_callbacks quic_callbacks = {
	.recv_client_initial = ngtcp2_crypto_recv_client_initial_cb,
	.recv_crypto_data = on_crypto,
	.handshake_completed = on_shaken,
	.encrypt = ngtcp2_crypto_encrypt_cb,
	.decrypt = ngtcp2_crypto_decrypt_cb,
	.hp_mask = ngtcp2_crypto_hp_mask_cb,
	.recv_stream_data = on_stream_data,
	.acked_stream_data_offset = on_acked,
	.stream_close = on_stream_close,
	.rand = on_random,
	.get_new_connection_id = on_new_id,
	.remove_connection_id = on_id_retired,
	.update_key = ngtcp2_crypto_update_key_cb,
	.path_validation = on_path,
	.stream_reset = on_stream_reset,
	.extend_max_stream_data = on_window,
	.delete_crypto_aead_ctx = ngtcp2_crypto_delete_crypto_aead_ctx_cb,
	.delete_crypto_cipher_ctx = ngtcp2_crypto_delete_crypto_cipher_ctx_cb,
	.get_path_challenge_data = ngtcp2_crypto_get_path_challenge_data_cb,
	.version_negotiation = ngtcp2_crypto_version_negotiation_cb,
};

/* ---- calls of HTTP/3 ---- */

static struct quic_conn *conn_of(const struct session_owner *owner)
{
	return container_of(owner, struct quic_conn, owner);
}

static void check(struct quic_conn *c, int error)
{
	if (error && error != NGTCP2_ERR_STREAM_NOT_FOUND)
		quic_failed(c, error);
}

static void carrier_credit(struct session_owner *owner, int64_t id, uint64_t n)
{
	struct quic_conn *c = conn_of(owner);

	check(c, ngtcp2_conn_extend_max_stream_offset(c->ng, id, n));
}

static void carrier_credit_all(struct session_owner *owner, uint64_t n)
{
	ngtcp2_conn_extend_max_offset(conn_of(owner)->ng, n);
}

static void carrier_more(struct session_owner *owner, bool uni, uint64_t n)
{
	if (uni)
		ngtcp2_conn_extend_max_streams_uni(conn_of(owner)->ng, n);
	else
		ngtcp2_conn_extend_max_streams_bidi(conn_of(owner)->ng, n);
}

static void carrier_reset(struct session_owner *owner, int64_t id, uint64_t code)
{
	struct quic_conn *c = conn_of(owner);

	check(c, ngtcp2_conn_shutdown_stream_write(c->ng, 0, id, code));
}

static void carrier_stop(struct session_owner *owner, int64_t id, uint64_t code)
{
	struct quic_conn *c = conn_of(owner);

	check(c, ngtcp2_conn_shutdown_stream_read(c->ng, 0, id, code));
}

static bool carrier_open(struct session_owner *owner, int64_t *id)
{
	return ngtcp2_conn_open_uni_stream(conn_of(owner)->ng, id, NULL) == 0;
}

static bool carrier_is_shut(const struct session_owner *owner, int64_t id)
{
	return ngtcp2_conn_get_max_stream_data_left(conn_of(owner)->ng, id) == 0;
}

static bool carrier_is_full(const struct session_owner *owner)
{
	const struct quic_conn *c = conn_of(owner);

	return ngtcp2_conn_get_max_data_left(c->ng) == 0 || ngtcp2_conn_get_cwnd_left(c->ng) == 0;
}

static uint64_t carrier_round_trip(const struct session_owner *owner)
{
	ngtcp2_conn_info info;

	ngtcp2_conn_get_conn_info(conn_of(owner)->ng, &info);
	return info.smoothed_rtt / NGTCP2_MILLISECONDS;
}

const struct h3_carrier quic_carrier = {
	.credit = carrier_credit,
	.credit_all = carrier_credit_all,
	.more = carrier_more,
	.reset = carrier_reset,
	.stop = carrier_stop,
	.open = carrier_open,
	.is_shut = carrier_is_shut,
	.is_full = carrier_is_full,
	.round_trip = carrier_round_trip,
};
