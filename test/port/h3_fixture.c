/* SPDX-License-Identifier: Apache-2.0 */
#include "h3_fixture.h"

#include "base/list.h"
#include "proto/mux.h"

enum { PATH_FIELDS = 4, FIELDS_MAX = 300, ROUNDS = 8 };

/* A body in pieces, which are sent when nghttp3 asks for them, and freed at the end. */
struct body {
	char text[4096];
	size_t given, len;
	bool ended, trailers;
};

static struct body bodies[H3_LANES];

static struct h3_fixture *fixture_of(const struct session_owner *owner)
{
	return container_of(owner, struct h3_fixture, h1.owner);
}

static struct h3_lane *lane(struct h3_fixture *f, int64_t id)
{
	assert_true(id >= 0 && id < H3_LANES);
	return &f->lanes[id];
}

static const char *code_name(uint64_t code)
{
	static const char *const names[] = {
		"NO_ERROR",          "GENERAL_PROTOCOL_ERROR", "INTERNAL_ERROR",   "STREAM_CREATION_ERROR",
		"CLOSED_CRITICAL",   "FRAME_UNEXPECTED",       "FRAME_ERROR",      "EXCESSIVE_LOAD",
		"ID_ERROR",          "SETTINGS_ERROR",         "MISSING_SETTINGS", "REQUEST_REJECTED",
		"REQUEST_CANCELLED", "REQUEST_INCOMPLETE",     "MESSAGE_ERROR",    "CONNECT_ERROR"};

	return code >= 0x100 && code < 0x100 + sizeof names / sizeof *names ? names[code - 0x100] : "OTHER";
}

/* ---- the carrier ---- */

/* Both sides have ended: it is over. */
static void settle(struct h3_fixture *f, int64_t id)
{
	struct h3_lane *l = lane(f, id);

	if (l->gone || (id & 2) || !(l->client_ended || l->stopped) || !l->server_ended || l->unacked)
		return;
	l->gone = true;
	h3_gone(f->h3, id, NGHTTP3_H3_NO_ERROR);
	nghttp3_conn_close_stream(f->client, id, NGHTTP3_H3_NO_ERROR);
}

static void carrier_credit(struct session_owner *owner, int64_t id, uint64_t n)
{
	struct h3_lane *l = lane(fixture_of(owner), id);

	l->credit += n;
	assert_true(l->credit <= l->came); /* never more than it has sent */
}

static void carrier_credit_all(struct session_owner *owner, uint64_t n)
{
	fixture_of(owner)->credit_all += n;
}

static void carrier_more(struct session_owner *owner, bool uni, uint64_t n)
{
	fixture_of(owner)->streams += uni ? 0 : n;
}

static void carrier_reset(struct session_owner *owner, int64_t id, uint64_t code)
{
	struct h3_fixture *f = fixture_of(owner);

	text_add(&f->seen, "%d reset %s\n", (int)id, code_name(code));
	lane(f, id)->server_ended = true;
	lane(f, id)->unacked = 0;
}

static void carrier_stop(struct session_owner *owner, int64_t id, uint64_t code)
{
	struct h3_fixture *f = fixture_of(owner);

	text_add(&f->seen, "%d stop %s\n", (int)id, code_name(code));
	lane(f, id)->stopped = true;
}

static bool carrier_open(struct session_owner *owner, int64_t *id)
{
	struct h3_fixture *f = fixture_of(owner);

	*id = f->next_own;
	f->next_own += 4;
	return true;
}

static bool carrier_is_shut(const struct session_owner *owner, int64_t id)
{
	(void)owner;
	(void)id;
	return false;
}

static bool carrier_is_full(const struct session_owner *owner)
{
	return fixture_of(owner)->full;
}

static uint64_t carrier_round_trip(const struct session_owner *owner)
{
	(void)owner;
	return 100;
}

static const struct h3_carrier carrier = {
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

/* ---- what the client sees ---- */

static int on_field(nghttp3_conn *ng, int64_t id, int32_t token, nghttp3_rcbuf *name, nghttp3_rcbuf *value, uint8_t flags,
		    void *ctx, void *user)
{
	struct text *seen = &((struct h3_fixture *)ctx)->seen;
	nghttp3_vec n = nghttp3_rcbuf_get_buf(name), v = nghttp3_rcbuf_get_buf(value);

	(void)ng;
	(void)token;
	(void)flags;
	(void)user;
	if (n.len == 4 && memcmp(n.base, "date", 4) == 0)
		return 0;
	text_add(seen, "%d ", (int)id);
	text_add_quoted(seen, slice_of(n.base, n.len));
	text_add(seen, "=");
	text_add_quoted(seen, slice_of(v.base, v.len));
	text_add(seen, "\n");
	return 0;
}

static int on_data(nghttp3_conn *ng, int64_t id, const uint8_t *data, size_t len, void *ctx, void *user)
{
	struct text *seen = &((struct h3_fixture *)ctx)->seen;

	(void)ng;
	(void)user;
	text_add(seen, "%d ", (int)id);
	if (len <= 200)
		text_add_quoted(seen, slice_of(data, len));
	else
		text_add(seen, "%d bytes", (int)len);
	text_add(seen, "\n");
	return 0;
}

static int on_end(nghttp3_conn *ng, int64_t id, void *ctx, void *user)
{
	(void)ng;
	(void)user;
	text_add(&((struct h3_fixture *)ctx)->seen, "%d end\n", (int)id);
	return 0;
}

static int on_goaway(nghttp3_conn *ng, int64_t id, void *ctx)
{
	struct text *seen = &((struct h3_fixture *)ctx)->seen;

	(void)ng;
	if (id >= H3_LANES)
		text_add(seen, "goaway soon\n");
	else
		text_add(seen, "goaway %d\n", (int)id);
	return 0;
}

/* ---- beginning and end ---- */

static void start_client(struct h3_fixture *f)
{
	static const nghttp3_callbacks callbacks = {
		.recv_header = on_field,
		.recv_trailer = on_field,
		.recv_data = on_data,
		.end_stream = on_end,
		.shutdown = on_goaway,
	};
	nghttp3_settings settings;

	nghttp3_settings_default(&settings);
	settings.qpack_max_dtable_capacity = 4096;
	settings.qpack_blocked_streams = 100;
	assert_int_equal(nghttp3_conn_client_new(&f->client, &callbacks, &settings, NULL, f), 0);
	assert_int_equal(nghttp3_conn_bind_control_stream(f->client, h3_client_opens(f)), 0);
	assert_int_equal(nghttp3_conn_bind_qpack_streams(f->client, 6, 10), 0);
	f->next_uni = 14;
}

void h3_fixture_start(struct h3_fixture *f, void (*options)(struct config *config))
{
	memset(f, 0, sizeof *f);
	memset(bodies, 0, sizeof bodies);
	fixture_start(&f->h1);
	f->h1.config.h3_max_streams = 2; /* with the first, half of them are used */
	if (options)
		options(&f->h1.config);
	f->next_uni = 2;
	f->next_own = 3;
	f->h3 = h3_start(&f->h1.owner, &carrier);
	assert_non_null(f->h3);
	start_client(f);
}

void h3_fixture_end(struct h3_fixture *f)
{
	struct session_env *env = &f->h1.env;

	h3_close(f->h3, END_CLOSED);
	nghttp3_conn_del(f->client);
	text_free(&f->seen);
	fixture_end(&f->h1);
	mux_env_free(env);
}

/* ---- what the client says ---- */

static size_t split(const char *text, nghttp3_nv *nv)
{
	size_t count = 0;

	while (text && *text) {
		size_t name = strcspn(text, ":"), end = strcspn(text, "\n");
		nv[count++] = (nghttp3_nv){(uint8_t *)text, (uint8_t *)text + name + 2, name, end - name - 2, NGHTTP3_NV_FLAG_NONE};
		text += end + (text[end] == '\n');
	}
	return count;
}

static nghttp3_nv pair(const char *name, const char *value)
{
	return (nghttp3_nv){(uint8_t *)name, (uint8_t *)value, strlen(name), strlen(value), NGHTTP3_NV_FLAG_NONE};
}

static nghttp3_ssize read_body(nghttp3_conn *ng, int64_t id, nghttp3_vec *vec, size_t max, uint32_t *flags, void *ctx, void *user)
{
	struct body *body = &bodies[id];

	(void)ng;
	(void)max;
	(void)ctx;
	(void)user;
	if (body->given == body->len && !body->ended)
		return NGHTTP3_ERR_WOULDBLOCK;
	vec[0] = (nghttp3_vec){(uint8_t *)body->text + body->given, body->len - body->given};
	body->given = body->len;
	if (body->ended)
		*flags |= NGHTTP3_DATA_FLAG_EOF;
	if (body->trailers)
		*flags |= NGHTTP3_DATA_FLAG_NO_END_STREAM;
	return vec[0].len > 0;
}

static void add_to_body(int64_t id, const char *data, bool end)
{
	struct body *b = &bodies[id];

	assert_true(b->len + strlen(data) < sizeof b->text);
	memcpy(b->text + b->len, data, strlen(data));
	b->len += strlen(data);
	b->ended = end;
}

static int64_t ask(struct h3_fixture *f, nghttp3_nv *nv, size_t count, const char *body)
{
	static const nghttp3_data_reader reader = {read_body};
	int64_t id = f->next;

	f->next += 4;
	if (body && *body)
		add_to_body(id, body, true);
	assert_int_equal(nghttp3_conn_submit_request(f->client, id, nv, count, body ? &reader : NULL, NULL), 0);
	return id;
}

int64_t h3_client_asks(struct h3_fixture *f, const char *method, const char *path, const char *fields, const char *body)
{
	static nghttp3_nv nv[FIELDS_MAX];
	size_t count = PATH_FIELDS + split(fields, nv + PATH_FIELDS);

	nv[0] = pair(":method", method);
	nv[1] = pair(":scheme", "https");
	nv[2] = pair(":path", path);
	nv[3] = pair(":authority", "h");
	return ask(f, nv, count, body);
}

int64_t h3_client_connects(struct h3_fixture *f, const char *protocol, const char *path)
{
	nghttp3_nv nv[] = {pair(":method", "CONNECT"), pair(":authority", "h:1"), pair(":protocol", protocol ? protocol : ""),
			   pair(":scheme", "https"), pair(":path", path ? path : "")};

	return ask(f, nv, protocol ? 5 : 2, "");
}

void h3_client_body(struct h3_fixture *f, int64_t id, const char *data, bool end)
{
	add_to_body(id, data, end);
	nghttp3_conn_resume_stream(f->client, id);
}

void h3_client_trailers(struct h3_fixture *f, int64_t id, const char *fields)
{
	nghttp3_nv nv[8];

	bodies[id].ended = bodies[id].trailers = true;
	nghttp3_conn_resume_stream(f->client, id);
	h3_talk(f);
	assert_int_equal(nghttp3_conn_submit_trailers(f->client, id, nv, split(fields, nv)), 0);
}

void h3_client_resets(struct h3_fixture *f, int64_t id)
{
	h3_talk(f);
	nghttp3_conn_shutdown_stream_write(f->client, id);
	lane(f, id)->client_ended = true;
	h3_reset(f->h3, id);
}

void h3_client_stops(struct h3_fixture *f, int64_t id)
{
	h3_talk(f);
	lane(f, id)->server_ended = true;
	lane(f, id)->unacked = 0;
	lane(f, id)->unwanted = true;
}

int64_t h3_client_opens(struct h3_fixture *f)
{
	int64_t id = f->next_uni;

	f->next_uni += 4;
	return id;
}

/* In an allocation of its own, so that reading beyond it is detected. */
void h3_client_sends(struct h3_fixture *f, int64_t id, const void *bytes, size_t n, bool end)
{
	uint8_t *copy = exact_copy(bytes, n);
	struct h3_lane *l = lane(f, id);

	if (!l->stopped) {
		l->came += n;
		l->client_ended = l->client_ended || end;
		h3_receive(f->h3, id, copy, n, end);
	}
	free(copy);
}

/* ---- over the wire ---- */

static void client_to_server(struct h3_fixture *f)
{
	for (;;) {
		struct buf bytes = {0};
		nghttp3_vec vec[8];
		int64_t id;
		int fin;
		nghttp3_ssize count = nghttp3_conn_writev_stream(f->client, &id, &fin, vec, 8);

		assert_true(count >= 0);
		if (id < 0)
			return;
		for (int i = 0; i < (int)count; i++)
			buf_append(&bytes, vec[i].base, vec[i].len);
		nghttp3_conn_add_write_offset(f->client, id, buf_len(&bytes));
		nghttp3_conn_add_ack_offset(f->client, id, buf_len(&bytes));
		h3_client_sends(f, id, buf_at(&bytes), buf_len(&bytes), fin);
		buf_free(&bytes);
	}
}

void h3_client_acknowledges(struct h3_fixture *f)
{
	for (int64_t id = 0; id < H3_LANES; id++) {
		uint64_t n = f->lanes[id].unacked;
		f->lanes[id].unacked = 0;
		if (n)
			h3_acked(f->h3, id, n);
		settle(f, id);
	}
}

static void server_to_client(struct h3_fixture *f)
{
	h3_deliver(f->h3);
	while (!f->full) {
		struct iovec iov[8];
		int64_t id;
		bool end;
		size_t n = 0;
		int count = h3_output(f->h3, &id, &end, iov, 8);

		if (id < 0)
			break;
		if (lane(f, id)->unwanted) {
			h3_shut(f->h3, id);
			continue;
		}
		for (int i = 0; i < count; i++) {
			bool last = end && i == count - 1;
			assert_true(nghttp3_conn_read_stream(f->client, id, iov[i].iov_base, iov[i].iov_len, last) >= 0);
			n += iov[i].iov_len;
		}
		if (count == 0)
			assert_true(nghttp3_conn_read_stream(f->client, id, NULL, 0, end) >= 0);
		lane(f, id)->unacked += n;
		h3_written(f->h3, id, n, end);
		lane(f, id)->server_ended = lane(f, id)->server_ended || end;
		if (!f->deaf)
			h3_client_acknowledges(f);
	}
	for (int64_t id = 0; id < H3_LANES; id += 4)
		settle(f, id);
	h3_deliver(f->h3);
}

void h3_talk(struct h3_fixture *f)
{
	for (int i = 0; i < ROUNDS; i++) {
		client_to_server(f);
		server_to_client(f);
	}
	if (h3_wants(f->h3).close == CLOSE_NOT || f->closed)
		return;
	f->closed = true;
	text_add(&f->seen, "close %s\n", code_name(h3_code(f->h3)));
}

void h3_pass_time(struct h3_fixture *f, uint64_t ms)
{
	f->h1.now += ms;
	f->h1.now_us = f->h1.now * 1000;
	while (h3_wants(f->h3).deadline && f->h1.now >= h3_wants(f->h3).deadline) {
		uint64_t before = h3_wants(f->h3).deadline;
		h3_tick(f->h3);
		h3_deliver(f->h3);
		if (h3_wants(f->h3).deadline == before)
			break;
	}
}
