/* SPDX-License-Identifier: Apache-2.0 */
/* The deadlines of an HTTP/1 session, and what happens when they pass. */
#include "proto/h1_session.h"

enum { DRAIN_GRACE = 250 }; /* ms in which a connection that has not been served may still send its request during a drain */

bool h1_reads(const struct session *s)
{
	const struct h1 *h1 = h1_of(s);

	switch ((enum h1_state)h1->state) {
	case H1_IDLE:
		return h1_may_begin(h1);
	case H1_HEAD:
		return h1->parse->head_len == 0 || h1->open == 0;
	case H1_BODY:
		return stream_wanted(&h1->reading->s) > 0;
	case H1_SKIP:
		return true;
	case H1_TUNNEL:
		return stream_reads(&h1->reading->s);
	case H1_STOPPED:
		break;
	}
	return false;
}

static uint64_t body_deadline(const struct h1 *h1)
{
	return h1_config(h1)->body_rate == 0 || h1->eof ? UINT64_MAX : pace_deadline(&h1->body);
}

static uint64_t idle_deadline(const struct h1 *h1)
{
	const struct config *c = h1_config(h1);

	if (h1->open > 0)
		return UINT64_MAX;
	if (h1->requests == 0 && !h1_env_of(h1)->paused) /* a request that may not begin cannot be late */
		return h1->since + (h1_env_of(h1)->draining ? DRAIN_GRACE : c->first_byte_timeout);
	return h1->since + (h1_env_of(h1)->crowded ? c->busy_idle_timeout : c->idle_timeout);
}

static uint64_t read_deadline(const struct h1 *h1)
{
	if (h1_env_of(h1)->read_paused)
		return UINT64_MAX;
	switch ((enum h1_state)h1->state) {
	case H1_IDLE:
		return idle_deadline(h1);
	case H1_HEAD:
		return h1->parse->head_len ? UINT64_MAX : h1->since + h1_config(h1)->header_timeout;
	case H1_BODY:
		return stream_wanted(&h1->reading->s) ? body_deadline(h1) : UINT64_MAX;
	case H1_SKIP:
		if (h1->reading) /* a client that waits for 100 Continue sends nothing, and that is not its fault */
			return h1->reading->expects && !h1->reading->came ? UINT64_MAX : body_deadline(h1);
		return h1->since + h1_config(h1)->skip_timeout;
	case H1_TUNNEL:
	case H1_STOPPED:
		break;
	}
	return UINT64_MAX;
}

static uint64_t write_deadline(const struct h1 *h1)
{
	struct h1_stream *x = h1_first(h1);

	return x && x->out.len ? pace_deadline(&h1->out) : UINT64_MAX;
}

struct session_wants h1_wants(const struct session *s)
{
	const struct h1 *h1 = h1_of(s);
	uint64_t reading = read_deadline(h1), writing = write_deadline(h1);
	uint64_t deadline = reading < writing ? reading : writing;
	bool over = h1->state == H1_STOPPED && (h1->open == 0 || h1->closing == CLOSE_CUT);

	return (struct session_wants){
		.read = h1_reads(s),
		.peek = h1->open > 0 && (h1->state == H1_IDLE || h1->state == H1_HEAD),
		.alert = h1->open > 0,
		.write = h1_has_output(h1) && !h1->cold,
		.later = h1->cold,
		.idle = h1->state == H1_IDLE && h1->open == 0,
		.begun = h1->state == H1_HEAD && h1->open == 0,
		.close = over ? (enum session_close)h1->closing : CLOSE_NOT,
		.deadline = deadline == UINT64_MAX ? 0 : deadline,
	};
}

bool h1_stalled(const struct session *s)
{
	const struct h1 *h1 = h1_of(s);
	struct h1_stream *x = h1_first(h1);

	if (!x || h1->cold)
		return false;
	return (x->out.len > 0 && h1_may_leave(x) > 0) || (h1->state == H1_BODY && h1->open == 1 && stream_wanted(&x->s) > 0);
}

static void read_timed_out(struct h1 *h1)
{
	switch ((enum h1_state)h1->state) {
	case H1_IDLE:
		h1_stop(h1, CLOSE_NOW);
		break;
	case H1_HEAD:
		h1->parse->status = 408;
		h1_refuse(h1, NULL);
		break;
	case H1_BODY:
		h1_refuse_body(h1, 408, END_TIMEOUT);
		break;
	case H1_SKIP:
		if (h1->reading)
			h1_refuse_body(h1, 408, END_TIMEOUT);
		else
			h1_stop(h1, CLOSE_LINGER);
		break;
	case H1_TUNNEL:
	case H1_STOPPED:
		break;
	}
}

void h1_tick(struct session *s)
{
	struct h1 *h1 = h1_of(s);

	if (h1_now(h1) >= write_deadline(h1)) {
		h1_end_streams(h1, END_TIMEOUT);
		h1_stop(h1, CLOSE_CUT);
		return;
	}
	if (h1_now(h1) >= read_deadline(h1))
		read_timed_out(h1);
}

void h1_drain(struct session *s)
{
	struct h1 *h1 = h1_of(s);

	/* A client may not ask again when a connection that has not served it yet is closed (RFC 9112 9.3.1). */
	if (h1->state == H1_IDLE && h1->requests == 0)
		return;
	h1->last = true;
	if (h1->state == H1_IDLE && h1->open == 0)
		h1_stop(h1, CLOSE_NOW);
}
