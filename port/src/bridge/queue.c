/* Requests on their way to the host: handed out against its demand, or kept until there is some, or turned away. */
#include "bridge/queue.h"

#include <stdlib.h>

#include "bridge/parts.h"
#include "bridge/work.h"
#include "frames/fields.h"
#include "frames/mp.h"

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

/* ---- heads ---- */

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

size_t bridge_head_bound(const struct request_head *h)
{
	return 17 * MP_MAX_UINT + h->method.len + h->authority.len + h->path.len + h->query.len + h->target.len + 16 +
	       sizeof h->peer->local + fields_bound(h->fields, h->field_count);
}

static uint8_t *put_text_or_nil(uint8_t *at, struct slice text)
{
	return text.at ? mp_str(at, text) : mp_nil(at);
}

/* REQUEST's head, PROTOCOL.md section 5. *waited is where the time in the queue is to be put. */
static uint8_t *put_head(uint8_t *at, const struct stream *s, const struct request_head *h, uint8_t **waited)
{
	at = mp_array(at, 15);
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
	at = fields_encode(at, h->fields, h->field_count);
	return mp_bin(at, slice_of(h->peer->local, h->peer->address_len ? h->peer->address_len + 2 : 0));
}

static void watch_handler(struct bridge *b, struct stream *s)
{
	s->sent_us = b->loop->now_us;
	s->timer.fire = on_handler_timeout;
	if (b->config->handler_timeout)
		wheel_set(&b->loop->wheel, &s->timer, b->loop->now + b->config->handler_timeout);
	b->demand--;
	b->n.requests++;
	bridge_work_begins(b, s);
}

static void send_request(struct bridge *b, struct stream *s, const struct request_head *h)
{
	size_t bound = bridge_head_bound(h);
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

	s->held = malloc(bridge_head_bound(h));
	if (!s->held)
		return false;
	s->held_len = (uint32_t)(put_head(s->held, s, h, &waited) - s->held);
	s->held_waited = (uint32_t)(waited - s->held);
	shrunk = realloc(s->held, s->held_len);
	if (shrunk)
		s->held = shrunk;
	list_append(&b->queue, &s->queue);
	b->queued++;
	shares_wait(&b->shares, s->share, &s->turn);
	s->timer.fire = on_queue_timeout;
	wheel_set(&b->loop->wheel, &s->timer, b->loop->now + b->config->queue_timeout);
	return true;
}

bool bridge_queue_end(struct stream *s, const struct field *trailers, unsigned count)
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

/* The stream waits no more. */
static void leave(struct bridge *b, struct stream *s)
{
	list_remove(&s->queue);
	b->queued--;
	shares_leave(&b->shares, s->share, &s->turn);
}

static void send_held(struct bridge *b, struct stream *s)
{
	uint64_t waited = b->loop->now_us - s->whole_us;
	uint8_t *at = bridge_begin(b, MSG_REQUEST, MP_MAX_UINT + MP_MAX_HEAD + s->held_len), *held = s->held;

	if (!at)
		return;
	leave(b, s);
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
	struct list *turn;

	if (b->handing_out)
		return; /* and will look again */
	b->handing_out = true;
	while ((turn = shares_next(&b->shares, b->demand, b->config->share))) {
		struct stream *s = container_of(turn, struct stream, turn);
		send_held(b, s);
		if (s->held)
			break;
	}
	b->handing_out = false;
}

/* Its peer may begin one more, and has none that came before. */
static bool may_begin(const struct bridge *b, const struct share *share)
{
	return share->waiting == 0 && share_allows(share->in_progress, b->demand, b->config->share);
}

static bool may_wait(const struct bridge *b, const struct share *share)
{
	uint64_t most = b->config->max_queue, left = b->queued < most ? most - b->queued : 0;

	return share_allows(share->waiting, left, b->config->share);
}

bool bridge_queue_take(struct bridge *b, struct stream *s, const struct request_head *h)
{
	if (may_begin(b, s->share)) {
		send_request(b, s, h);
		return true;
	}
	if (may_wait(b, s->share) && hold(b, s, h))
		return true;
	count_shed(b);
	return false;
}

void bridge_queue_forget(struct bridge *b, struct stream *s)
{
	if (list_linked(&s->queue))
		leave(b, s);
	free(s->held);
	s->held = NULL;
}

uint64_t bridge_queue_longest_wait(const struct bridge *b)
{
	if (list_empty(&b->queue))
		return 0;
	return b->loop->now_us - container_of(b->queue.next, struct stream, queue)->whole_us;
}

void bridge_queue_init(struct bridge *b)
{
	list_init(&b->queue);
	wheel_node_init(&b->relief, on_relief);
}

void bridge_queue_free(struct bridge *b)
{
	wheel_cancel(&b->loop->wheel, &b->relief);
}
