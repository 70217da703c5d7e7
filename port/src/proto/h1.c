#include "proto/h1.h"

#include <assert.h>
#include <stdlib.h>

#include "base/sm.h"
#include "proto/h1_read.h"
#include "proto/h1_write.h"
#include "stream/rules.h"

/*
 * What is being read:
 *
 *   IDLE ──first byte──> HEAD ──head complete──> BODY ──last byte──> IDLE
 *                          └──no body──> IDLE      └──not wanted──> SKIP ──last byte──> IDLE
 *   IDLE ──upgrade──> TUNNEL
 *   any ──error, close, end of file──> STOPPED
 */
enum h1_state { H1_IDLE, H1_HEAD, H1_BODY, H1_SKIP, H1_TUNNEL, H1_STOPPED };

static const char *const state_names[] = {"idle", "head", "body", "skip", "tunnel", "stopped"};
static const uint32_t state_next[] = {
	[H1_IDLE] = SM_BIT(H1_HEAD) | SM_BIT(H1_TUNNEL) | SM_BIT(H1_STOPPED),
	[H1_HEAD] = SM_BIT(H1_IDLE) | SM_BIT(H1_BODY) | SM_BIT(H1_STOPPED),
	[H1_BODY] = SM_BIT(H1_IDLE) | SM_BIT(H1_SKIP) | SM_BIT(H1_STOPPED),
	[H1_SKIP] = SM_BIT(H1_IDLE) | SM_BIT(H1_STOPPED),
	[H1_TUNNEL] = SM_BIT(H1_STOPPED),
	[H1_STOPPED] = SM_BIT(H1_STOPPED),
};
static const struct sm machine = {"h1", state_names, state_next};

struct h1 {
	struct session session;
	struct list streams;       /* in the order of their requests, which is that of their responses */
	struct h1_parse *parse;    /* in HEAD, BODY, SKIP */
	struct h1_stream *reading; /* whose body is read, in BODY and TUNNEL; in SKIP while its response goes on */
	uint64_t since;            /* ms: the beginning of what is being read */
	uint64_t starved;          /* ms: since when a body waits for credit; 0: it does not */
	uint64_t progressed;       /* ms: when output last moved, or began */
	uint64_t skipped;          /* bytes of a body that nobody waits for */
	uint32_t requests;
	uint16_t open;   /* streams */
	uint8_t state;   /* enum h1_state */
	uint8_t closing; /* enum session_close: how, when STOPPED and all is written */
	uint8_t empty_lines;
	bool eof;    /* the client has closed its side */
	bool last;   /* no request after those that are open */
	bool unsafe; /* the newest request must not be overtaken by another */
	bool holds;  /* the newest request may be upgraded: what follows it may not be HTTP */
};

struct h1_stream {
	struct stream s;
	struct h1 *h1;
	struct list link;
	struct bufq out;
	uint64_t unsent; /* body bytes in out that were not reported as room */
	uint8_t framing; /* enum h1_framing */
	bool http10, keep_alive, close, expects, takes_trailers;
	bool connects; /* the method is CONNECT */
	bool connect;  /* the method is CONNECT */
	bool cut;      /* the connection ends where this response stands */
};

static struct h1 *h1_of(const struct session *s)
{
	return container_of(s, struct h1, session);
}

static struct h1_stream *stream_of(struct stream *s)
{
	return container_of(s, struct h1_stream, s);
}

static struct h1_stream *first_stream(const struct h1 *h1)
{
	return list_empty(&h1->streams) ? NULL : container_of(h1->streams.next, struct h1_stream, link);
}

static struct session_env *env_of(const struct h1 *h1)
{
	return h1->session.owner->env;
}

static const struct config *config_of(const struct h1 *h1)
{
	return env_of(h1)->config;
}

static const struct stream_sink *sink_of(const struct h1 *h1)
{
	return env_of(h1)->sink;
}

static uint64_t now(const struct h1 *h1)
{
	return *env_of(h1)->now;
}

static void wake(struct h1 *h1)
{
	h1->session.owner->wake(h1->session.owner);
}

static void moves(struct h1 *h1, enum h1_state to)
{
	sm_move(&machine, &h1->state, (uint8_t)to);
	h1->since = now(h1);
}

/* ---- the parser lives only while something is read ---- */

static struct h1_parse *take_parse(struct h1 *h1)
{
	struct session_env *env = env_of(h1);
	struct h1_parse *p = env->spare_parse ? env->spare_parse : malloc(sizeof *p);

	env->spare_parse = NULL;
	if (!p)
		return NULL;
	h1_parse_init(p, env->config);
	p->began_us = *env->now_us;
	return p;
}

static void give_parse(struct h1 *h1)
{
	struct session_env *env = env_of(h1);

	if (!h1->parse)
		return;
	h1_parse_free(h1->parse);
	if (env->spare_parse)
		free(h1->parse);
	else
		env->spare_parse = h1->parse;
	h1->parse = NULL;
}

void h1_env_free(struct session_env *env)
{
	free(env->spare_parse);
	env->spare_parse = NULL;
}

/* ---- streams ---- */

static const struct stream_ops h1_stream_ops;

static struct h1_stream *stream_new(struct h1 *h1)
{
	struct h1_stream *x = malloc(sizeof *x);

	if (!x)
		return NULL;
	memset(x, 0, sizeof *x);
	stream_init(&x->s, &h1_stream_ops);
	x->s.born_us = *env_of(h1)->now_us;
	x->h1 = h1;
	list_append(&h1->streams, &x->link);
	h1->open++;
	return x;
}

static void stream_free(struct h1_stream *x)
{
	struct h1 *h1 = x->h1;

	if (h1->reading == x)
		h1->reading = NULL;
	h1->holds = false;
	list_remove(&x->link);
	h1->open--;
	bufq_free(&x->out);
	free(x);
}

/* Tells the sink that this is the end, if it still listens. */
static void stream_ends(struct h1_stream *x, enum stream_end why)
{
	const struct stream_sink *sink = sink_of(x->h1);

	if (x->s.detached)
		return;
	stream_detach(&x->s);
	sink->on_reset(sink->ctx, &x->s, why);
}

/* Nothing is read any more. */
static void stop(struct h1 *h1, enum session_close how)
{
	moves(h1, H1_STOPPED);
	give_parse(h1);
	h1->reading = NULL;
	h1->last = true;
	if (how > h1->closing)
		h1->closing = (uint8_t)how;
}

/* ---- refusing ---- */

/* The clock of write_timeout is that of the answer which is being sent: those behind it must not wind it up. */
static void begin_output(struct h1_stream *x)
{
	if (x->out.len == 0 && x == first_stream(x->h1))
		x->h1->progressed = now(x->h1);
}

/* The whole response is an answer of ours. */
static void answer(struct h1_stream *x, const struct h1_error *error)
{
	begin_output(x);
	x->s.status = (uint16_t)error->status;
	x->close = x->close || error->close;
	if (!h1_write_error(&x->out, env_of(x->h1), error))
		x->cut = true;
	stream_response_moves(&x->s, RESPONSE_STREAMING);
	stream_response_moves(&x->s, RESPONSE_ENDED);
}

/* A head that cannot be taken: its answer stands in line as a stream that nobody else knows. */
static void refuse(struct h1 *h1, const uint8_t *head)
{
	bool no_body = h1->parse->line_len > 5 && memcmp(head, "HEAD ", 5) == 0;
	struct h1_error error = {.status = h1->parse->status, .no_body = no_body, .close = true};
	struct h1_stream *x = stream_new(h1);

	env_of(h1)->rejected++;
	stop(h1, x ? CLOSE_LINGER : CLOSE_CUT);
	if (!x)
		return;
	stream_detach(&x->s);
	answer(x, &error);
}

/* The body of the request being read is malformed, too long or too slow. */
static void refuse_body(struct h1 *h1, unsigned status, enum stream_end why)
{
	struct h1_stream *x = h1->reading;
	struct h1_error error = {.status = status, .close = true, .no_body = x && x->s.head_method};

	env_of(h1)->rejected++;
	stop(h1, CLOSE_LINGER);
	if (!x)
		return;
	stream_ends(x, why);
	if (x->s.response == RESPONSE_WAITING)
		answer(x, &error);
	else
		x->cut = x->s.response != RESPONSE_ENDED;
}

/* ---- reading ---- */

enum { DRAIN_GRACE = 250 }; /* ms in which a connection that was not served yet may still send its request, in a drain */

static bool may_begin(const struct h1 *h1)
{
	const struct session_env *env = env_of(h1);

	return !h1->last && !h1->holds && !env->paused && (!env->draining || h1->requests == 0) &&
	       h1->open < config_of(h1)->max_pipeline;
}

static bool is_safe(const struct request_head *head)
{
	enum { GET = 0, HEAD = 1, OPTIONS = 6, TRACE = 7 };
	int m = head->method_index;

	return (m == GET || m == HEAD || m == OPTIONS || m == TRACE) && head->body == BODY_NONE &&
	       !(head->flags & REQUEST_MAY_UPGRADE);
}

/* Only safe requests may be worked on beside others (RFC 9112 9.3.2). */
static bool must_wait(const struct h1 *h1, const struct request_head *head)
{
	return h1->open > 0 && (h1->unsafe || !is_safe(head));
}

static void note_request(struct h1_stream *x, const struct request_head *head, const struct h1_facts *facts)
{
	struct h1 *h1 = x->h1;
	uint64_t most = config_of(h1)->max_requests;

	h1->requests++;
	h1->unsafe = !is_safe(head);
	x->http10 = head->version == 10;
	x->keep_alive = x->http10 && facts->keep_alive;
	x->close = env_of(h1)->draining || facts->close || (x->http10 && !facts->keep_alive) || (most && h1->requests >= most);
	x->expects = head->flags & REQUEST_EXPECTS_CONTINUE;
	x->takes_trailers = head->flags & REQUEST_TAKES_TRAILERS;
	x->s.head_method = slice_eq(head->method, SLICE_LIT("HEAD"));
	x->connects = slice_eq(head->method, SLICE_LIT("CONNECT"));
	h1->holds = head->flags & REQUEST_MAY_UPGRADE;
	x->connect = slice_eq(head->method, SLICE_LIT("CONNECT"));
	h1->last = h1->last || x->close;
}

static void dispatch(struct h1 *h1, struct request_head *head, const struct h1_facts *facts)
{
	const struct stream_sink *sink = sink_of(h1);
	struct h1_stream *x = stream_new(h1);

	if (!x) {
		stop(h1, CLOSE_CUT);
		return;
	}
	x->s.born_us = h1->parse->began_us;
	note_request(x, head, facts);
	head->peer = &h1->session.owner->peer;
	if (head->body == BODY_NONE) {
		stream_request_moves(&x->s, REQUEST_ENDED);
		moves(h1, H1_IDLE);
		give_parse(h1);
	} else {
		moves(h1, H1_BODY);
		h1->reading = x;
		h1->starved = now(h1);
	}
	sink->on_request(sink->ctx, &x->s, head);
}

static bool step_head(struct h1 *h1, uint8_t *data, size_t len, size_t *used)
{
	struct session_env *env = env_of(h1);
	enum h1_read_result result = h1_read_head(h1->parse, data, len);
	struct request_head head;
	struct h1_facts facts;

	*used = 0;
	if (result == H1_MORE)
		return false;
	if (result == H1_BAD || !h1_examine(h1->parse, data, env->fields, &head, &facts)) {
		refuse(h1, data);
		return false;
	}
	if (must_wait(h1, &head))
		return false;
	*used = h1->parse->head_len;
	dispatch(h1, &head, &facts);
	return true;
}

/* A head that is refused at its first byte. */
static bool refuse_start(struct h1 *h1, const uint8_t *data)
{
	h1->parse->status = 400;
	refuse(h1, data);
	return false;
}

static bool step_idle(struct h1 *h1, uint8_t *data, size_t len, size_t *used)
{
	*used = 0;
	if (len == 0 || !may_begin(h1) || (len == 1 && data[0] == '\r'))
		return false;
	if (data[0] == '\r' && data[1] == '\n' && h1->empty_lines < config_of(h1)->max_empty_lines) {
		h1->empty_lines++;
		*used = 2;
		return true;
	}
	h1->empty_lines = 0;
	h1->parse = take_parse(h1);
	if (!h1->parse) {
		stop(h1, CLOSE_CUT);
		return false;
	}
	moves(h1, H1_HEAD);
	return data[0] == '\r' ? refuse_start(h1, data) : true;
}

static void body_ended(struct h1 *h1)
{
	const struct stream_sink *sink = sink_of(h1);
	struct h1_stream *x = h1->reading;
	unsigned count;

	if (!h1_trailers(h1->parse, env_of(h1)->fields, &count)) {
		refuse_body(h1, 400, END_ERROR);
		return;
	}
	if (x && x->s.request == REQUEST_OPEN) {
		stream_request_moves(&x->s, REQUEST_ENDED);
		if (!x->s.detached)
			sink->on_end(sink->ctx, &x->s, env_of(h1)->fields, count);
	}
	h1->reading = NULL;
	moves(h1, H1_IDLE);
	give_parse(h1);
	if (h1->last && h1->open == 0)
		stop(h1, CLOSE_LINGER);
}

static bool step_body(struct h1 *h1, uint8_t *data, size_t len, size_t *used)
{
	const struct stream_sink *sink = sink_of(h1);
	struct stream *s = &h1->reading->s;
	uint64_t wanted = stream_wanted(s);
	enum h1_read_result result;
	struct slice body;

	*used = 0;
	if (len == 0 || wanted == 0)
		return false;
	result = h1_read_body(h1->parse, data, len < wanted ? len : (size_t)wanted, used, &body);
	if (body.len && result != H1_BAD) {
		s->body_in += body.len;
		sink->on_body(sink->ctx, s, body);
	}
	if (result == H1_BAD)
		refuse_body(h1, h1->parse->status, END_ERROR);
	else if (result == H1_DONE)
		body_ended(h1);
	else if (stream_wanted(s) == 0)
		h1->starved = now(h1);
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
	if (!h1->reading)
		h1->skipped += body.len;
	if (result == H1_BAD)
		refuse_body(h1, h1->parse->status, END_ERROR);
	else if (result == H1_DONE)
		body_ended(h1);
	else if (h1->skipped > config_of(h1)->skip_body)
		stop(h1, CLOSE_LINGER);
	return h1->state != H1_STOPPED && *used > 0;
}

static bool step_tunnel(struct h1 *h1, const uint8_t *data, size_t len, size_t *used)
{
	const struct stream_sink *sink = sink_of(h1);
	struct stream *s = &h1->reading->s;

	*used = 0;
	if (len == 0 || !stream_reads(s))
		return false;
	*used = sink->on_bytes(sink->ctx, s, slice_of(data, len));
	s->body_in += *used;
	return h1->state == H1_TUNNEL && *used > 0;
}

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
	const struct stream_sink *sink = sink_of(h1);

	for (struct list *l = h1->streams.next; l != &h1->streams; l = l->next) {
		struct stream *s = &container_of(l, struct h1_stream, link)->s;
		if (s->detached || s->hung_up)
			continue;
		s->hung_up = true;
		sink->on_hangup(sink->ctx, s);
	}
}

/* Bytes that are there wait for something of ours, so that the end of file behind them does not count yet. */
static bool input_waits(const struct h1 *h1, size_t left)
{
	switch ((enum h1_state)h1->state) {
	case H1_IDLE:
		return left > 0 && !h1->last && !may_begin(h1);
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

/* The other direction goes on. */
static void tunnel_ended(struct h1 *h1)
{
	const struct stream_sink *sink = sink_of(h1);
	struct stream *s = &h1->reading->s;
	bool heard = !s->detached && s->request == REQUEST_OPEN && s->response == RESPONSE_STREAMING;

	stop(h1, CLOSE_NOW);
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
		stream_ends(h1->reading, END_CLOSED);
		h1->reading->cut = true;
	}
	stop(h1, CLOSE_NOW);
}

static size_t h1_input(struct session *s, uint8_t *data, size_t len, bool eof)
{
	struct h1 *h1 = h1_of(s);
	size_t used = 0, n;

	while (step(h1, data + used, len - used, &n))
		used += n;
	used += n;
	if (eof)
		saw_eof(h1, len - used);
	return used;
}

static void h1_hangup(struct session *s)
{
	tell_hangup(h1_of(s));
}

/* ---- writing ---- */

/* Reports what of the body has left: what is still in out may be framing, and is taken for body. */
static void tell_room(struct h1_stream *x)
{
	const struct stream_sink *sink = sink_of(x->h1);
	uint64_t left = x->unsent < x->out.len ? x->unsent : x->out.len, gone = x->unsent - left;

	if (gone == 0)
		return;
	x->unsent = left;
	if (!x->s.detached)
		sink->on_room(sink->ctx, &x->s, gone);
}

/* What is left of a body that nobody will read. */
static void skip_rest(struct h1 *h1)
{
	h1->reading = NULL;
	h1->skipped = 0;
	if (h1->state == H1_BODY)
		moves(h1, H1_SKIP);
	h1->since = now(h1);
}

static void end_others(struct h1 *h1, enum stream_end why)
{
	struct h1_stream *x;

	while ((x = first_stream(h1))) {
		stream_ends(x, why);
		stream_free(x);
	}
}

static void stream_done(struct h1_stream *x)
{
	const struct stream_sink *sink = sink_of(x->h1);
	struct h1 *h1 = x->h1;
	bool close = x->close;

	if (h1->reading == x)
		skip_rest(h1);
	if (!x->s.detached) {
		stream_detach(&x->s);
		sink->on_done(sink->ctx, &x->s);
	}
	stream_free(x);
	if (h1->open == 0 && h1->state == H1_IDLE)
		h1->since = now(h1);
	close = close || (h1->last && h1->open == 0 && h1->state == H1_IDLE);
	if (close) {
		stop(h1, h1->eof ? CLOSE_NOW : CLOSE_LINGER);
		end_others(h1, END_CLOSED);
	}
}

/* Ends the streams whose response has left, in their order. */
static void settle(struct h1 *h1)
{
	struct h1_stream *x;

	while ((x = first_stream(h1))) {
		tell_room(x);
		if (x->cut) {
			stop(h1, CLOSE_CUT);
			return;
		}
		if (x->s.response != RESPONSE_ENDED || x->out.len > 0)
			return;
		stream_done(x);
	}
}

static int h1_output(struct session *s, struct iovec *iov, int max)
{
	struct h1 *h1 = h1_of(s);
	int count = 0;

	settle(h1);
	for (struct list *l = h1->streams.next; l != &h1->streams && count < max; l = l->next) {
		struct h1_stream *x = container_of(l, struct h1_stream, link);
		count += bufq_iov(&x->out, iov + count, max - count);
		if (x->s.response != RESPONSE_ENDED || x->cut || x->close)
			break;
	}
	return count;
}

static void h1_sent(struct session *s, size_t n)
{
	struct h1 *h1 = h1_of(s);

	h1->progressed = now(h1);
	for (struct list *l = h1->streams.next; n > 0; l = l->next) {
		struct h1_stream *x = container_of(l, struct h1_stream, link);
		size_t part = n < x->out.len ? n : x->out.len;
		bufq_consume(&x->out, part);
		n -= part;
	}
	settle(h1);
}

static void h1_own(struct session *s)
{
	struct h1 *h1 = h1_of(s);

	for (struct list *l = h1->streams.next; l != &h1->streams; l = l->next) {
		struct h1_stream *x = container_of(l, struct h1_stream, link);
		x->cut = !bufq_own(&x->out) || x->cut;
	}
}

static bool has_output(const struct h1 *h1)
{
	struct h1_stream *x = first_stream(h1);

	return x && (x->out.len > 0 || x->cut || x->s.response == RESPONSE_ENDED || x->unsent > 0);
}

/* ---- operations ---- */

static bool h1_send_info(struct stream *s, unsigned status, const struct field *fields, unsigned count)
{
	struct h1_stream *x = stream_of(s);

	if (x->http10)
		return true;
	begin_output(x);
	if (status == 100)
		x->expects = false;
	wake(x->h1);
	return h1_write_info(&x->out, status, fields, count);
}

/* The connection cannot be used after a response that overtakes a body which is too long to skip, or may never come. */
static bool must_close_for_body(const struct h1_stream *x)
{
	const struct h1 *h1 = x->h1;

	if (h1->reading != x)
		return false;
	return x->expects || (!h1->parse->chunked && h1->parse->left > (int64_t)config_of(h1)->skip_body);
}

/* Behind such a response nothing is framed, and nothing that the client sends is a request (RFC 9110 9.3.6). */
static bool opens_tunnel(const struct h1_stream *x, const struct response_head *head)
{
	return x->connect && head->status < 300;
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

/* Of a response without a body: HEAD and 304 may say the length of what was not sent, 205 says 0, 204 and tunnels nothing. */
static int64_t length_to_say(const struct h1_stream *x, const struct response_head *head)
{
	if (head->status == 204 || opens_tunnel(x, head))
		return LENGTH_UNKNOWN;
	if (head->status == 205)
		return 0;
	return head->length;
}

static bool h1_send_head(struct stream *s, const struct response_head *head)
{
	struct h1_stream *x = stream_of(s);
	struct h1 *h1 = x->h1;
	struct h1_frame_plan plan = {.length = length_to_say(x, head)};

	begin_output(x);
	plan.framing = framing_of(x, head);
	x->framing = (uint8_t)plan.framing;
	x->close = x->close || head->close || env_of(h1)->draining || plan.framing == FRAMING_CLOSE || opens_tunnel(x, head) ||
		   must_close_for_body(x);
	plan.close = x->close;
	plan.keep = x->keep_alive && !x->close;
	h1->last = h1->last || x->close;
	wake(h1);
	return h1_write_head(&x->out, env_of(h1), head, &plan);
}

static bool h1_upgrade(struct stream *s, struct slice protocol, const struct field *fields, unsigned count)
{
	struct h1_stream *x = stream_of(s);
	struct h1 *h1 = x->h1;

	begin_output(x);
	x->framing = FRAMING_CLOSE;
	x->close = true;
	h1->last = true;
	wake(h1);
	if (h1->state != H1_IDLE) {
		x->cut = true; /* the client has closed its side already */
		return true;
	}
	moves(h1, H1_TUNNEL);
	h1->reading = x;
	stream_request_moves(s, REQUEST_OPEN);
	return h1_write_upgrade(&x->out, x->connects ? (struct slice){0} : protocol, fields, count);
}

static bool h1_send_data(struct stream *s, struct slice data)
{
	struct h1_stream *x = stream_of(s);

	begin_output(x);
	x->unsent += data.len;
	wake(x->h1);
	if (x->framing == FRAMING_NONE || data.len == 0)
		return true;
	return x->framing == FRAMING_CHUNKED ? h1_write_chunk(&x->out, data) : bufq_lend(&x->out, data.at, data.len);
}

static bool h1_send_end(struct stream *s, const struct field *trailers, unsigned count)
{
	struct h1_stream *x = stream_of(s);

	wake(x->h1);
	if (x->framing != FRAMING_CHUNKED)
		return true;
	begin_output(x);
	return h1_write_last_chunk(&x->out, trailers, x->takes_trailers ? count : 0);
}

static void h1_consume(struct stream *s)
{
	static const struct slice go_on = SLICE_LIT("HTTP/1.1 100 Continue\r\n\r\n");
	struct h1_stream *x = stream_of(s);
	struct h1 *h1 = x->h1;

	if (h1->reading != x)
		return;
	if (x->expects && s->response == RESPONSE_WAITING) {
		begin_output(x);
		x->cut = !bufq_append(&x->out, go_on.at, go_on.len);
	}
	x->expects = false;
	if (h1->starved) {
		h1->since += now(h1) - h1->starved;
		h1->starved = 0;
	}
	wake(h1);
}

static void h1_discard(struct stream *s)
{
	struct h1_stream *x = stream_of(s);
	struct h1 *h1 = x->h1;

	s->chunks = 0;
	if (h1->reading != x || h1->state != H1_BODY)
		return;
	moves(h1, H1_SKIP);
	h1->skipped = 0;
	wake(h1);
}

static void h1_reset(struct stream *s, unsigned status, unsigned retry_after)
{
	struct h1_stream *x = stream_of(s);
	bool keep = retry_after > 0 && s->request == REQUEST_ENDED && !x->close && !env_of(x->h1)->draining;
	struct h1_error error = {
		.status = status,
		.retry_after = retry_after,
		.no_body = s->head_method,
		.close = !keep,
		.keep = keep && x->keep_alive,
	};

	wake(x->h1);
	h1_discard(s);
	if (s->response == RESPONSE_WAITING && status)
		answer(x, &error);
	else if (s->response != RESPONSE_ENDED)
		x->cut = true;
	x->h1->last = x->h1->last || x->close || x->cut;
}

static const struct stream_ops h1_stream_ops = {
	.send_info = h1_send_info,
	.send_head = h1_send_head,
	.upgrade = h1_upgrade,
	.send_data = h1_send_data,
	.send_end = h1_send_end,
	.consume = h1_consume,
	.discard = h1_discard,
	.reset = h1_reset,
};

/* ---- what it waits for ---- */

static bool wants_read(const struct h1 *h1)
{
	switch ((enum h1_state)h1->state) {
	case H1_IDLE:
		return may_begin(h1);
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

/* When a body that comes at the least allowed rate would have come this far. */
static uint64_t body_deadline(const struct h1 *h1)
{
	const struct config *c = config_of(h1);

	if (c->body_rate == 0 || h1->eof)
		return UINT64_MAX;
	return h1->since + c->body_grace + h1->parse->body_bytes * 1000 / c->body_rate;
}

static uint64_t idle_deadline(const struct h1 *h1)
{
	const struct config *c = config_of(h1);

	if (h1->open > 0)
		return UINT64_MAX;
	if (h1->requests == 0 && !env_of(h1)->paused) /* what is not read cannot be late */
		return h1->since + (env_of(h1)->draining ? DRAIN_GRACE : c->first_byte_timeout);
	return h1->since + (env_of(h1)->crowded ? c->busy_idle_timeout : c->idle_timeout);
}

static uint64_t read_deadline(const struct h1 *h1)
{
	switch ((enum h1_state)h1->state) {
	case H1_IDLE:
		return idle_deadline(h1);
	case H1_HEAD:
		return h1->parse->head_len ? UINT64_MAX : h1->since + config_of(h1)->header_timeout;
	case H1_BODY:
		return stream_wanted(&h1->reading->s) ? body_deadline(h1) : UINT64_MAX;
	case H1_SKIP:
		if (h1->reading) /* a client that waits for 100 Continue sends nothing, and that is not its fault */
			return h1->reading->expects ? UINT64_MAX : body_deadline(h1);
		return h1->since + config_of(h1)->skip_timeout;
	case H1_TUNNEL:
	case H1_STOPPED:
		break;
	}
	return UINT64_MAX;
}

static uint64_t write_deadline(const struct h1 *h1)
{
	struct h1_stream *x = first_stream(h1);

	return x && x->out.len ? h1->progressed + config_of(h1)->write_timeout : UINT64_MAX;
}

static struct session_wants h1_wants(const struct session *s)
{
	const struct h1 *h1 = h1_of(s);
	uint64_t reading = read_deadline(h1), writing = write_deadline(h1);
	uint64_t deadline = reading < writing ? reading : writing;
	bool over = h1->state == H1_STOPPED && (h1->open == 0 || h1->closing == CLOSE_CUT);

	return (struct session_wants){
		.read = wants_read(h1),
		.peek = h1->open > 0 && (h1->state == H1_IDLE || h1->state == H1_HEAD),
		.alert = h1->open > 0,
		.write = has_output(h1),
		.idle = h1->state == H1_IDLE && h1->open == 0,
		.close = over ? (enum session_close)h1->closing : CLOSE_NOT,
		.deadline = deadline == UINT64_MAX ? 0 : deadline,
	};
}

static void read_timed_out(struct h1 *h1)
{
	switch ((enum h1_state)h1->state) {
	case H1_IDLE:
		stop(h1, CLOSE_NOW);
		break;
	case H1_HEAD:
		h1->parse->status = 408;
		refuse(h1, (const uint8_t *)"?????");
		break;
	case H1_BODY:
		refuse_body(h1, 408, END_TIMEOUT);
		break;
	case H1_SKIP:
		if (h1->reading)
			refuse_body(h1, 408, END_TIMEOUT);
		else
			stop(h1, CLOSE_LINGER);
		break;
	case H1_TUNNEL:
	case H1_STOPPED:
		break;
	}
}

static void h1_tick(struct session *s)
{
	struct h1 *h1 = h1_of(s);

	if (now(h1) >= write_deadline(h1)) {
		end_others(h1, END_TIMEOUT);
		stop(h1, CLOSE_CUT);
		return;
	}
	if (now(h1) >= read_deadline(h1))
		read_timed_out(h1);
}

static void h1_drain(struct session *s)
{
	struct h1 *h1 = h1_of(s);

	/* A client may not ask again when a connection that has not served it yet is closed (RFC 9112 9.3.1). */
	if (h1->state == H1_IDLE && h1->requests == 0)
		return;
	h1->last = true;
	if (h1->state == H1_IDLE && h1->open == 0)
		stop(h1, CLOSE_NOW);
}

static void h1_close(struct session *s, enum stream_end why)
{
	struct h1 *h1 = h1_of(s);

	end_others(h1, why);
	give_parse(h1);
	free(h1);
}

static const struct session_ops h1_ops = {
	.input = h1_input,
	.hangup = h1_hangup,
	.output = h1_output,
	.sent = h1_sent,
	.own = h1_own,
	.wants = h1_wants,
	.tick = h1_tick,
	.drain = h1_drain,
	.close = h1_close,
};

struct session *h1_start(struct session_owner *owner)
{
	struct h1 *h1 = malloc(sizeof *h1);

	if (!h1)
		return NULL;
	*h1 = (struct h1){.session = {&h1_ops, owner}};
	list_init(&h1->streams);
	h1->since = now(h1);
	return &h1->session;
}
