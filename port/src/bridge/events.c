/* The bridge's way out: events of streams and of connections become messages, against the host's credit. */
#include <assert.h>
#include <stdlib.h>

#include "bridge/parts.h"
#include "frames/fields.h"
#include "frames/mp.h"

enum { REQUEST_OVERHEAD = 32 };

/* ---- turned away ---- */

static void on_relief(struct wheel_node *node)
{
	struct bridge *b = container_of(node, struct bridge, relief);

	b->pressed = false;
	b->control.ops->pressure(b->control.ctx, false);
}

/* A request is turned away. That is cheap; but so many in a second are not, and then nothing more is read in it. */
static void count_shed(struct bridge *b)
{
	uint64_t second = b->loop->now / 1000;

	b->n.shed++;
	if (second != b->shed_second)
		b->shed_count = 0;
	b->shed_second = second;
	if (++b->shed_count < b->config->max_shed || b->pressed)
		return;
	b->pressed = true;
	b->control.ops->pressure(b->control.ctx, true);
	wheel_set(&b->loop->wheel, &b->relief, (second + 1) * 1000);
}

/* ---- requests ---- */

static void on_queue_timeout(struct wheel_node *node)
{
	struct stream *s = container_of(node, struct stream, timer);
	struct bridge *b = s->sink_data;

	b->n.shed++;
	bridge_end_stream(b, s, 503, END_TIMEOUT);
}

static void on_handler_timeout(struct wheel_node *node)
{
	struct stream *s = container_of(node, struct stream, timer);
	struct bridge *b = s->sink_data;

	b->n.timeouts++;
	bridge_end_stream(b, s, 503, END_TIMEOUT);
}

static size_t head_bound(const struct request_head *h)
{
	return 16 * MP_MAX_UINT + h->method.len + h->authority.len + h->path.len + h->query.len + h->target.len + 16 +
	       fields_bound(h->fields, h->field_count);
}

static uint8_t *put_text_or_nil(uint8_t *at, struct slice text)
{
	return text.at ? mp_str(at, text) : mp_nil(at);
}

/* REQUEST's head, PROTOCOL.md section 5. *waited is where the time in the queue is to be put. */
static uint8_t *put_head(uint8_t *at, const struct stream *s, const struct request_head *h, uint8_t **waited)
{
	at = mp_array(at, 14);
	at = mp_uint(at, h->version);
	at = h->method_index >= 0 ? mp_uint(at, (uint64_t)h->method_index) : mp_str(at, h->method);
	at = mp_uint(at, h->https);
	at = put_text_or_nil(at, h->authority);
	at = mp_str(at, h->path);
	at = put_text_or_nil(at, h->query);
	at = put_text_or_nil(at, h->target);
	at = h->body == BODY_NONE ? mp_nil(at) : mp_int(at, h->body);
	at = mp_uint(at, h->flags | bridge_upgrade_flags(s));
	at = mp_bin(at, slice_of(h->peer->address, h->peer->address_len));
	at = mp_uint(at, h->peer->port);
	at = mp_uint(at, h->peer->listener);
	*waited = at;
	at = mp_uint32_wide(at, 0);
	return fields_encode(at, h->fields, h->field_count);
}

static void watch_handler(struct bridge *b, struct stream *s)
{
	s->sent_us = b->loop->now_us;
	s->timer.fire = on_handler_timeout;
	if (b->config->handler_timeout)
		wheel_set(&b->loop->wheel, &s->timer, b->loop->now + b->config->handler_timeout);
	b->demand--;
	b->n.requests++;
}

static void send_request(struct bridge *b, struct stream *s, const struct request_head *h)
{
	size_t bound = head_bound(h);
	uint8_t *at = bridge_begin(b, MSG_REQUEST, MP_MAX_UINT + MP_MAX_HEAD + bound), *start, *waited;

	if (!at) {
		bridge_no_memory(b, s);
		return;
	}
	at = mp_uint(at, s->id);
	start = mp_bin32_head(at, 0);
	at = put_head(start, s, h, &waited);
	mp_bin32_head(start - MP_MAX_HEAD, (uint32_t)(at - start));
	link_commit(b->link, at);
	watch_handler(b, s);
}

/* Keeps the head, encoded, until there is demand. */
static bool hold(struct bridge *b, struct stream *s, const struct request_head *h)
{
	uint8_t *waited, *shrunk;

	s->held = malloc(head_bound(h));
	if (!s->held)
		return false;
	s->held_len = (uint32_t)(put_head(s->held, s, h, &waited) - s->held);
	s->held_waited = (uint32_t)(waited - s->held);
	shrunk = realloc(s->held, s->held_len);
	if (shrunk)
		s->held = shrunk;
	list_append(&b->queue, &s->queue);
	b->queued++;
	s->timer.fire = on_queue_timeout;
	wheel_set(&b->loop->wheel, &s->timer, b->loop->now + b->config->queue_timeout);
	return true;
}

/* A body may end while its head waits, if it is empty: the trailers, or nil, are kept behind the head. */
static bool hold_end(struct stream *s, const struct field *trailers, unsigned count)
{
	uint8_t *held = realloc(s->held, s->held_len + MP_MAX_UINT + fields_bound(trailers, count)), *end;

	if (!held)
		return false;
	s->held = held;
	end = held + s->held_len;
	s->held_end = (uint32_t)((count ? fields_encode(end, trailers, count) : mp_nil(end)) - end);
	return true;
}

static void send_held_end(struct bridge *b, struct stream *s, const uint8_t *trailers)
{
	uint8_t *at = bridge_begin(b, MSG_BODY_END, MP_MAX_UINT + s->held_end);

	if (!at) {
		bridge_no_memory(b, s);
		return;
	}
	at = mp_uint(at, s->id);
	memcpy(at, trailers, s->held_end);
	link_commit(b->link, at + s->held_end);
}

static void send_held(struct bridge *b, struct stream *s)
{
	uint64_t waited = b->loop->now_us - s->whole_us;
	uint8_t *at = bridge_begin(b, MSG_REQUEST, MP_MAX_UINT + MP_MAX_HEAD + s->held_len), *held = s->held;

	if (!at)
		return;
	list_remove(&s->queue);
	b->queued--;
	mp_uint32_wide(held + s->held_waited, waited > UINT32_MAX ? UINT32_MAX : (uint32_t)waited);
	at = mp_uint(at, s->id);
	link_commit(b->link, mp_bin(at, slice_of(held, s->held_len)));
	s->held = NULL;
	watch_handler(b, s);
	if (s->held_end) /* while it waited */
		send_held_end(b, s, held + s->held_len);
	if (s->hung_up && !s->detached)
		bridge_send_number(b, MSG_HANGUP, s->id);
	free(held);
}

void bridge_send_queued(struct bridge *b)
{
	while (b->demand > 0 && !list_empty(&b->queue)) {
		struct stream *s = container_of(b->queue.next, struct stream, queue);
		send_held(b, s);
		if (s->held)
			break;
	}
}

static void refuse_request(struct stream *s, unsigned status, unsigned retry_after)
{
	stream_detach(s);
	s->ops->reset(s, status, retry_after);
}

static void on_request(void *ctx, struct stream *s, const struct request_head *h)
{
	struct bridge *b = ctx;

	if (b->host_gone || head_bound(h) + REQUEST_OVERHEAD > FRAME_PAYLOAD_MAX) {
		b->n.refused++;
		refuse_request(s, b->host_gone ? 503 : 431, 0);
		return;
	}
	s->id = ++b->last_id;
	s->window = b->config->window;
	s->whole_us = b->loop->now_us;
	s->sink_data = b;
	if (!bridge_upgrade_note(s, h) || !idmap_put(&b->streams, s->id, s)) {
		bridge_upgrade_forget(s);
		refuse_request(s, 503, 0);
		return;
	}
	if (b->demand > 0 && list_empty(&b->queue)) {
		send_request(b, s, h);
	} else if (b->queued >= b->config->max_queue || !hold(b, s, h)) {
		count_shed(b);
		bridge_forget(b, s);
		refuse_request(s, 503, (unsigned)b->config->retry_after);
	}
}

/* ---- bodies and ends ---- */

static void on_body(void *ctx, struct stream *s, struct slice data)
{
	struct bridge *b = ctx;
	uint8_t *at = bridge_begin(b, MSG_BODY, MP_MAX_UINT + MP_MAX_HEAD + data.len);

	assert(s->chunks > 0 && data.len <= BRIDGE_CHUNK_MAX);
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
		bridge_end_stream(b, s, 0, END_CLOSED); /* without a Close frame */
		return;
	}
	if (s->held) {
		if (!hold_end(s, trailers, count))
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
	s->room += bytes;
	s->room_total += bytes;
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
	wheel_node_init(&b->relief, on_relief);
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
