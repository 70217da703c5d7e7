/* SPDX-License-Identifier: Apache-2.0 */
#include "bridge/decode.h"

#include <assert.h>
#include <stdlib.h>

#include "bridge/exchange.h"
#include "bridge/limit.h"
#include "bridge/orders.h"
#include "bridge/say.h"
#include "frames/fields.h"
#include "frames/mp.h"

/* TURN: decoded bytes per turn of the loop, of all bodies together. INPUT_COST: what an input byte counts for, since it may
 * decode to nothing. */
enum { TURN = 262144, INPUT_COST = 4 };

struct body_decoding {
	struct exchange *x;
	struct decoding *codings;
	struct list link;
	size_t memory;          /* memory of the decoder when it was last counted */
	size_t raw_at, raw_len; /* bytes of `raw` that are still to be decoded */
	bool more;              /* the decoder may have more output without further input */
	bool ended;             /* nothing follows the kept bytes */
	uint8_t *end;           /* the trailers, encoded; NULL: there are none */
	uint32_t end_len;
	uint8_t raw[DECODE_RAW];
};

static const struct exchange_kind decoded;

void decode_init(struct bridge *b)
{
	list_init(&b->decode.active);
	b->decode.left = TURN;
}

/* ---- its beginning and its end ---- */

/* A decoder may use at most as much memory as it leaves to others, so that large ones cannot keep small ones out. */
static bool count_memory(struct body_decoding *d)
{
	struct bridge *b = d->x->b;
	size_t memory = sizeof *d + decoding_memory(d->codings);

	b->decode.memory += memory - d->memory;
	d->memory = memory;
	return b->decode.memory <= b->config->decode_memory && memory <= b->config->decode_memory - b->decode.memory;
}

static void forget(struct exchange *x)
{
	struct body_decoding *d = x->decoding;

	if (!d)
		return;
	x->decoding = NULL;
	x->b->decode.memory -= d->memory;
	list_remove(&d->link);
	decoding_free(d->codings);
	free(d->end);
	free(d);
}

/* Answers with this status: the client's fault, or there is no memory for its body now. */
static void fail(struct exchange *x, unsigned status)
{
	if (x->s->response == RESPONSE_WAITING)
		x->b->n.refused++;
	exchange_end(x, status, END_ERROR);
}

/* RFC 9110 15.5.16: lists the codings that are accepted. */
static void refuse_coding(struct exchange *x)
{
	struct field accepted = {SLICE_LIT("accept-encoding"), decoding_accepted(), -1};
	struct response_head head = {.status = 415, .fields = &accepted, .field_count = 1};
	struct stream *s = x->s;
	struct bridge *b = x->b;
	uint64_t id = x->id;

	if (s->response != RESPONSE_WAITING) {
		exchange_end(x, 0, END_ERROR);
		return;
	}
	b->n.refused++;
	exchange_forget(x);
	stream_detach(s);
	s->ops->discard(s);
	s->bodiless = s->head_method;
	stream_response_moves(s, RESPONSE_STREAMING);
	if (s->ops->send_head(s, &head)) {
		stream_response_moves(s, RESPONSE_ENDED);
		s->ops->send_end(s, NULL, 0);
	}
	say_gone(b, &(struct msg_gone){.stream = id, .reason = slice_str(stream_end_name(END_ERROR))});
}

static bool in_range(struct bridge *b, const struct message *m)
{
	bool well = m->decode.ratio >= 1 && m->decode.ratio <= UINT32_MAX;

	if (!well)
		say_fault(b, m, "ratio", "must be 1 to 4294967295", "ignored");
	return well;
}

void order_decode(struct bridge *b, struct exchange *x, const struct message *m)
{
	uint64_t most = m->decode.limit, limit = b->config->max_body;
	struct body_decoding *d;

	if (!in_range(b, m) || x->s->request != REQUEST_OPEN || x->s->upgraded)
		return; /* the end of an empty body may have crossed this message */
	if (x->was_read) {
		exchange_break_rule(x, m, "message", "must come once, before the first READ");
		return;
	}
	x->was_read = true;
	if (x->coded.unknown) {
		refuse_coding(x);
		return;
	}
	if (x->coded.count == 0)
		return;
	d = calloc(1, sizeof *d);
	if (d)
		d->codings = decoding_new(&x->coded, most && (!limit || most < limit) ? most : limit, m->decode.ratio);
	if (!d || !d->codings) {
		free(d);
		exchange_no_memory(x);
		return;
	}
	d->x = x;
	list_init(&d->link);
	x->decoding = d;
	x->kind = &decoded;
	if (!count_memory(d))
		fail(x, 503);
}

/* ---- the work ---- */

static bool has_work(const struct body_decoding *d)
{
	return d->raw_len > 0 || d->more || d->ended;
}

static void activate(struct body_decoding *d)
{
	if (d->x->chunks > 0 && has_work(d) && !list_linked(&d->link))
		list_append(&d->x->b->decode.active, &d->link);
}

/* False: the body cannot be decoded, which ended the exchange. */
static bool judge(struct body_decoding *d, enum decoding_result result)
{
	static const unsigned statuses[] = {
		[DECODING_MALFORMED] = 400,
		[DECODING_TOO_LARGE] = 413,
		[DECODING_NO_MEMORY] = 503,
	};

	if (result <= DECODING_NEEDS_ROOM && count_memory(d))
		return true;
	fail(d->x, result <= DECODING_NEEDS_ROOM ? 503 : statuses[result]);
	return false;
}

/* Sends one chunk, of as many bytes as there are. False: the exchange has ended. */
static bool step(struct body_decoding *d, struct slice *in)
{
	struct exchange *x = d->x;
	struct bridge *b = x->b;
	size_t used, before = in->len, cost;
	enum decoding_result result = decoding_run(d->codings, in, b->decode.chunk, (size_t)x->chunk, &used);

	cost = used + (before - in->len) * INPUT_COST;
	b->decode.left -= cost < b->decode.left ? cost : b->decode.left;
	d->more = result == DECODING_NEEDS_ROOM;
	if (!judge(d, result))
		return false;
	if (used == 0)
		return true;
	if (say_body(b, &(struct msg_body){.stream = x->id, .data = slice_of(b->decode.chunk, used)})) {
		exchange_spend_chunk(x);
		return true;
	}
	exchange_no_memory(x);
	return false;
}

/* All is decoded. */
static void finish(struct body_decoding *d)
{
	struct exchange *x = d->x;
	struct bridge *b = x->b;
	struct slice trailers = slice_of(d->end, d->end_len);

	if (!decoding_is_whole(d->codings)) {
		fail(x, 400);
	} else if (!say_body_end(b, &(struct msg_body_end){.stream = x->id, .trailers = trailers})) {
		exchange_no_memory(x);
	} else {
		exchange_drop_chunks(x);
		forget(x);
	}
}

/* Decodes while there are credit, bytes, and time in this turn. False: the body or the exchange has ended. */
static bool decode(struct body_decoding *d, struct slice *in)
{
	struct bridge *b = d->x->b;

	while (d->x->chunks > 0 && b->decode.left > 0 && (in->len > 0 || d->more))
		if (!step(d, in))
			return false;
	if (in->len > 0 || d->more || !d->ended || d->x->chunks == 0)
		return true;
	finish(d);
	return false;
}

/* Decodes the kept bytes. */
static void work(struct body_decoding *d)
{
	struct slice in = slice_of(d->raw + d->raw_at, d->raw_len);
	struct exchange *x = d->x;

	list_remove(&d->link);
	if (!decode(d, &in))
		return;
	d->raw_at = (size_t)(in.at - d->raw);
	d->raw_len = in.len;
	activate(d);
	exchange_wants(x);
	if (x->s->wanted > 0)
		x->s->ops->consume(x->s);
}

void decode_run(struct bridge *b)
{
	while (b->decode.left > 0 && !list_empty(&b->decode.active) && !link_full(b->link))
		work(container_of(b->decode.active.next, struct body_decoding, link));
	b->decode.left = TURN;
}

bool decode_has_work(struct bridge *b)
{
	return !list_empty(&b->decode.active) && !link_full(b->link);
}

/* ---- events of the body ---- */

static uint64_t wants(const struct exchange *x)
{
	return x->decoding && has_work(x->decoding) ? 0 : DECODE_RAW;
}

static void body(struct exchange *x, struct slice data)
{
	struct body_decoding *d = x->decoding;
	struct slice in = data;

	assert(d->raw_len == 0 && data.len <= DECODE_RAW);
	limit_came(x, data.len);
	if (!decode(d, &in))
		return;
	d->raw_at = 0;
	d->raw_len = in.len;
	if (in.len)
		memcpy(d->raw, in.at, in.len);
	activate(d);
	exchange_wants(x);
}

static void ended(struct exchange *x, const struct field *trailers, unsigned count)
{
	struct body_decoding *d = x->decoding;
	struct slice none = SLICE_LIT("");

	if (count) {
		d->end = malloc(fields_bound(trailers, count));
		if (!d->end) {
			exchange_no_memory(x);
			return;
		}
		d->end_len = (uint32_t)(fields_encode(d->end, trailers, count) - d->end);
	}
	d->ended = true;
	if (d->raw_len > 0 || decode(d, &none))
		activate(d);
}

/* The body may have ended already, although the host has not been told. */
static void read_on(struct exchange *x, uint64_t chunks, uint64_t max)
{
	if (!x->decoding || (x->s->request != REQUEST_OPEN && !x->decoding->ended))
		return;
	exchange_grant(x, chunks, max);
	activate(x->decoding);
	if (x->s->wanted > 0)
		x->s->ops->consume(x->s);
}

static uint64_t sent(struct exchange *x, uint64_t n)
{
	return coding_sent(x->s, n);
}

static const struct exchange_kind decoded = {
	.body = body,
	.forget = forget,
	.wants = wants,
	.ended = ended,
	.read = read_on,
	.sent = sent,
};
