/* SPDX-License-Identifier: Apache-2.0 */
#include "quic_fixture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ngtcp2/ngtcp2_crypto_gnutls.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

#include "tls_fixture.h"

enum { ROUNDS = 20 };

uint64_t quic_clock(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NGTCP2_SECONDS + (uint64_t)t.tv_nsec;
}

/* ---- the server ---- */

static bool no_turn(void *ctx)
{
	(void)ctx;
	return false;
}

static void set_clock(struct loop *l)
{
	l->now_us = quic_clock() / 1000;
	l->now = l->now_us / 1000;
}

void quic_server_start(struct quic_server *s, void (*options)(struct config *config))
{
	struct listener_config listener = {.address = "127.0.0.1", .http3 = true};
	struct sockaddr_in at;
	socklen_t len = sizeof at;
	char rule[200];
	bool taken;

	memset(s, 0, sizeof *s);
	fixture_start(&s->h1);
	s->h1.config.max_connections = 1000;
	if (options)
		options(&s->h1.config);
	assert_true(loop_init(&s->loop, no_turn, NULL));
	assert_true(conn_pool_init(&s->pool, &s->loop, &s->h1.config, &s->h1.sink));
	memcpy(s->pool.env.date, s->h1.env.date, DATE_LEN);
	s->store = tls_store_of("a-ec b", NULL);
	s->quic = quic_open(&s->pool, &listener, 0, 0, &s->store, &taken, rule, sizeof rule);
	assert_non_null(s->quic);
	assert_int_equal(getsockname(loop_io_fd(&s->quic->io), (struct sockaddr *)&at, &len), 0);
	s->port = ntohs(at.sin_port);
}

void quic_server_stop(struct quic_server *s)
{
	conn_pool_cut(&s->pool);
	conn_pool_reap(&s->pool);
	assert_int_equal(s->quic->connections, 0);
	assert_int_equal(s->quic->half_open, 0);
	quic_close(s->quic);
	conn_pool_free(&s->pool);
	assert_int_equal(s->loop.fine.count, 0);
	loop_free(&s->loop);
	tls_store_drop(s->store);
	fixture_end(&s->h1);
}

void quic_server_turn(struct quic_server *s)
{
	set_clock(&s->loop);
	wheel_fire(&s->loop.wheel, s->loop.now);
	wheel_fire(&s->loop.fine, s->loop.now_us / LOOP_FINE_US);
	s->quic->readable = true;
	quic_run(s->quic);
	conn_pool_run(&s->pool);
	conn_pool_reap(&s->pool);
}

/* ---- what the client receives of HTTP/3 ---- */

static int on_field(nghttp3_conn *h3, int64_t id, int32_t token, nghttp3_rcbuf *name, nghttp3_rcbuf *value, uint8_t flags,
		    void *ctx, void *user)
{
	struct quic_client *c = ctx;
	nghttp3_vec n = nghttp3_rcbuf_get_buf(name), v = nghttp3_rcbuf_get_buf(value);

	(void)h3;
	(void)token;
	(void)flags;
	(void)user;
	if (n.len == 7 && memcmp(n.base, ":status", 7) == 0)
		text_add(&c->seen, "%d %.*s\n", (int)id, (int)v.len, v.base);
	return 0;
}

static int on_body(nghttp3_conn *h3, int64_t id, const uint8_t *data, size_t n, void *ctx, void *user)
{
	struct quic_client *c = ctx;

	(void)h3;
	(void)user;
	c->body += n;
	text_add(&c->seen, "%d ", (int)id);
	text_add_quoted(&c->seen, slice_of(data, n));
	text_add(&c->seen, "\n");
	return 0;
}

static int on_end(nghttp3_conn *h3, int64_t id, void *ctx, void *user)
{
	(void)h3;
	(void)user;
	text_add(&((struct quic_client *)ctx)->seen, "%d end\n", (int)id);
	return 0;
}

static void start_h3(struct quic_client *c)
{
	static const nghttp3_callbacks callbacks = {.recv_header = on_field, .recv_data = on_body, .end_stream = on_end};
	nghttp3_settings settings;
	int64_t id[3];

	nghttp3_settings_default(&settings);
	assert_int_equal(nghttp3_conn_client_new(&c->h3, &callbacks, &settings, NULL, c), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(ngtcp2_conn_open_uni_stream(c->ng, &id[i], NULL), 0);
	assert_int_equal(nghttp3_conn_bind_control_stream(c->h3, id[0]), 0);
	assert_int_equal(nghttp3_conn_bind_qpack_streams(c->h3, id[1], id[2]), 0);
}

/* ---- what the client receives of QUIC ---- */

static int on_shaken(ngtcp2_conn *ng, void *ctx)
{
	struct quic_client *c = ctx;

	(void)ng;
	c->shaken = true;
	start_h3(c);
	return 0;
}

static int on_stream(ngtcp2_conn *ng, uint32_t flags, int64_t id, uint64_t offset, const uint8_t *data, size_t n, void *ctx,
		     void *user)
{
	struct quic_client *c = ctx;
	nghttp3_ssize used = nghttp3_conn_read_stream(c->h3, id, data, n, flags & NGTCP2_STREAM_DATA_FLAG_FIN);

	(void)offset;
	(void)user;
	assert_true(used >= 0);
	ngtcp2_conn_extend_max_stream_offset(ng, id, n);
	ngtcp2_conn_extend_max_offset(ng, n);
	return 0;
}

static int on_acked(ngtcp2_conn *ng, int64_t id, uint64_t offset, uint64_t n, void *ctx, void *user)
{
	(void)ng;
	(void)offset;
	(void)user;
	nghttp3_conn_add_ack_offset(((struct quic_client *)ctx)->h3, id, n);
	return 0;
}

static int on_reset(ngtcp2_conn *ng, int64_t id, uint64_t size, uint64_t code, void *ctx, void *user)
{
	(void)ng;
	(void)size;
	(void)user;
	text_add(&((struct quic_client *)ctx)->seen, "%d reset 0x%x\n", (int)id, (unsigned)code);
	return 0;
}

static int on_token(ngtcp2_conn *ng, const uint8_t *token, size_t n, void *ctx)
{
	struct quic_client *c = ctx;

	(void)ng;
	assert_true(n <= sizeof c->token);
	memcpy(c->token, token, n);
	c->token_len = n;
	return 0;
}

static void on_random(uint8_t *at, size_t n, const ngtcp2_rand_ctx *ctx)
{
	(void)ctx;
	gnutls_rnd(GNUTLS_RND_RANDOM, at, n);
}

static int on_new_id(ngtcp2_conn *ng, ngtcp2_cid *cid, uint8_t *token, size_t len, void *ctx)
{
	(void)ng;
	(void)ctx;
	cid->datalen = len;
	on_random(cid->data, len, NULL);
	on_random(token, NGTCP2_STATELESS_RESET_TOKENLEN, NULL);
	return 0;
}

/* Replaces the payload before it is encrypted. */
static int on_encrypt(uint8_t *dest, const ngtcp2_crypto_aead *aead, const ngtcp2_crypto_aead_ctx *ctx, const uint8_t *plain,
		      size_t n, const uint8_t *nonce, size_t nonce_len, const uint8_t *aad, size_t aad_len);

static const ngtcp2_callbacks callbacks = {
	.client_initial = ngtcp2_crypto_client_initial_cb,
	.recv_crypto_data = ngtcp2_crypto_recv_crypto_data_cb,
	.handshake_completed = on_shaken,
	.encrypt = on_encrypt,
	.decrypt = ngtcp2_crypto_decrypt_cb,
	.hp_mask = ngtcp2_crypto_hp_mask_cb,
	.recv_stream_data = on_stream,
	.acked_stream_data_offset = on_acked,
	.recv_retry = ngtcp2_crypto_recv_retry_cb,
	.rand = on_random,
	.get_new_connection_id = on_new_id,
	.update_key = ngtcp2_crypto_update_key_cb,
	.stream_reset = on_reset,
	.recv_new_token = on_token,
	.delete_crypto_aead_ctx = ngtcp2_crypto_delete_crypto_aead_ctx_cb,
	.delete_crypto_cipher_ctx = ngtcp2_crypto_delete_crypto_cipher_ctx_cb,
	.get_path_challenge_data = ngtcp2_crypto_get_path_challenge_data_cb,
	.version_negotiation = ngtcp2_crypto_version_negotiation_cb,
};

static struct quic_client *planter; /* ngtcp2 does not say to which connection the packet belongs */

static int on_encrypt(uint8_t *dest, const ngtcp2_crypto_aead *aead, const ngtcp2_crypto_aead_ctx *ctx, const uint8_t *plain,
		      size_t n, const uint8_t *nonce, size_t nonce_len, const uint8_t *aad, size_t aad_len)
{
	static uint8_t other[65536];
	struct quic_client *c = planter;
	bool early = aad[0] & 0x80;

	if (!c || !c->planted || early != c->planted_early || n < c->planted)
		return ngtcp2_crypto_encrypt_cb(dest, aead, ctx, plain, n, nonce, nonce_len, aad, aad_len);
	memset(other, 0, n); /* PADDING */
	memcpy(other, c->plant, c->planted);
	c->planted = 0;
	return ngtcp2_crypto_encrypt_cb(dest, aead, ctx, other, n, nonce, nonce_len, aad, aad_len);
}

/* ---- its packets ---- */

static ngtcp2_path path_of(struct quic_client *c)
{
	return (ngtcp2_path){
		.local = {(ngtcp2_sockaddr *)&c->local, sizeof c->local},
		.remote = {(ngtcp2_sockaddr *)&c->remote, sizeof c->remote},
	};
}

void quic_client_throws(struct quic_client *c, const void *bytes, size_t n)
{
	assert_int_equal(send(c->fd, bytes, n, 0), n);
	c->sent += n;
}

static void end(struct quic_client *c)
{
	const ngtcp2_ccerr *e = ngtcp2_conn_get_ccerr(c->ng);

	if (c->over)
		return;
	c->over = true;
	text_add(&c->seen, "close %s0x%x\n", e->type == NGTCP2_CCERR_TYPE_APPLICATION ? "h3 " : "", (unsigned)e->error_code);
}

static void client_writes(struct quic_client *c)
{
	uint8_t packet[1452];

	planter = c;
	while (!c->over) {
		nghttp3_vec vec[8];
		ngtcp2_pkt_info info;
		ngtcp2_path_storage path;
		ngtcp2_ssize n, used = -1;
		nghttp3_ssize count = 0;
		int64_t id = -1;
		int fin = 0;

		if (c->h3)
			count = nghttp3_conn_writev_stream(c->h3, &id, &fin, vec, 8);
		assert_true(count >= 0);
		ngtcp2_path_storage_zero(&path);
		n = ngtcp2_conn_writev_stream(c->ng, &path.path, &info, packet, sizeof packet, &used,
					      NGTCP2_WRITE_STREAM_FLAG_MORE | (fin ? NGTCP2_WRITE_STREAM_FLAG_FIN : 0), id,
					      (const ngtcp2_vec *)(const void *)vec, (size_t)count, quic_clock());
		if (used >= 0 && id >= 0)
			nghttp3_conn_add_write_offset(c->h3, id, (size_t)used);
		if (n == NGTCP2_ERR_WRITE_MORE)
			continue;
		if (n == NGTCP2_ERR_STREAM_DATA_BLOCKED) {
			nghttp3_conn_block_stream(c->h3, id);
			continue;
		}
		if (n <= 0)
			break;
		quic_client_throws(c, packet, (size_t)n);
	}
	planter = NULL;
}

/* The handshake has failed. */
static void say_alert(struct quic_client *c)
{
	uint8_t packet[1452];
	ngtcp2_path_storage path;
	ngtcp2_pkt_info info;
	ngtcp2_ssize n;
	ngtcp2_ccerr e;

	ngtcp2_ccerr_set_tls_alert(&e, ngtcp2_conn_get_tls_alert(c->ng), NULL, 0);
	ngtcp2_path_storage_zero(&path);
	n = ngtcp2_conn_write_connection_close(c->ng, &path.path, &info, packet, sizeof packet, &e, quic_clock());
	assert_true(n > 0);
	quic_client_throws(c, packet, (size_t)n);
}

static bool client_reads(struct quic_client *c)
{
	uint8_t packet[65536];
	ssize_t n = recv(c->fd, packet, sizeof packet, MSG_DONTWAIT);
	ngtcp2_path path = path_of(c);
	ngtcp2_pkt_info info = {0};
	int error;

	if (n < 0)
		return false;
	c->packets++;
	c->got += (size_t)n;
	if (c->over || !c->ng || (c->path_max && (size_t)n > c->path_max))
		return true;
	c->largest = (size_t)n > c->largest ? (size_t)n : c->largest;
	error = ngtcp2_conn_read_pkt(c->ng, &path, &info, packet, (size_t)n, quic_clock());
	if (error == NGTCP2_ERR_DRAINING)
		end(c);
	else if (error == NGTCP2_ERR_RECV_VERSION_NEGOTIATION) {
		text_add(&c->seen, "versions\n");
		c->over = true;
	} else if (error && !c->over) {
		text_add(&c->seen, "error %s\n", ngtcp2_strerror(error));
		c->over = true;
		if (error == NGTCP2_ERR_CRYPTO)
			say_alert(c);
	}
	return true;
}

/* Time has passed. */
static void client_expires(struct quic_client *c)
{
	if (c->ng && !c->over && ngtcp2_conn_get_expiry(c->ng) <= quic_clock() &&
	    ngtcp2_conn_handle_expiry(c->ng, quic_clock()) != 0)
		c->over = true;
}

bool quic_client_goes_on(struct quic_client *c)
{
	bool read = false;

	while (client_reads(c))
		read = true;
	client_expires(c);
	client_writes(c);
	return read;
}

void quic_talk(struct quic_client *c)
{
	struct pollfd p = {.fd = c->fd, .events = POLLIN};

	for (int i = 0; i < ROUNDS; i++) {
		client_expires(c);
		if (c->ng)
			client_writes(c);
		quic_server_turn(c->server);
		while (client_reads(c))
			;
		if (poll(&p, 1, 1) == 0 && i > 2)
			break;
	}
}

/* ---- beginning and end ---- */

static ngtcp2_conn *conn_of_ref(ngtcp2_crypto_conn_ref *ref)
{
	return ((struct quic_client *)ref->user_data)->ng;
}

static void bind_again(struct quic_client *c)
{
	socklen_t len = sizeof c->local;

	c->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_true(c->fd >= 0);
	assert_int_equal(connect(c->fd, (struct sockaddr *)&c->remote, sizeof c->remote), 0);
	assert_int_equal(getsockname(c->fd, (struct sockaddr *)&c->local, &len), 0);
}

void quic_client_init_at(struct quic_client *c, uint16_t port)
{
	memset(c, 0, sizeof *c);
	c->alpn = "h3";
	c->name = "a.example";
	c->version = NGTCP2_PROTO_VER_V1;
	c->remote = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
	inet_pton(AF_INET, "127.0.0.1", &c->remote.sin_addr);
	bind_again(c);
}

void quic_client_init(struct quic_client *c, struct quic_server *s)
{
	quic_client_init_at(c, s->port);
	c->server = s;
}

static void start_tls(struct quic_client *c)
{
	gnutls_datum_t alpn = {(uint8_t *)(uintptr_t)c->alpn, c->alpn ? (unsigned)strlen(c->alpn) : 0};

	assert_int_equal(gnutls_init(&c->tls, GNUTLS_CLIENT | GNUTLS_NO_END_OF_EARLY_DATA), 0);
	assert_int_equal(gnutls_priority_set_direct(c->tls, "%DISABLE_TLS13_COMPAT_MODE:NORMAL:-VERS-ALL:+VERS-TLS1.3", NULL), 0);
	assert_int_equal(ngtcp2_crypto_gnutls_configure_client_session(c->tls), 0);
	c->ref = (ngtcp2_crypto_conn_ref){conn_of_ref, c};
	gnutls_session_set_ptr(c->tls, &c->ref);
	assert_int_equal(gnutls_certificate_allocate_credentials(&c->credentials), 0);
	assert_int_equal(gnutls_credentials_set(c->tls, GNUTLS_CRD_CERTIFICATE, c->credentials), 0);
	if (c->doubtful)
		gnutls_session_set_verify_cert(c->tls, c->name, 0);
	gnutls_server_name_set(c->tls, GNUTLS_NAME_DNS, c->name, strlen(c->name));
	if (c->alpn)
		gnutls_alpn_set_protocols(c->tls, &alpn, 1, 0);
}

void quic_client_begin(struct quic_client *c)
{
	ngtcp2_cid dcid = {.datalen = 12}, scid = {.datalen = 8};
	ngtcp2_path path = path_of(c);
	ngtcp2_transport_params params;
	ngtcp2_settings settings;

	on_random(dcid.data, dcid.datalen, NULL);
	on_random(scid.data, scid.datalen, NULL);
	ngtcp2_settings_default(&settings);
	settings.initial_ts = quic_clock();
	settings.token = c->token_len ? c->token : NULL;
	settings.tokenlen = c->token_len;
	ngtcp2_transport_params_default(&params);
	params.initial_max_stream_data_bidi_local = 262144;
	params.initial_max_stream_data_uni = 262144;
	params.initial_max_data = 1048576;
	params.initial_max_streams_uni = 3;
	params.active_connection_id_limit = 8;
	params.max_idle_timeout = c->idle;
	assert_int_equal(ngtcp2_conn_client_new(&c->ng, &dcid, &scid, &path, c->version, &callbacks, &settings, &params, NULL, c),
			 0);
	start_tls(c);
	ngtcp2_conn_set_tls_native_handle(c->ng, c->tls);
}

void quic_client_free(struct quic_client *c)
{
	if (c->h3)
		nghttp3_conn_del(c->h3);
	if (c->ng)
		ngtcp2_conn_del(c->ng);
	if (c->tls)
		gnutls_deinit(c->tls);
	if (c->credentials)
		gnutls_certificate_free_credentials(c->credentials);
	close(c->fd);
	text_free(&c->seen);
}

static nghttp3_nv pair(const char *name, const char *value)
{
	return (nghttp3_nv){(uint8_t *)name, (uint8_t *)value, strlen(name), strlen(value), NGHTTP3_NV_FLAG_NONE};
}

int64_t quic_client_gets(struct quic_client *c, const char *path)
{
	nghttp3_nv nv[] = {pair(":method", "GET"), pair(":scheme", "https"), pair(":authority", c->name), pair(":path", path)};
	int64_t id;

	assert_int_equal(ngtcp2_conn_open_bidi_stream(c->ng, &id, NULL), 0);
	assert_int_equal(nghttp3_conn_submit_request(c->h3, id, nv, 4, NULL, NULL), 0);
	return id;
}

static nghttp3_ssize pull(nghttp3_conn *h3, int64_t id, nghttp3_vec *vec, size_t max, uint32_t *flags, void *ctx, void *user)
{
	const struct slice *body = user;

	(void)h3;
	(void)id;
	(void)max;
	(void)ctx;
	*flags = NGHTTP3_DATA_FLAG_EOF;
	vec[0] = (nghttp3_vec){(uint8_t *)(uintptr_t)body->at, body->len};
	return 1;
}

int64_t quic_client_posts(struct quic_client *c, const char *path, struct slice *body)
{
	nghttp3_nv nv[] = {pair(":method", "POST"), pair(":scheme", "https"), pair(":authority", c->name), pair(":path", path)};
	nghttp3_data_reader reader = {pull};
	int64_t id;

	assert_int_equal(ngtcp2_conn_open_bidi_stream(c->ng, &id, body), 0);
	assert_int_equal(nghttp3_conn_submit_request(c->h3, id, nv, 4, &reader, body), 0);
	return id;
}

/* A request whose packet has room for the frames; the request itself never arrives. */
void quic_client_plants(struct quic_client *c, const void *frames, size_t n)
{
	char path[1300];

	assert_true(n <= sizeof c->plant);
	memcpy(c->plant, frames, n);
	c->planted = n;
	memset(path, 'X', sizeof path - 1); /* which no code makes shorter */
	path[0] = '/';
	path[n < 1200 ? n + 40 : 1240] = 0;
	quic_client_gets(c, path);
}

void quic_client_moves(struct quic_client *c)
{
	ngtcp2_addr local = {(ngtcp2_sockaddr *)&c->local, sizeof c->local};

	close(c->fd);
	bind_again(c);
	ngtcp2_conn_set_local_addr(c->ng, &local);
}
