/* The bridge's way out: events of streams and of connections become messages, against the host's credit. */
#include <assert.h>

#include "bridge/parts.h"
#include "bridge/queue.h"
#include "bridge/work.h"
#include "frames/fields.h"
#include "frames/mp.h"

enum { REQUEST_OVERHEAD = 32 };

/* ---- requests ---- */

static void refuse_request(struct stream *s, unsigned status, unsigned retry_after)
{
	stream_detach(s);
	s->ops->reset(s, status, retry_after);
}

static void on_request(void *ctx, struct stream *s, const struct request_head *h)
{
	struct bridge *b = ctx;

	if (b->host_gone || bridge_head_bound(h) + REQUEST_OVERHEAD > FRAME_PAYLOAD_MAX) {
		b->n.refused++;
		refuse_request(s, b->host_gone ? 503 : 431, 0);
		return;
	}
	s->id = ++b->last_id;
	s->window = b->config->window;
	s->whole_us = b->loop->now_us;
	s->sink_data = b;
	s->share = bridge_share_of(b, h);
	if (!bridge_upgrade_note(s, h) || !idmap_put(&b->streams, s->id, s)) {
		bridge_upgrade_forget(s);
		bridge_work_forget(b, s);
		refuse_request(s, 503, 0);
		return;
	}
	if (!bridge_queue_take(b, s, h)) {
		bridge_forget(b, s);
		refuse_request(s, 503, (unsigned)b->config->retry_after);
	}
}

/* ---- bodies and ends ---- */

static void on_body(void *ctx, struct stream *s, struct slice data)
{
	struct bridge *b = ctx;
	uint8_t *at = bridge_begin(b, MSG_BODY, MP_MAX_UINT + MP_MAX_HEAD + data.len);

	assert(s->chunks > 0 && data.len <= CHUNK_MAX);
	if (!at) {
		bridge_no_memory(b, s);
		return;
	}
	s->chunks--;
	b->n.read_credit--;
	at = mp_uint(at, s->id);
	link_commit(b->link, mp_bin(at, data));
}

/* Of a tunnel: as much as there is credit for. */
static size_t on_bytes(void *ctx, struct stream *s, struct slice bytes)
{
	size_t used = 0;

	if (s->ws)
		return bridge_upgrade_bytes(ctx, s, bytes);
	s->active = ((struct bridge *)ctx)->loop->now;
	while (used < bytes.len && !s->detached && s->chunks > 0) {
		size_t n = bytes.len - used < s->chunk ? bytes.len - used : (size_t)s->chunk;
		on_body(ctx, s, slice_of(bytes.at + used, n));
		used += n;
	}
	return used;
}

static void on_end(void *ctx, struct stream *s, const struct field *trailers, unsigned count)
{
	struct bridge *b = ctx;
	uint8_t *at;

	if (s->ws) {
		bridge_upgrade_end(b, s);
		return;
	}
	if (s->held) {
		if (!bridge_queue_end(s, trailers, count))
			bridge_no_memory(b, s);
		return;
	}
	at = bridge_begin(b, MSG_BODY_END, MP_MAX_UINT + fields_bound(trailers, count));
	if (!at) {
		bridge_no_memory(b, s);
		return;
	}
	b->n.read_credit -= s->chunks;
	s->chunks = 0;
	at = mp_uint(at, s->id);
	link_commit(b->link, count ? fields_encode(at, trailers, count) : mp_nil(at));
}

/* Small amounts are gathered: a writer that waits has spent its whole window, so more will come. */
static void on_room(void *ctx, struct stream *s, uint64_t bytes)
{
	struct bridge *b = ctx;
	uint8_t *at;

	if (s->ws)
		bytes = ws_sent(s->ws, bytes);
	else
		s->room_total += bytes;
	s->room += bytes;
	b->n.body_queued -= bytes;
	if (s->response == RESPONSE_ENDED || s->room < b->config->window / 2)
		return;
	at = bridge_begin(b, MSG_ROOM, 2 * MP_MAX_UINT);
	if (!at)
		return;
	at = mp_uint(at, s->id);
	link_commit(b->link, mp_uint(at, s->room));
	s->window += s->room;
	s->room = 0;
}

static void on_hangup(void *ctx, struct stream *s)
{
	struct bridge *b = ctx;

	if (!s->held)
		bridge_send_number(b, MSG_HANGUP, s->id);
}

static uint8_t *put_report(struct bridge *b, uint8_t *at, const struct stream *s)
{
	at = mp_array(at, 6);
	at = mp_uint(at, s->status);
	at = mp_uint(at, s->body_in);
	at = mp_uint(at, s->body_out);
	at = mp_uint(at, s->sent_us - s->born_us);
	at = mp_uint(at, s->answered_us - s->sent_us);
	return mp_uint(at, b->loop->now_us - s->sent_us);
}

static void on_done(void *ctx, struct stream *s)
{
	struct bridge *b = ctx;
	uint8_t *at = bridge_begin(b, MSG_DONE, 8 * MP_MAX_UINT);

	b->n.responses++;
	bridge_work_ends(b, s);
	if (at) {
		at = mp_uint(at, s->id);
		link_commit_lazy(b->link, b->config->report ? put_report(b, at, s) : mp_nil(at));
	}
	bridge_forget(b, s);
}

static void on_reset(void *ctx, struct stream *s, enum stream_end why)
{
	struct bridge *b = ctx;
	uint64_t id = s->id;
	bool known = !s->held;

	bridge_upgrade_lost(b, s);
	bridge_forget(b, s);
	if (known)
		bridge_send_gone(b, id, why);
	if (s->owed && !(known && idmap_put(&b->owed, id, s)))
		s->ops->release(s);
}

static void on_lapse(void *ctx, struct stream *s)
{
	struct bridge *b = ctx;

	idmap_del(&b->owed, s->id);
}

/* ---- connections ---- */

static bool watch_wanted(void *ctx)
{
	struct bridge *b = ctx;

	return b->config->report;
}

static void on_opened(void *ctx, uint64_t connection, const struct peer *peer)
{
	struct bridge *b = ctx;
	uint8_t *at = bridge_no_room_for_talk(b)
			      ? NULL
			      : bridge_begin(b, MSG_OPENED, 3 * MP_MAX_UINT + MP_MAX_HEAD + sizeof peer->address);

	if (!at)
		return;
	at = mp_uint(at, connection);
	at = mp_bin(at, slice_of(peer->address, peer->address_len));
	at = mp_uint(at, peer->port);
	link_commit_lazy(b->link, mp_uint(at, peer->listener));
}

static void on_ended(void *ctx, uint64_t connection, enum stream_end why, uint64_t bytes_in, uint64_t bytes_out, uint64_t time)
{
	struct bridge *b = ctx;
	struct slice reason = slice_str(stream_end_name(why));
	uint8_t *at = bridge_no_room_for_talk(b) ? NULL : bridge_begin(b, MSG_ENDED, 4 * MP_MAX_UINT + MP_MAX_HEAD + reason.len);

	if (!at)
		return;
	at = mp_uint(at, connection);
	at = mp_str(at, reason);
	at = mp_uint(at, bytes_in);
	at = mp_uint(at, bytes_out);
	link_commit_lazy(b->link, mp_uint(at, time));
}

struct connection_watch bridge_watch(struct bridge *b)
{
	return (struct connection_watch){b, watch_wanted, on_opened, on_ended};
}

void bridge_events_init(struct bridge *b)
{
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
	};
}
