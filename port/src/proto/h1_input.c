/* SPDX-License-Identifier: Apache-2.0 */
/* The reading half of an HTTP/1 session: bytes become requests, bodies, and refusals. */
#include <stdlib.h>

#include "frames/names.h"
#include "proto/h1_line.h"
#include "proto/h1_session.h"

/* ---- the parser lives only while something is read ---- */

static struct h1_parse *take_parse(struct h1 *h1)
{
	struct session_env *env = h1_env_of(h1);
	struct h1_parse *p = env->spare_parse ? env->spare_parse : malloc(sizeof *p);

	env->spare_parse = NULL;
	if (!p)
		return NULL;
	h1_parse_init(p, env->config);
	p->began_us = *env->now_us;
	return p;
}

/* ---- refusing ---- */

/* Refuses a head: the response takes its place in the order of responses, as a stream that the sink never sees. */
void h1_refuse(struct h1 *h1, const uint8_t *head)
{
	bool no_body = head && h1->parse->line_len > 5 && memcmp(head, "HEAD ", 5) == 0;
	struct h1_error error = {.status = h1->parse->status, .no_body = no_body, .close = true};
	struct h1_stream *x = h1_stream_new(h1);

	h1_env_of(h1)->rejected++;
	h1_stop(h1, x ? CLOSE_LINGER : CLOSE_CUT);
	if (!x)
		return;
	stream_detach(&x->s);
	h1_answer(x, &error);
}

/* The body of the request being read is malformed, too long or too slow. */
void h1_refuse_body(struct h1 *h1, unsigned status, enum stream_end why)
{
	struct h1_stream *x = h1->reading;
	struct h1_error error = {.status = status, .close = true, .no_body = x && x->s.head_method};

	h1_env_of(h1)->rejected++;
	h1_stop(h1, CLOSE_LINGER);
	if (!x)
		return;
	h1_stream_ends(x, why);
	if (x->s.response == RESPONSE_WAITING)
		h1_answer(x, &error);
	else
		x->cut = x->s.response != RESPONSE_ENDED;
}

/* ---- heads ---- */

static bool is_safe(const struct request_head *head)
{
	int m = head->method_index;

	return (m == METHOD_GET || m == METHOD_HEAD || m == METHOD_OPTIONS || m == METHOD_TRACE) && head->body == BODY_NONE &&
	       !(head->flags & REQUEST_MAY_UPGRADE);
}

/* Only safe requests may be handled concurrently on one connection (RFC 9112 9.3.2). */
static bool must_wait(const struct h1 *h1, const struct request_head *head)
{
	return h1->open > 0 && (h1->unsafe || !is_safe(head));
}

static void note_request(struct h1_stream *x, const struct request_head *head, const struct h1_facts *facts)
{
	struct h1 *h1 = x->h1;
	uint64_t most = h1_config(h1)->max_requests;

	h1->requests++;
	h1->unsafe = !is_safe(head);
	x->http10 = head->version == 10;
	x->keep_alive = x->http10 && facts->keep_alive;
	x->connects = head->method_index == METHOD_CONNECT;
	x->close = h1_env_of(h1)->draining || facts->close || (x->http10 && !facts->keep_alive) || (most && h1->requests >= most);
	x->close = x->close || x->connects; /* the bytes behind it may belong to the tunnel that is refused: RFC 9931 8 */
	x->expects = head->flags & REQUEST_EXPECTS_CONTINUE;
	x->takes_trailers = head->flags & REQUEST_TAKES_TRAILERS;
	x->s.head_method = head->method_index == METHOD_HEAD;
	h1->holds = head->flags & REQUEST_MAY_UPGRADE;
	h1->last = h1->last || x->close;
}

/* The body, if it lies after the head. A chunked body would need a parser to find its end. */
static struct slice whole_body(const struct h1 *h1, const struct request_head *head, struct slice behind)
{
	if (head->body <= 0 || (uint64_t)head->body > h1_config(h1)->inline_body || (uint64_t)head->body > behind.len)
		return (struct slice){0};
	return slice_of(behind.at, (size_t)head->body);
}

/* The body was sent along with its request. */
static void body_taken(struct h1 *h1, size_t n)
{
	struct h1_stream *x = h1->reading;

	x->s.body_in = n;
	x->expects = false;
	stream_request_moves(&x->s, REQUEST_ENDED);
	h1->reading = NULL;
	h1_moves(h1, H1_IDLE);
	h1_give_parse(h1);
}

/* Returns how many of the bytes after the head were sent along. */
static size_t dispatch(struct h1 *h1, struct request_head *head, const struct h1_facts *facts, struct slice behind)
{
	const struct stream_sink *sink = h1_sink(h1);
	struct h1_stream *x = h1_stream_new(h1);

	if (!x) {
		h1_stop(h1, CLOSE_CUT);
		return 0;
	}
	x->s.born_us = h1->parse->began_us;
	note_request(x, head, facts);
	head->peer = &h1->session.owner->peer;
	head->secure = h1->session.owner->secure;
	head->https = head->https || head->secure != NULL;
	if (head->body == BODY_NONE) {
		stream_request_moves(&x->s, REQUEST_ENDED);
		h1_moves(h1, H1_IDLE);
		h1_give_parse(h1);
	} else {
		h1_moves(h1, H1_BODY);
		h1->reading = x;
		h1_body_begins(h1);
		pace_stop(&h1->body, h1_now_us(h1));
		head->whole = whole_body(h1, head, behind);
	}
	sink->on_request(sink->ctx, &x->s, head);
	if (!x->s.took_whole)
		return 0;
	body_taken(h1, head->whole.len);
	return head->whole.len;
}

/* A first line that names no protocol closes the connection without a response, as soon as the line is complete. */
static bool begins_foreign(const struct h1 *h1, const uint8_t *data)
{
	return h1->requests == 0 && h1->parse->line_len && h1_line_foreign(slice_of(data, h1->parse->line_len));
}

static bool step_head(struct h1 *h1, uint8_t *data, size_t len, size_t *used)
{
	struct session_env *env = h1_env_of(h1);
	enum h1_read_result result = h1_read_head(h1->parse, data, len);
	struct request_head head;
	struct h1_facts facts;

	*used = 0;
	if (begins_foreign(h1, data)) {
		h1_stop(h1, CLOSE_NOW);
		return false;
	}
	if (result == H1_MORE)
		return false;
	if (result == H1_BAD || !h1_examine(h1->parse, data, env->fields, &head, &facts)) {
		h1_refuse(h1, data);
		return false;
	}
	if (must_wait(h1, &head))
		return false;
	*used = h1->parse->head_len;
	*used += dispatch(h1, &head, &facts, slice_of(data + *used, len - *used));
	return true;
}

/* A head that is refused at its first byte. */
static bool refuse_start(struct h1 *h1, const uint8_t *data)
{
	h1->parse->status = 400;
	h1_refuse(h1, data);
	return false;
}

static bool step_idle(struct h1 *h1, uint8_t *data, size_t len, size_t *used)
{
	*used = 0;
	if (len == 0 || !h1_may_begin(h1) || (len == 1 && data[0] == '\r'))
		return false;
	if (data[0] == '\r' && data[1] == '\n' && h1->empty_lines < h1_config(h1)->max_empty_lines) {
		h1->empty_lines++;
		*used = 2;
		return true;
	}
	h1->empty_lines = 0;
	h1->parse = take_parse(h1);
	if (!h1->parse) {
		h1_stop(h1, CLOSE_CUT);
		return false;
	}
	h1_moves(h1, H1_HEAD);
	return data[0] == '\r' ? refuse_start(h1, data) : true;
}

/* ---- bodies ---- */

static void body_ended(struct h1 *h1)
{
	const struct stream_sink *sink = h1_sink(h1);
	struct h1_stream *x = h1->reading;
	unsigned count;

	if (!h1_trailers(h1->parse, h1_env_of(h1)->fields, &count)) {
		h1_refuse_body(h1, 400, END_ERROR);
		return;
	}
	if (x && x->s.request == REQUEST_OPEN) {
		stream_request_moves(&x->s, REQUEST_ENDED);
		if (!x->s.detached)
			sink->on_end(sink->ctx, &x->s, h1_env_of(h1)->fields, count);
	}
	h1->reading = NULL;
	h1_moves(h1, H1_IDLE);
	h1_give_parse(h1);
	if (h1->last && h1->open == 0)
		h1_stop(h1, CLOSE_LINGER);
}

static bool step_body(struct h1 *h1, uint8_t *data, size_t len, size_t *used)
{
	const struct stream_sink *sink = h1_sink(h1);
	struct stream *s = &h1->reading->s;
	uint64_t wanted = stream_wanted(s);
	enum h1_read_result result;
	struct slice body;

	*used = 0;
	h1->reading->came |= len > 0;
	if (len == 0 || wanted == 0)
		return false;
	result = h1_read_body(h1->parse, data, len < wanted ? len : (size_t)wanted, used, &body);
	h1_body_moved(h1, body.len);
	if (body.len && result != H1_BAD) {
		s->body_in += body.len;
		sink->on_body(sink->ctx, s, body);
	}
	if (result == H1_BAD)
		h1_refuse_body(h1, h1->parse->status, END_ERROR);
	else if (result == H1_DONE)
		body_ended(h1);
	else if (stream_wanted(s) == 0)
		pace_stop(&h1->body, h1_now_us(h1));
	return h1->state != H1_STOPPED && *used > 0;
}

static bool step_skip(struct h1 *h1, uint8_t *data, size_t len, size_t *used)
{
	enum h1_read_result result;
	struct slice body;

	*used = 0;
	if (len == 0)
		return false;
	result = h1_read_body(h1->parse, data, len, used, &body);
	h1_body_moved(h1, body.len);
	if (h1->reading)
		h1->reading->came = true;
	else
		h1->skipped += body.len;
	if (result == H1_BAD)
		h1_refuse_body(h1, h1->parse->status, END_ERROR);
	else if (result == H1_DONE)
		body_ended(h1);
	else if (h1->skipped > h1_config(h1)->skip_body)
		h1_stop(h1, CLOSE_LINGER);
	return h1->state != H1_STOPPED && *used > 0;
}

static bool step_tunnel(struct h1 *h1, const uint8_t *data, size_t len, size_t *used)
{
	const struct stream_sink *sink = h1_sink(h1);
	struct stream *s = &h1->reading->s;

	*used = 0;
	if (len == 0 || !stream_reads(s))
		return false;
	*used = sink->on_bytes(sink->ctx, s, slice_of(data, len));
	s->body_in += *used;
	return h1->state == H1_TUNNEL && *used > 0;
}

/* ---- input ---- */

static bool step(struct h1 *h1, uint8_t *data, size_t len, size_t *used)
{
	*used = 0;
	switch ((enum h1_state)h1->state) {
	case H1_IDLE:
		return step_idle(h1, data, len, used);
	case H1_HEAD:
		return step_head(h1, data, len, used);
	case H1_BODY:
		return step_body(h1, data, len, used);
	case H1_SKIP:
		return step_skip(h1, data, len, used);
	case H1_TUNNEL:
		return step_tunnel(h1, data, len, used);
	case H1_STOPPED:
		break;
	}
	return false;
}

static void tell_hangup(struct h1 *h1)
{
	const struct stream_sink *sink = h1_sink(h1);

	for (struct list *l = h1->streams.next; l != &h1->streams; l = l->next) {
		struct stream *s = &container_of(l, struct h1_stream, link)->s;
		if (s->detached || s->hung_up)
			continue;
		s->hung_up = true;
		sink->on_hangup(sink->ctx, s);
	}
}

/* Received bytes are still unread, so the end of file after them does not count yet. */
static bool input_waits(const struct h1 *h1, size_t left)
{
	switch ((enum h1_state)h1->state) {
	case H1_IDLE:
		return left > 0 && !h1->last && !h1_may_begin(h1);
	case H1_HEAD:
		return h1->parse->head_len > 0;
	case H1_BODY:
		return left > 0 && stream_wanted(&h1->reading->s) == 0;
	case H1_TUNNEL:
		return left > 0 && h1->reading->s.response == RESPONSE_STREAMING && !stream_reads(&h1->reading->s);
	default:
		return false;
	}
}

/* The other direction stays open. */
static void tunnel_ended(struct h1 *h1)
{
	const struct stream_sink *sink = h1_sink(h1);
	struct stream *s = &h1->reading->s;
	bool heard = !s->detached && s->request == REQUEST_OPEN && s->response == RESPONSE_STREAMING;

	h1_stop(h1, CLOSE_NOW);
	if (!heard)
		return;
	stream_request_moves(s, REQUEST_ENDED);
	sink->on_end(sink->ctx, s, NULL, 0);
}

static void saw_eof(struct h1 *h1, size_t left)
{
	bool waits = input_waits(h1, left);

	h1->eof = true;
	if (waits || (h1->state != H1_BODY && h1->state != H1_TUNNEL))
		tell_hangup(h1);
	if (h1->state == H1_STOPPED || waits)
		return;
	if (h1->state == H1_TUNNEL) {
		tunnel_ended(h1);
		return;
	}
	if (h1->state == H1_BODY) {
		h1_stream_ends(h1->reading, END_CLOSED);
		h1->reading->cut = true;
	}
	h1_stop(h1, CLOSE_NOW);
}

size_t h1_input(struct session *s, uint8_t *data, size_t len, bool eof)
{
	struct h1 *h1 = h1_of(s);
	size_t used = 0, n;
	bool more = true;

	while (more && session_may_step(s->owner)) {
		more = step(h1, data + used, len - used, &n);
		used += n;
	}
	if (eof && (!more || used == len))
		saw_eof(h1, len - used);
	return used;
}

void h1_hangup(struct session *s)
{
	tell_hangup(h1_of(s));
}
