/* SPDX-License-Identifier: Apache-2.0 */
/* One request and its response: its beginning and its end, and the application's operations on it (stream_ops). */
#include <stdlib.h>

#include "proto/h1_session.h"
#include "proto/http.h"

static const char *const state_names[] = {"idle", "head", "body", "skip", "tunnel", "stopped"};
static const uint32_t state_next[] = {
	[H1_IDLE] = SM_BIT(H1_HEAD) | SM_BIT(H1_TUNNEL) | SM_BIT(H1_STOPPED),
	[H1_HEAD] = SM_BIT(H1_IDLE) | SM_BIT(H1_BODY) | SM_BIT(H1_STOPPED),
	[H1_BODY] = SM_BIT(H1_IDLE) | SM_BIT(H1_SKIP) | SM_BIT(H1_STOPPED),
	[H1_SKIP] = SM_BIT(H1_IDLE) | SM_BIT(H1_STOPPED),
	[H1_TUNNEL] = SM_BIT(H1_STOPPED),
	[H1_STOPPED] = SM_BIT(H1_STOPPED),
};
const struct sm h1_machine = {"h1", state_names, state_next};

/* ---- streams ---- */

enum { SPARES_MAX = 256 };

static const struct stream_ops h1_stream_ops;

struct h1_stream *h1_stream_new(struct h1 *h1)
{
	struct h1_stream *x = pool_take(&h1_env_of(h1)->h1_streams, sizeof *x);

	if (!x)
		return NULL;
	memset(x, 0, sizeof *x);
	stream_init(&x->s, &h1_stream_ops);
	x->s.born_us = *h1_env_of(h1)->now_us;
	x->why = END_CLOSED;
	x->h1 = h1;
	list_append(&h1->streams, &x->link);
	h1->open++;
	return x;
}

void h1_stream_free(struct h1_stream *x)
{
	struct h1 *h1 = x->h1;

	if (h1->reading == x)
		h1->reading = NULL;
	h1->holds = false;
	list_remove(&x->link);
	h1->open--;
	bufq_free(&x->out);
	pool_give(&h1_env_of(h1)->h1_streams, x, SPARES_MAX);
}

/* Reports the end of the stream to the sink, unless it has detached. */
void h1_stream_ends(struct h1_stream *x, enum stream_end why)
{
	const struct stream_sink *sink = h1_sink(x->h1);

	if (x->s.detached)
		return;
	stream_detach(&x->s);
	sink->on_reset(sink->ctx, &x->s, why);
}

void h1_end_streams(struct h1 *h1, enum stream_end why)
{
	struct h1_stream *x;

	while ((x = h1_first(h1))) {
		h1_stream_ends(x, why);
		h1_stream_free(x);
	}
}

void h1_give_parse(struct h1 *h1)
{
	struct session_env *env = h1_env_of(h1);

	if (!h1->parse)
		return;
	h1_parse_free(h1->parse);
	if (env->spare_parse)
		free(h1->parse);
	else
		env->spare_parse = h1->parse;
	h1->parse = NULL;
}

/* Stops reading. */
void h1_stop(struct h1 *h1, enum session_close how)
{
	h1_moves(h1, H1_STOPPED);
	h1_give_parse(h1);
	h1->reading = NULL;
	h1->last = true;
	if (how > h1->closing)
		h1->closing = (uint8_t)how;
}

/* Answers with a response of the port's own. */
void h1_answer(struct h1_stream *x, const struct h1_error *error)
{
	h1_begin_output(x);
	x->s.status = (uint16_t)error->status;
	x->close = x->close || error->close;
	if (!h1_write_error(&x->out, h1_env_of(x->h1), error))
		x->cut = true;
	stream_response_moves(&x->s, RESPONSE_STREAMING);
	stream_response_moves(&x->s, RESPONSE_ENDED);
}

/* ---- operations ---- */

/* Bytes of the response are lost, so the connection must end here, whether the response is complete or not. */
static bool wrote(struct h1_stream *x, bool well)
{
	x->cut = x->cut || !well;
	return well;
}

static bool h1_send_info(struct stream *s, unsigned status, const struct field *fields, unsigned count)
{
	struct h1_stream *x = h1_stream_of(s);

	if (x->http10)
		return true;
	h1_begin_output(x);
	if (status == 100)
		x->expects = false;
	h1_wake(x->h1);
	if (!wrote(x, h1_write_info(&x->out, status, fields, count)))
		return false;
	s->interim = x->out.len;
	return true;
}

/* The connection must end after a response to a request whose body is too long to skip, or may never come. */
static bool must_close_for_body(const struct h1_stream *x)
{
	const struct h1 *h1 = x->h1;

	if (h1->reading != x)
		return false;
	return x->expects || (!h1->parse->chunked && h1->parse->left > (int64_t)h1_config(h1)->skip_body);
}

/* After this response neither side sends HTTP any more (RFC 9110 9.3.6). */
static bool opens_tunnel(const struct h1_stream *x, const struct response_head *head)
{
	return x->connects && head->status < 300;
}

static enum h1_framing framing_of(const struct h1_stream *x, const struct response_head *head)
{
	if (x->s.bodiless)
		return FRAMING_NONE;
	if (opens_tunnel(x, head))
		return FRAMING_CLOSE;
	if (head->length != LENGTH_UNKNOWN)
		return FRAMING_LENGTH;
	return x->http10 ? FRAMING_CLOSE : FRAMING_CHUNKED;
}

static bool h1_send_head(struct stream *s, const struct response_head *head)
{
	struct h1_stream *x = h1_stream_of(s);
	struct h1 *h1 = x->h1;
	struct h1_frame_plan plan = {.length = http_length_to_say(head, opens_tunnel(x, head))};

	h1_begin_output(x);
	plan.framing = framing_of(x, head);
	x->framing = (uint8_t)plan.framing;
	x->close = x->close || head->close || h1_env_of(h1)->draining || plan.framing == FRAMING_CLOSE || opens_tunnel(x, head) ||
		   must_close_for_body(x);
	plan.close = x->close;
	plan.keep = x->keep_alive && !x->close;
	h1->last = h1->last || x->close;
	h1_wake(h1);
	return wrote(x, h1_write_head(&x->out, h1_env_of(h1), head, &plan));
}

static bool h1_upgrade(struct stream *s, struct slice protocol, const struct field *fields, unsigned count)
{
	struct h1_stream *x = h1_stream_of(s);
	struct h1 *h1 = x->h1;

	h1_begin_output(x);
	x->framing = FRAMING_CLOSE;
	x->close = true;
	h1->last = true;
	h1_wake(h1);
	if (h1->state != H1_IDLE) {
		x->cut = true; /* the client has closed its side already */
		return true;
	}
	h1_moves(h1, H1_TUNNEL);
	h1->reading = x;
	stream_request_moves(s, REQUEST_OPEN);
	return wrote(x, h1_write_upgrade(&x->out, x->connects ? (struct slice){0} : protocol, fields, count));
}

static bool h1_send_data(struct stream *s, struct slice data)
{
	struct h1_stream *x = h1_stream_of(s);

	h1_begin_output(x);
	x->unsent += data.len;
	x->body += data.len;
	h1_wake(x->h1);
	if (data.len == 0)
		return true;
	return wrote(x, x->framing == FRAMING_CHUNKED ? h1_write_chunk(&x->out, data) : bufq_lend(&x->out, data.at, data.len));
}

static bool h1_send_file(struct stream *s, struct file *f, uint64_t offset, size_t n)
{
	struct h1_stream *x = h1_stream_of(s);

	h1_begin_output(x);
	x->unsent += FILE_COST;
	x->body += n;
	h1_wake(x->h1);
	return wrote(x, x->framing == FRAMING_CHUNKED ? h1_write_file_chunk(&x->out, f, offset, n)
						      : bufq_append_file(&x->out, f, offset, n));
}

static bool h1_send_end(struct stream *s, const struct field *trailers, unsigned count)
{
	struct h1_stream *x = h1_stream_of(s);

	h1_wake(x->h1);
	if (x->framing != FRAMING_CHUNKED)
		return true;
	h1_begin_output(x);
	return wrote(x, h1_write_last_chunk(&x->out, trailers, x->takes_trailers ? count : 0));
}

static void h1_consume(struct stream *s)
{
	static const struct slice go_on = SLICE_LIT("HTTP/1.1 100 Continue\r\n\r\n");
	struct h1_stream *x = h1_stream_of(s);
	struct h1 *h1 = x->h1;

	if (h1->reading != x)
		return;
	if (x->expects && !x->came && s->response == RESPONSE_WAITING) { /* RFC 9110 10.1.1 */
		h1_begin_output(x);
		wrote(x, bufq_append(&x->out, go_on.at, go_on.len));
	}
	if (x->came || s->response == RESPONSE_WAITING) /* else the body may never come; the head, if it is still kept, says so */
		x->expects = false;
	pace_go(&h1->body, h1_now_us(h1));
	h1_wake(h1);
}

static void h1_go_on(struct stream *s)
{
	h1_wake(h1_stream_of(s)->h1);
}

static void h1_discard(struct stream *s)
{
	struct h1_stream *x = h1_stream_of(s);
	struct h1 *h1 = x->h1;

	s->wanted = 0;
	if (h1->reading != x || h1->state != H1_BODY)
		return;
	h1_moves(h1, H1_SKIP);
	h1_body_begins(h1);
	h1->skipped = 0;
	h1_wake(h1);
}

static void h1_reset(struct stream *s, unsigned status, unsigned retry_after)
{
	struct h1_stream *x = h1_stream_of(s);
	bool keep = retry_after > 0 && s->request == REQUEST_ENDED && !x->close && !h1_env_of(x->h1)->draining;
	struct h1_error error = {
		.status = status,
		.retry_after = retry_after,
		.no_body = s->head_method,
		.close = !keep,
		.keep = keep && x->keep_alive,
	};

	h1_wake(x->h1);
	h1_discard(s);
	if (s->response == RESPONSE_WAITING && status)
		h1_answer(x, &error);
	else if (s->response != RESPONSE_ENDED)
		x->cut = true;
	x->h1->last = x->h1->last || x->close || x->cut;
}

static const struct stream_ops h1_stream_ops = {
	.send_info = h1_send_info,
	.send_head = h1_send_head,
	.upgrade = h1_upgrade,
	.send_data = h1_send_data,
	.send_file = h1_send_file,
	.send_end = h1_send_end,
	.consume = h1_consume,
	.go_on = h1_go_on,
	.discard = h1_discard,
	.reset = h1_reset,
};
