/* SPDX-License-Identifier: Apache-2.0 */
/* The bridge's way out: events of streams and of connections become messages, against the host's credit. */
#include "bridge/events.h"

#include <stdio.h>
#include <stdlib.h>

#include "bridge/limit.h"
#include "bridge/queue.h"
#include "bridge/say.h"
#include "bridge/secure.h"
#include "bridge/upgrade.h"
#include "bridge/waiting.h"
#include "bridge/work.h"
#include "frames/fields.h"
#include "frames/mp.h"
#include "frames/names.h"

/* ---- a request and its response ---- */

static void http_ended(struct exchange *x, const struct field *trailers, unsigned count)
{
	if (!x->head)
		exchange_body_ended(x, trailers, count);
	else if (!waiting_ended(x, trailers, count))
		exchange_no_memory(x);
}

static uint64_t http_sent(struct exchange *x, uint64_t n)
{
	return coding_sent(x->s, n);
}

static const struct exchange_kind http = {
	.body = exchange_body,
	.ended = http_ended,
	.read = exchange_read,
	.sent = http_sent,
};

/* ---- requests ---- */

static void refuse_request(struct stream *s, unsigned status, unsigned retry_after)
{
	stream_detach(s);
	s->ops->reset(s, status, retry_after);
}

/* For log lines, without the query, which may contain private data. */
static void put_label(struct exchange *x, const struct request_head *h)
{
	enum { METHOD_MAX = 16 };
	size_t method = h->method.len < METHOD_MAX ? h->method.len : METHOD_MAX, room = sizeof x->label - method - 2;
	size_t path = h->path.len < room ? h->path.len : room;

	memcpy(x->label, h->method.at, method);
	x->label[method] = ' ';
	if (path)
		memcpy(x->label + method + 1, h->path.at, path);
	x->label[method + 1 + path] = 0;
}

/* The authority without its port. */
static struct slice host_of(struct slice authority)
{
	size_t n = authority.len;

	while (n > 0 && authority.at[n - 1] != ':' && authority.at[n - 1] != ']')
		n--;
	if (n > 0 && authority.at[n - 1] == ':')
		authority.len = n - 1;
	return authority;
}

/* The same over https. NULL: no memory. */
static char *location_of(const struct request_head *h, unsigned port, size_t *len)
{
	struct slice host = host_of(h->authority);
	size_t size = host.len + h->path.len + h->query.len + 32;
	char *text = malloc(size), number[8] = "";

	if (!text)
		return NULL;
	if (port != 443)
		snprintf(number, sizeof number, ":%u", port);
	*len = (size_t)snprintf(text, size, "https://%.*s%s%.*s%s%.*s", (int)host.len, (const char *)host.at, number,
				(int)h->path.len, (const char *)h->path.at, h->query.at ? "?" : "", (int)h->query.len,
				h->query.at ? (const char *)h->query.at : "");
	return text;
}

/* A request to a listener that only redirects to https: the host is not told. Without a path there is no target to redirect to. */
static void redirect(struct stream *s, const struct request_head *h, unsigned port)
{
	size_t len = 0;
	bool can = h->authority.len > 0 && h->path.len > 0 && h->path.at[0] == '/';
	char *text = can ? location_of(h, port, &len) : NULL;
	struct field location = {SLICE_LIT("location"), slice_of(text, len), NAME_LOCATION};
	struct response_head head = {.status = 308, .fields = &location, .field_count = 1};

	if (!text) {
		refuse_request(s, 400, 0);
		return;
	}
	stream_detach(s);
	stream_response_moves(s, RESPONSE_STREAMING);
	s->ops->send_head(s, &head);
	stream_response_moves(s, RESPONSE_ENDED);
	s->ops->send_end(s, NULL, 0);
	free(text);
}

/* Takes back the count of a request that cannot be accepted. */
static void turn_away(struct bridge *b, struct stream *s, struct share *share, bool counted, unsigned status)
{
	limit_ends(share, counted);
	shares_give(&b->shares, share);
	refuse_request(s, status, 0);
}

static void on_request(void *ctx, struct stream *s, const struct request_head *h)
{
	struct bridge *b = ctx;
	unsigned port = b->config->listeners[h->peer->listener].redirect;
	struct exchange *x;
	struct share *share;
	bool exempt, counted;
	size_t bound;

	if (port) {
		redirect(s, h, port);
		return;
	}
	b->named = (struct forwarded){.https = -1};
	if (h->peer->trusted)
		forwarded_read(&b->named, h->fields, h->field_count, &b->config->trusted_proxies, b->config->trusted_fields);
	if (b->host_gone) {
		b->n.refused++;
		refuse_request(s, 503, 0);
		return;
	}
	share = work_share(b, h, &exempt);
	if (!limit_begins(b, s, h, share, exempt, &counted)) {
		shares_give(&b->shares, share);
		return;
	}
	bound = queue_head_bound(b, h);
	if (bound + QUEUE_OVERHEAD > FRAME_PAYLOAD_MAX) {
		b->n.refused++;
		turn_away(b, s, share, counted, 431);
		return;
	}
	x = exchange_new(b, s, &http);
	if (!x) {
		turn_away(b, s, share, counted, 503);
		return;
	}
	put_label(x, h);
	x->listener = h->peer->listener;
	x->h3 = h->version >= 30;
	x->share = share;
	x->counted = counted;
	limit_shapes(x);
	if (h->body != BODY_NONE)
		x->coded = decoding_plan(h->fields, h->field_count);
	x->accepts = (uint8_t)codings_note(&b->codings, h->fields, h->field_count);
	if (!upgrade_note(x, h)) {
		exchange_forget(x);
		refuse_request(s, 503, 0);
	} else if (!queue_take(x, h, bound)) {
		exchange_forget(x);
		refuse_request(s, 503, (unsigned)b->config->retry_after);
	}
}

/* ---- bodies and ends ---- */

static void on_body(void *ctx, struct stream *s, struct slice data)
{
	struct exchange *x = exchange_of(s);

	(void)ctx;
	x->kind->body(x, data);
}

static size_t on_bytes(void *ctx, struct stream *s, struct slice bytes)
{
	struct exchange *x = exchange_of(s);

	(void)ctx;
	return x->kind->bytes(x, bytes);
}

static void on_end(void *ctx, struct stream *s, const struct field *trailers, unsigned count)
{
	struct exchange *x = exchange_of(s);

	(void)ctx;
	x->kind->ended(x, trailers, count);
}

/* Small amounts are gathered: a writer waits only if its whole window is spent, so more room will come. */
static void on_room(void *ctx, struct stream *s, uint64_t bytes)
{
	struct bridge *b = ctx;
	struct exchange *x = exchange_of(s);

	limit_goes(x);
	if (x->kind->sent)
		bytes = x->kind->sent(x, bytes);
	x->room += bytes;
	exchange_unspend(x, bytes);
	if (s->response == RESPONSE_ENDED || coding_ends(s) || x->room < b->config->window / 2)
		return;
	if (!say_room(b, &(struct msg_room){.stream = x->id, .bytes = x->room}))
		return;
	x->window += x->room;
	x->room = 0;
}

static void on_kept(void *ctx, const struct peer *peer, int64_t bytes)
{
	struct bridge *b = ctx;
	struct share *share = peer->share ? peer->share : &b->shares.everyone;

	if (bytes > 0)
		shares_hold(&b->shares, share, (uint64_t)bytes);
	else if (shares_let_go(&b->shares, share, (uint64_t)-bytes, b->config->share))
		b->hand_out(b);
}

/* The host's bytes of a compressed response have left although their encoded form is empty. */
static void on_coded(void *ctx, struct stream *s)
{
	on_room(ctx, s, 0);
}

static void on_not_coded(void *ctx, struct stream *s)
{
	(void)ctx;
	exchange_fails(exchange_of(s));
}

static void on_hangup(void *ctx, struct stream *s)
{
	struct exchange *x = exchange_of(s);

	if (x->known)
		say_hangup(ctx, &(struct msg_hangup){.stream = x->id});
}

static struct slice report(const struct exchange *x, uint8_t room[8 * MP_MAX_UINT])
{
	const struct stream *s = x->s;
	uint8_t *at = mp_array(room, 6);

	at = mp_uint(at, s->status);
	at = mp_uint(at, s->body_in);
	at = mp_uint(at, x->body_out);
	at = mp_uint(at, x->sent_us - s->born_us);
	at = mp_uint(at, x->answered_us - x->sent_us);
	at = mp_uint(at, x->b->loop->now_us - x->sent_us);
	return slice_of(room, (size_t)(at - room));
}

static void on_done(void *ctx, struct stream *s)
{
	struct bridge *b = ctx;
	struct exchange *x = exchange_of(s);
	uint8_t room[8 * MP_MAX_UINT];

	b->n.responses++;
	work_ends(x);
	say_done(b, &(struct msg_done){.stream = x->id, .report = b->config->report ? report(x, room) : (struct slice){0}});
	exchange_forget(x);
}

static void on_reset(void *ctx, struct stream *s, enum stream_end why)
{
	struct exchange *x = exchange_of(s);
	uint64_t id = x->id;
	bool known = x->known;

	if (why == END_FILE)
		exchange_blames_file(x);
	if (x->kind->lost)
		why = x->kind->lost(x, why);
	exchange_part(x);
	if (known)
		say_gone(ctx, &(struct msg_gone){.stream = id, .reason = slice_str(stream_end_name(why))});
}

static void on_lapse(void *ctx, struct stream *s)
{
	(void)ctx;
	exchange_lapse(exchange_of(s));
}

/* ---- connections ---- */

static bool watch_wanted(void *ctx)
{
	struct bridge *b = ctx;

	return b->config->report;
}

static void on_opened(void *ctx, uint64_t connection, const struct peer *peer)
{
	say_opened(ctx, &(struct msg_opened){
				.connection = connection,
				.peer = slice_of(peer->address, peer->address_len),
				.peer_port = peer->port,
				.listener = peer->listener,
			});
}

static void on_secured(void *ctx, uint64_t connection, uint64_t time, const struct secure *s, const char *fault)
{
	say_secured(ctx, &(struct msg_secured){
				 .connection = connection,
				 .duration = time,
				 .tls = s ? secure_pack(s) : (struct slice){0},
				 .fault = slice_str(fault),
			 });
}

static void on_ended(void *ctx, uint64_t connection, enum stream_end why, uint64_t bytes_in, uint64_t bytes_out, uint64_t time)
{
	say_ended(ctx, &(struct msg_ended){
			       .connection = connection,
			       .reason = slice_str(stream_end_name(why)),
			       .bytes_in = bytes_in,
			       .bytes_out = bytes_out,
			       .duration = time,
		       });
}

struct connection_watch bridge_watch(struct bridge *b)
{
	return (struct connection_watch){b, watch_wanted, on_opened, on_secured, on_ended};
}

void events_init(struct bridge *b)
{
	codings_init(&b->codings, b, on_coded, on_not_coded);
	b->sink = (struct stream_sink){
		.ctx = b,
		.on_request = on_request,
		.on_body = on_body,
		.on_bytes = on_bytes,
		.on_end = on_end,
		.on_room = on_room,
		.on_hangup = on_hangup,
		.on_done = on_done,
		.on_reset = on_reset,
		.on_lapse = on_lapse,
		.on_kept = on_kept,
	};
}
