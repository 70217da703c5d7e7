/* SPDX-License-Identifier: Apache-2.0 */
#include "h1_fixture.h"

#include "channel_fixture.h"

#include "frames/names.h"
#include "proto/h1.h"
#include "stream/rules.h"

/* ---- the sink ---- */

static struct fixture_stream *known(const struct stream *s)
{
	return s->sink_data;
}

static unsigned number_of(struct h1_fixture *f, const struct stream *s)
{
	unsigned id = known(s)->id;

	assert_true(id >= 1 && id <= f->count && f->streams[id] == s);
	return id;
}

/* Sets how much of the granted credit remains. */
static void set_chunks(struct stream *s, uint64_t chunks)
{
	known(s)->chunks = chunks;
	s->wanted = chunks ? known(s)->chunk : 0;
}

static void add_event(struct h1_fixture *f, const char *what, unsigned id)
{
	f->last_body = 0;
	text_add(&f->events, "%s %u", what, id);
}

static void add_fields(struct h1_fixture *f, const struct field *fields, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		text_add(&f->events, " ");
		text_add_quoted(&f->events, fields[i].name);
		text_add(&f->events, "=");
		text_add_quoted(&f->events, fields[i].value);
	}
	text_add(&f->events, "\n");
}

static void on_request(void *ctx, struct stream *s, const struct request_head *head)
{
	struct h1_fixture *f = ctx;

	assert_true(++f->count < FIXTURE_STREAMS);
	f->known[f->count] = (struct fixture_stream){.id = f->count};
	s->sink_data = &f->known[f->count];
	f->streams[f->count] = s;
	add_event(f, "request", f->count);
	text_add(&f->events, " ");
	text_add_quoted(&f->events, head->method);
	text_add(&f->events, " ");
	text_add_quoted(&f->events, head->path);
	if (head->body != BODY_NONE)
		text_add(&f->events, " body=%lld", (long long)head->body);
	text_add(&f->events, "\n");
	if (f->auto_read && head->body != BODY_NONE)
		host_reads(f, f->count, 1000, 65000);
}

static void on_body(void *ctx, struct stream *s, struct slice data)
{
	struct h1_fixture *f = ctx;
	unsigned id = number_of(f, s);

	assert_true(data.len > 0 && data.len <= stream_wanted(s));
	set_chunks(s, known(s)->chunks - 1);
	if (f->last_body == (int)id && buf_len(&f->events.buf))
		f->events.buf.data[--f->events.buf.tail] = 0; /* its line break */
	else
		text_add(&f->events, "body %u ", id);
	text_add_quoted(&f->events, data);
	text_add(&f->events, "\n");
	f->last_body = (int)id;
}

/* For a tunnel: one chunk at a time. */
static size_t on_bytes(void *ctx, struct stream *s, struct slice bytes)
{
	size_t n = bytes.len < stream_wanted(s) ? bytes.len : (size_t)stream_wanted(s);

	assert_true(s->upgraded);
	on_body(ctx, s, slice_of(bytes.at, n));
	return n;
}

static void on_end(void *ctx, struct stream *s, const struct field *trailers, unsigned count)
{
	struct h1_fixture *f = ctx;

	add_event(f, "end", number_of(f, s));
	set_chunks(s, 0);
	add_fields(f, trailers, count);
}

static void on_room(void *ctx, struct stream *s, uint64_t bytes)
{
	struct h1_fixture *f = ctx;

	number_of(f, s);
	known(s)->room += bytes;
	known(s)->spent += s->allowance == 0;
	assert_true(known(s)->room <= known(s)->body_out);
}

static void on_hangup(void *ctx, struct stream *s)
{
	struct h1_fixture *f = ctx;

	add_event(f, "hangup", number_of(f, s));
	text_add(&f->events, "\n");
}

static void on_done(void *ctx, struct stream *s)
{
	struct h1_fixture *f = ctx;

	add_event(f, "done", number_of(f, s));
	text_add(&f->events, "\n");
	assert_int_equal(known(s)->room, known(s)->body_out); /* everything that was written has been reported */
	f->streams[known(s)->id] = NULL;
}

static void on_reset(void *ctx, struct stream *s, enum stream_end why)
{
	struct h1_fixture *f = ctx;

	add_event(f, "reset", number_of(f, s));
	text_add(&f->events, " %s\n", stream_end_name(why));
	f->streams[known(s)->id] = NULL;
	f->owed[known(s)->id] = s->owed ? s : NULL;
}

static void on_lapse(void *ctx, struct stream *s)
{
	struct h1_fixture *f = ctx;

	assert_true(s->owed && f->owed[known(s)->id] == s);
	add_event(f, "lapse", known(s)->id);
	text_add(&f->events, "\n");
	f->owed[known(s)->id] = NULL;
}

static void on_kept(void *ctx, const struct peer *peer, int64_t bytes)
{
	struct h1_fixture *f = ctx;

	(void)peer;
	f->kept += bytes;
	assert_true(f->kept >= 0);
}

/* ---- the session ---- */

static void on_wake(struct session_owner *owner)
{
	(void)owner;
}

void fixture_start(struct h1_fixture *f)
{
	memset(f, 0, sizeof *f);
	config_defaults(&f->config);
	f->config.server[0] = 0;
	f->sink = (struct stream_sink){.ctx = f,
				       .on_request = on_request,
				       .on_body = on_body,
				       .on_bytes = on_bytes,
				       .on_end = on_end,
				       .on_room = on_room,
				       .on_hangup = on_hangup,
				       .on_done = on_done,
				       .on_lapse = on_lapse,
				       .on_kept = on_kept,
				       .on_reset = on_reset};
	f->now = 1000000;
	f->now_us = f->now * 1000;
	f->env.config = &f->config;
	f->env.sink = &f->sink;
	f->env.now = &f->now;
	f->env.now_us = &f->now_us;
	memcpy(f->env.date, "Thu, 01 Jan 1970 00:00:00 GMT", DATE_LEN);
	f->owner = (struct session_owner){.env = &f->env, .wake = on_wake};
	f->session = h1_start(&f->owner);
	assert_non_null(f->session);
}

void fixture_end(struct h1_fixture *f)
{
	if (f->session)
		f->session->ops->close(f->session, END_CLOSED);
	for (unsigned i = 1; i <= f->count; i++)
		assert_null(f->streams[i]); /* each request ended exactly once */
	assert_int_equal(f->kept, 0);
	h1_env_free(&f->env);
	buf_free(&f->tail);
	text_free(&f->events);
	text_free(&f->wire);
}

/* ---- the client ---- */

void offer_again(struct h1_fixture *f)
{
	size_t n = buf_len(&f->tail);
	uint8_t *copy = exact_copy(buf_at(&f->tail), n);
	size_t used = f->session->ops->input(f->session, copy, n, f->eof);

	assert_true(used <= n);
	buf_free(&f->tail);
	buf_append(&f->tail, copy + used, n - used);
	free(copy);
}

void client_sends_bytes(struct h1_fixture *f, const void *bytes, size_t n)
{
	buf_append(&f->tail, bytes, n);
	offer_again(f);
}

void client_sends(struct h1_fixture *f, const char *text)
{
	if (!text)
		f->eof = true;
	client_sends_bytes(f, text, text ? strlen(text) : 0);
}

static size_t take_some(struct h1_fixture *f, size_t most)
{
	struct iovec iov[8];
	int count = f->session->ops->output(f->session, iov, 8);
	size_t taken = 0;

	for (int i = 0; i < count && taken < most; i++) {
		size_t n = iov[i].iov_len < most - taken ? iov[i].iov_len : most - taken;
		text_add_bytes(&f->wire, iov[i].iov_base, n);
		taken += n;
	}
	if (taken)
		f->session->ops->sent(f->session, taken);
	return taken;
}

void socket_takes(struct h1_fixture *f, size_t n)
{
	while (n > 0) {
		size_t taken = take_some(f, n);
		if (taken == 0)
			return;
		n -= taken;
	}
}

/* As conn does: after a write the unused bytes are offered again, and what they cause is written too. */
void socket_takes_all(struct h1_fixture *f)
{
	size_t before;

	do {
		bool read = wants(f).read;
		before = buf_len(&f->tail);
		socket_takes(f, SIZE_MAX);
		if (wants(f).read && !read && before)
			offer_again(f);
	} while (buf_len(&f->tail) < before);
	assert_false(wants(f).write && wants(f).close == CLOSE_NOT);
}

struct session_wants wants(struct h1_fixture *f)
{
	return f->session->ops->wants(f->session);
}

void pass_time(struct h1_fixture *f, uint64_t ms)
{
	f->now += ms;
	f->now_us = f->now * 1000;
	if (wants(f).deadline && f->now >= wants(f).deadline)
		f->session->ops->tick(f->session);
}

void expect_deadline_at(struct h1_fixture *f, uint64_t ms, const char *file, int line)
{
	uint64_t deadline = wants(f).deadline;

	_assert_int_equal(deadline ? deadline - f->now : 0, ms, file, line);
	if (ms == 0)
		return;
	pass_time(f, ms - 1);
	_assert_int_equal(wants(f).deadline, deadline, file, line);
	pass_time(f, 1);
}

/* ---- the host ---- */

struct stream *stream_at(struct h1_fixture *f, unsigned id)
{
	assert_true(id >= 1 && id <= f->count);
	assert_non_null(f->streams[id]);
	return f->streams[id];
}

static unsigned split_fields(const char *text, struct field *fields)
{
	unsigned count = 0;

	while (text && *text) {
		size_t name = strcspn(text, ":"), value = strcspn(text, "\n");
		char lower[64];
		assert_true(name < sizeof lower && name + 2 <= value);
		for (size_t i = 0; i < name; i++)
			lower[i] = (char)(text[i] >= 'A' && text[i] <= 'Z' ? text[i] + 32 : text[i]);
		fields[count++] = (struct field){
			slice_of(text, name),
			slice_of(text + name + 2, value - name - 2),
			name_find(slice_of(lower, name)),
		};
		text += value + (text[value] == '\n');
	}
	return count;
}

void host_head(struct h1_fixture *f, unsigned id, unsigned status, const char *fields, int64_t length)
{
	struct stream *s = stream_at(f, id);
	struct field list[16];
	struct response_head head = {.status = status, .fields = list, .field_count = split_fields(fields, list), .length = length};

	s->bodiless = never_has_body(status, s->head_method);
	assert_null(response_check(&head, s->bodiless, NULL));
	stream_response_moves(s, RESPONSE_STREAMING);
	assert_true(s->ops->send_head(s, &head));
	if (!s->bodiless)
		return;
	stream_response_moves(s, RESPONSE_ENDED); /* it is whole */
	assert_true(s->ops->send_end(s, NULL, 0));
}

void host_upgrades(struct h1_fixture *f, unsigned id, const char *protocol)
{
	struct stream *s = stream_at(f, id);

	s->upgraded = true;
	stream_response_moves(s, RESPONSE_STREAMING);
	assert_true(s->ops->upgrade(s, slice_str(protocol), NULL, 0));
}

void host_releases(struct h1_fixture *f, unsigned id)
{
	struct stream *s = f->owed[id];

	assert_non_null(s);
	f->owed[id] = NULL;
	s->ops->release(s);
}

void host_data(struct h1_fixture *f, unsigned id, const char *data)
{
	struct stream *s = stream_at(f, id);

	if (s->bodiless)
		return;
	known(s)->body_out += strlen(data);
	assert_true(s->ops->send_data(s, slice_str(data)));
}

void host_file(struct h1_fixture *f, unsigned id, const char *text, uint64_t offset, size_t n)
{
	struct file *file = file_new(file_with(text, strlen(text)));

	assert_non_null(file);
	known(stream_at(f, id))->body_out += FILE_COST;
	assert_true(stream_at(f, id)->ops->send_file(stream_at(f, id), file, offset, n));
	file_give(file);
}

void host_end(struct h1_fixture *f, unsigned id, const char *trailers)
{
	struct stream *s = stream_at(f, id);
	struct field list[16];
	unsigned count = split_fields(trailers, list);

	if (s->bodiless)
		return;
	stream_response_moves(s, RESPONSE_ENDED);
	assert_true(s->ops->send_end(s, list, count));
}

void host_responds(struct h1_fixture *f, unsigned id, unsigned status, const char *body)
{
	host_head(f, id, status, NULL, (int64_t)strlen(body));
	host_data(f, id, body);
	host_end(f, id, NULL);
}

void host_informs(struct h1_fixture *f, unsigned id, unsigned status, const char *fields)
{
	struct field list[16];
	unsigned count = split_fields(fields, list);

	assert_true(stream_at(f, id)->ops->send_info(stream_at(f, id), status, list, count));
}

void host_reads(struct h1_fixture *f, unsigned id, unsigned chunks, unsigned max)
{
	struct stream *s = stream_at(f, id);

	known(s)->chunk = max;
	set_chunks(s, known(s)->chunks + chunks);
	s->ops->consume(s);
}

void host_discards(struct h1_fixture *f, unsigned id)
{
	struct stream *s = stream_at(f, id);

	stream_request_moves(s, REQUEST_SKIPPED);
	set_chunks(s, 0);
	s->ops->discard(s);
}

void host_resets(struct h1_fixture *f, unsigned id, unsigned status, unsigned retry_after)
{
	struct stream *s = stream_at(f, id);

	stream_detach(s);
	f->streams[id] = NULL;
	s->ops->reset(s, status, retry_after);
}
