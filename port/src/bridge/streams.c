/* The bridge's way in: messages about streams are checked, and become operations. */
#include <stdio.h>

#include "bridge/parts.h"
#include "bridge/queue.h"
#include "bridge/work.h"
#include "frames/fields.h"
#include "stream/rules.h"

/* ---- what all of them need ---- */

/* The host is done with a stream that has ended. */
static void release(struct bridge *b, uint64_t id)
{
	struct stream *s = idmap_del(&b->owed, id);

	if (s)
		s->ops->release(s);
	bridge_work_released(b, id);
}

/* Who says one of these is done, though it has not heard yet that it was in vain. */
static bool is_last_word(uint32_t kind)
{
	return kind == MSG_RESPOND || kind == MSG_END || kind == MSG_ABORT;
}

/* A DATA that comes in parts is one message: it is dropped, or refused, with the last of them. */
static bool is_part_of_more(const struct message *m)
{
	return m->kind == MSG_DATA && m->left > 0;
}

/* The live stream that a message speaks of; NULL if it has ended, or there never was one (which is told). */
struct stream *bridge_find(struct bridge *b, const struct message *m)
{
	uint64_t id = m->stream;
	struct stream *s = idmap_get(&b->streams, id);

	if (s && !s->held) {
		if (is_last_word(m->kind))
			bridge_work_ends(b, s);
		return s;
	}
	if (is_part_of_more(m))
		return NULL;
	if (s || id == 0 || id > b->last_id)
		bridge_send_error(b, m, "stream", "was never given out", "ignored");
	else
		b->n.dropped++;
	if (!s && is_last_word(m->kind))
		release(b, id);
	return NULL;
}

static bool in_range(struct bridge *b, const struct message *m, const char *field, uint64_t value, uint64_t min, uint64_t max)
{
	char rule[64];

	if (value >= min && value <= max)
		return true;
	snprintf(rule, sizeof rule, "must be %llu to %llu", (unsigned long long)min, (unsigned long long)max);
	bridge_send_error(b, m, field, rule, "ignored");
	return false;
}

bool bridge_read_fields(struct bridge *b, struct stream *s, const struct message *m, const char *field, struct slice raw,
			unsigned *count)
{
	const char *rule = "is longer than 65536 bytes";

	*count = 0;
	if (!raw.at)
		return true;
	if (raw.len <= FIELDS_BYTES_MAX && fields_decode(raw, b->fields, sizeof b->fields / sizeof *b->fields, count, &rule))
		return true;
	bridge_break_rule(b, s, m, field, rule);
	return false;
}

/* The application's mistake: the host's developer is told in the log too. */
void bridge_refuse(struct bridge *b, struct stream *s, const struct message *m, const char *field, const char *rule)
{
	log_line(LOG_ERROR, "response refused: %s %s", field, rule);
	bridge_break_rule(b, s, m, field, rule);
}

void bridge_first_answer(struct bridge *b, struct stream *s, unsigned status)
{
	wheel_cancel(&b->loop->wheel, &s->timer);
	s->answered_us = b->loop->now_us;
	s->status = (uint16_t)status;
}

/* ---- credits ---- */

void bridge_take_demand(struct bridge *b, const struct message *m)
{
	if (!in_range(b, m, "count", m->demand.count, 1, UINT32_MAX))
		return;
	b->demand += m->demand.count;
	bridge_send_queued(b);
}

void bridge_take_read(struct bridge *b, const struct message *m)
{
	struct stream *s = bridge_find(b, m);

	if (!s || !in_range(b, m, "chunks", m->read.chunks, 1, UINT32_MAX) || !in_range(b, m, "max", m->read.max, 1, UINT32_MAX))
		return;
	if (s->request != REQUEST_OPEN && !s->ws)
		return; /* the end and this have crossed */
	s->chunks += m->read.chunks;
	b->n.read_credit += m->read.chunks;
	s->chunk = m->read.max < CHUNK_MAX ? m->read.max : CHUNK_MAX;
	if (s->ws)
		bridge_upgrade_credit(b, s);
	else
		s->ops->consume(s);
}

void bridge_take_discard(struct bridge *b, const struct message *m)
{
	struct stream *s = bridge_find(b, m);

	if (!s || s->request != REQUEST_OPEN || s->upgraded)
		return;
	stream_request_moves(s, REQUEST_SKIPPED);
	b->n.read_credit -= s->chunks;
	s->chunks = 0;
	s->ops->discard(s);
}

/* ---- responses ---- */

/* The head of a response, checked, and handed to the session. False: the stream has ended. */
static bool start_response(struct bridge *b, struct stream *s, const struct message *m, uint64_t status, struct slice headers,
			   int64_t length)
{
	struct response_head head = {.status = (unsigned)status, .fields = b->fields, .length = length};
	const char *rule;

	if (s->response != RESPONSE_WAITING) {
		bridge_break_rule(b, s, m, "message", "the response has begun already");
		return false;
	}
	if (status < 200 || status > 599) {
		bridge_refuse(b, s, m, "status", "must be 200 to 599");
		return false;
	}
	if (!bridge_read_fields(b, s, m, "headers", headers, &head.field_count))
		return false;
	s->bodiless = never_has_body(head.status, s->head_method);
	rule = response_check(&head, s->bodiless);
	if (rule) {
		bridge_refuse(b, s, m, "headers", rule);
		return false;
	}
	s->left = head.length;
	bridge_first_answer(b, s, head.status);
	stream_response_moves(s, RESPONSE_STREAMING);
	if (s->ops->send_head(s, &head))
		return true;
	bridge_no_memory(b, s);
	return false;
}

static bool fits_window(struct bridge *b, struct stream *s, const struct message *m)
{
	uint64_t size = m->data.data.len + m->left;

	if (size > s->window) {
		bridge_break_rule(b, s, m, "data", "is more than the window");
		return false;
	}
	if (!s->bodiless && s->left != LENGTH_UNKNOWN && size > (uint64_t)s->left) {
		bridge_refuse(b, s, m, "data", "is more than the length that was said");
		return false;
	}
	return true;
}

static bool send_body(struct bridge *b, struct stream *s, struct slice data)
{
	s->active = b->loop->now;
	s->window -= data.len;
	s->body_out += data.len;
	b->n.body_queued += data.len;
	if (!s->bodiless && s->left != LENGTH_UNKNOWN)
		s->left -= (int64_t)data.len;
	if (s->ops->send_data(s, data))
		return true;
	bridge_no_memory(b, s);
	return false;
}

static void finish_response(struct bridge *b, struct stream *s, unsigned trailers)
{
	stream_response_moves(s, RESPONSE_ENDED);
	if (!s->ops->send_end(s, b->fields, trailers))
		bridge_no_memory(b, s);
}

void bridge_take_respond(struct bridge *b, const struct message *m)
{
	struct stream *s = bridge_find(b, m);
	const struct msg_respond *r = &m->respond;
	size_t len = r->body.len;
	int64_t length;

	if (!s)
		return;
	/* without a body to send, only the host's content-length can tell its size */
	length = never_has_body((unsigned)r->status, s->head_method) && len == 0 ? LENGTH_UNKNOWN : (int64_t)len;
	if (s->response == RESPONSE_WAITING && len > s->window) {
		bridge_break_rule(b, s, m, "body", "is more than the window");
		return;
	}
	if (!start_response(b, s, m, r->status, r->headers, length))
		return;
	if (send_body(b, s, r->body))
		finish_response(b, s, 0);
}

void bridge_take_head(struct bridge *b, const struct message *m)
{
	struct stream *s = bridge_find(b, m);
	const struct msg_head *h = &m->head;

	if (!s)
		return;
	if (h->has_length && h->length > INT64_MAX) {
		bridge_refuse(b, s, m, "length", "is too large");
		return;
	}
	start_response(b, s, m, h->status, h->headers, h->has_length ? (int64_t)h->length : LENGTH_UNKNOWN);
}

void bridge_take_data(struct bridge *b, const struct message *m)
{
	struct stream *s = bridge_find(b, m);

	if (!s)
		return;
	if (s->response != RESPONSE_STREAMING)
		bridge_break_rule(b, s, m, "message", "the response has not begun, or has ended");
	else if (s->ws)
		bridge_break_rule(b, s, m, "message", "the stream is a WebSocket");
	else if (fits_window(b, s, m))
		send_body(b, s, m->data.data);
}

void bridge_take_end(struct bridge *b, const struct message *m)
{
	struct stream *s = bridge_find(b, m);
	const char *rule;
	unsigned count;

	if (!s || !bridge_read_fields(b, s, m, "trailers", m->end.trailers, &count))
		return;
	rule = trailers_check(b->fields, count);
	if (s->response != RESPONSE_STREAMING)
		bridge_break_rule(b, s, m, "message", "the response has not begun, or has ended");
	else if (s->ws)
		bridge_break_rule(b, s, m, "message", "the stream is a WebSocket");
	else if (!s->bodiless && s->left > 0)
		bridge_refuse(b, s, m, "message", "the body is shorter than the length that was said");
	else if (rule)
		bridge_refuse(b, s, m, "trailers", rule);
	else
		finish_response(b, s, count);
}

void bridge_take_inform(struct bridge *b, const struct message *m)
{
	struct stream *s = bridge_find(b, m);
	unsigned status = (unsigned)m->inform.status, count;
	const char *rule;

	if (!s || !in_range(b, m, "status", m->inform.status, 100, 199) ||
	    !bridge_read_fields(b, s, m, "headers", m->inform.headers, &count))
		return;
	rule = info_check(status, b->fields, count);
	if (s->response != RESPONSE_WAITING)
		bridge_break_rule(b, s, m, "message", "the response has begun already");
	else if (rule)
		bridge_refuse(b, s, m, "headers", rule);
	else if (!s->ops->send_info(s, status, b->fields, count))
		bridge_no_memory(b, s);
}

/* Visible ASCII that begins with a slash, without a fragment. */
static bool is_path(struct slice target)
{
	for (size_t i = 0; i < target.len; i++)
		if (target.at[i] <= 0x20 || target.at[i] >= 0x7f || target.at[i] == '#')
			return false;
	return target.len > 0 && target.at[0] == '/';
}

/* Only a client can say whether it takes pushes, and may have changed its mind: one that comes in vain is no mistake. */
void bridge_take_push(struct bridge *b, const struct message *m)
{
	struct stream *s = bridge_find(b, m);
	const char *rule;
	unsigned count;

	if (!s || !bridge_read_fields(b, s, m, "headers", m->push.headers, &count))
		return;
	rule = info_check(103, b->fields, count);
	if (!is_path(m->push.target))
		bridge_refuse(b, s, m, "target", "must be a path, and a query if there is one");
	else if (rule)
		bridge_refuse(b, s, m, "headers", rule);
	else if (s->response != RESPONSE_ENDED && s->ops->push && !s->ops->push(s, m->push.target, b->fields, count))
		bridge_no_memory(b, s);
}

void bridge_take_abort(struct bridge *b, const struct message *m)
{
	struct stream *s = bridge_find(b, m);

	if (!s || !in_range(b, m, "status", m->abort.status, 400, 599))
		return;
	if (s->response != RESPONSE_ENDED) /* who answered whole has not failed its client */
		bridge_end_stream(b, s, (unsigned)m->abort.status, END_ABORTED);
}

/* Said of every stream that was told to be gone: what does not wait for it needs it not. */
void bridge_take_release(struct bridge *b, const struct message *m)
{
	uint64_t id = m->stream;

	if (id == 0 || id > b->last_id)
		bridge_send_error(b, m, "stream", "was never given out", "ignored");
	else if (idmap_get(&b->streams, id))
		bridge_send_error(b, m, "stream", "has not ended", "ignored");
	else
		release(b, id);
}

void bridge_take_yield(struct bridge *b, const struct message *m)
{
	struct stream *s = bridge_find(b, m);

	if (s)
		bridge_work_yields(b, s);
}

void bridge_take_resume(struct bridge *b, const struct message *m)
{
	struct stream *s = bridge_find(b, m);

	if (s)
		bridge_work_resumes(b, s);
}
