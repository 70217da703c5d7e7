/* SPDX-License-Identifier: Apache-2.0 */
#include "h2_fixture.h"

#include "proto/h2.h"
#include "proto/mux.h"

enum { PATH_FIELDS = 4, FIELDS_MAX = 32 };

/* A body in pieces, which are sent when nghttp2 asks for them. */
struct body {
	char text[256];
	bool ended;
};

static struct body bodies[FIXTURE_STREAMS * 2];

static struct h2_fixture *fixture_of(void *ctx)
{
	return ctx;
}

/* ---- what the client receives ---- */

static int on_header(nghttp2_session *ng, const nghttp2_frame *frame, const uint8_t *name, size_t name_len, const uint8_t *value,
		     size_t value_len, uint8_t flags, void *ctx)
{
	struct text *seen = &fixture_of(ctx)->seen;

	(void)ng;
	(void)flags;
	if (name_len == 4 && memcmp(name, "date", 4) == 0)
		return 0;
	text_add(seen, "%d ", frame->hd.stream_id);
	text_add_quoted(seen, slice_of(name, name_len));
	text_add(seen, "=");
	text_add_quoted(seen, slice_of(value, value_len));
	text_add(seen, "\n");
	return 0;
}

static int on_data(nghttp2_session *ng, uint8_t flags, int32_t id, const uint8_t *data, size_t len, void *ctx)
{
	struct text *seen = &fixture_of(ctx)->seen;

	(void)ng;
	(void)flags;
	text_add(seen, "%d ", id);
	text_add_quoted(seen, slice_of(data, len));
	text_add(seen, "\n");
	return 0;
}

static int on_frame(nghttp2_session *ng, const nghttp2_frame *frame, void *ctx)
{
	struct text *seen = &fixture_of(ctx)->seen;

	(void)ng;
	if (frame->hd.type == NGHTTP2_RST_STREAM)
		text_add(seen, "%d reset %s\n", frame->hd.stream_id, nghttp2_http2_strerror(frame->rst_stream.error_code));
	else if (frame->hd.type == NGHTTP2_GOAWAY)
		text_add(seen, "goaway %d %s\n", frame->goaway.last_stream_id, nghttp2_http2_strerror(frame->goaway.error_code));
	else if (frame->hd.type <= NGHTTP2_HEADERS && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
		text_add(seen, "%d end\n", frame->hd.stream_id);
	return 0;
}

/* ---- beginning and end ---- */

void h2_fixture_start(struct h2_fixture *f, void (*options)(struct config *config))
{
	nghttp2_session_callbacks *callbacks;

	memset(f, 0, sizeof *f);
	memset(bodies, 0, sizeof bodies);
	fixture_start(&f->h1);
	if (options)
		options(&f->h1.config);
	f->h1.session->ops->close(f->h1.session, END_CLOSED);
	f->h1.session = h2_start(&f->h1.owner);
	assert_non_null(f->h1.session);
	assert_int_equal(nghttp2_session_callbacks_new(&callbacks), 0);
	nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
	nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
	assert_int_equal(nghttp2_session_client_new(&f->client, callbacks, f), 0);
	nghttp2_session_callbacks_del(callbacks);
	nghttp2_submit_settings(f->client, NGHTTP2_FLAG_NONE, NULL, 0);
}

void h2_fixture_end(struct h2_fixture *f)
{
	struct session_env *env = &f->h1.env;

	nghttp2_session_del(f->client);
	text_free(&f->seen);
	buf_free(&f->sent);
	fixture_end(&f->h1);
	h2_env_free(env);
	mux_env_free(env);
}

/* ---- what the client says ---- */

static size_t split(const char *text, nghttp2_nv *nv)
{
	size_t count = 0;

	while (text && *text) {
		size_t name = strcspn(text, ":"), end = strcspn(text, "\n");
		nv[count++] = (nghttp2_nv){(uint8_t *)text, (uint8_t *)text + name + 2, name, end - name - 2, NGHTTP2_NV_FLAG_NONE};
		text += end + (text[end] == '\n');
	}
	return count;
}

static nghttp2_nv pair(const char *name, const char *value)
{
	return (nghttp2_nv){(uint8_t *)name, (uint8_t *)value, strlen(name), strlen(value), NGHTTP2_NV_FLAG_NONE};
}

static ssize_t read_body(nghttp2_session *ng, int32_t id, uint8_t *at, size_t len, uint32_t *flags, nghttp2_data_source *source,
			 void *ctx)
{
	struct body *body = source->ptr;
	size_t n = strlen(body->text);

	(void)ng;
	(void)id;
	(void)ctx;
	if (n == 0 && !body->ended)
		return NGHTTP2_ERR_DEFERRED;
	assert_true(n <= len);
	memcpy(at, body->text, n);
	body->text[0] = 0;
	if (body->ended)
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	return (ssize_t)n;
}

int32_t client_asks(struct h2_fixture *f, const char *method, const char *path, const char *fields, const char *body)
{
	nghttp2_nv nv[FIELDS_MAX] = {pair(":method", method), pair(":scheme", "http"), pair(":path", path),
				     pair(":authority", "h")};
	size_t count = PATH_FIELDS + split(fields, nv + PATH_FIELDS);
	struct body *b = &bodies[nghttp2_session_get_next_stream_id(f->client)];
	nghttp2_data_provider provider = {{.ptr = b}, read_body};

	if (body && *body) {
		snprintf(b->text, sizeof b->text, "%s", body);
		b->ended = true;
	}
	return nghttp2_submit_request(f->client, NULL, nv, count, body ? &provider : NULL, NULL);
}

int32_t client_connects(struct h2_fixture *f, const char *protocol, const char *path)
{
	nghttp2_nv nv[] = {pair(":method", "CONNECT"), pair(":authority", "h:1"), pair(":protocol", protocol ? protocol : ""),
			   pair(":scheme", "http"), pair(":path", path ? path : "")};
	struct body *b = &bodies[nghttp2_session_get_next_stream_id(f->client)];
	nghttp2_data_provider provider = {{.ptr = b}, read_body};

	return nghttp2_submit_request(f->client, NULL, nv, protocol ? 5 : 2, &provider, NULL);
}

void client_body(struct h2_fixture *f, int32_t id, const char *data, bool end)
{
	snprintf(bodies[id].text, sizeof bodies[id].text, "%s", data);
	bodies[id].ended = end;
	nghttp2_session_resume_data(f->client, id);
}

void client_trailers(struct h2_fixture *f, int32_t id, const char *fields)
{
	nghttp2_nv nv[FIELDS_MAX];

	assert_int_equal(nghttp2_submit_trailer(f->client, id, nv, split(fields, nv)), 0);
}

void client_resets(struct h2_fixture *f, int32_t id)
{
	nghttp2_submit_rst_stream(f->client, NGHTTP2_FLAG_NONE, id, NGHTTP2_CANCEL);
}

/* ---- over the wire ---- */

void client_to_server(struct h2_fixture *f)
{
	const uint8_t *bytes;
	ssize_t n;

	while (!f->deaf && (n = nghttp2_session_mem_send(f->client, &bytes)) > 0) {
		buf_append(&f->sent, bytes, (size_t)n);
		client_sends_bytes(&f->h1, bytes, (size_t)n);
	}
}

void server_to_client(struct h2_fixture *f)
{
	struct buf *wire = &f->h1.wire.buf;

	f->h1.session->ops->deliver(f->h1.session);
	socket_takes(&f->h1, SIZE_MAX);
	if (buf_len(wire))
		assert_int_equal(nghttp2_session_mem_recv(f->client, buf_at(wire), buf_len(wire)), buf_len(wire));
	text_clear(&f->h1.wire);
}

void talk(struct h2_fixture *f)
{
	for (int i = 0; i < 4; i++) {
		client_to_server(f);
		server_to_client(f);
	}
}
