/* SPDX-License-Identifier: Apache-2.0 */
/* Requests on their way to the host: handed out for its demand, kept until there is some, or turned away. */
#include "bridge/queue.h"

#include "bridge/limit.h"
#include "bridge/say.h"
#include "bridge/secure.h"
#include "bridge/upgrade.h"
#include "bridge/via.h"
#include "bridge/waiting.h"
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

/* Shedding is cheap, but not at any rate: past max_shed per second, stop reading until the second ends. */
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
	struct exchange *x = container_of(node, struct exchange, timer);

	x->b->n.shed++;
	exchange_end(x, 503, END_TIMEOUT);
}

static void on_handler_timeout(struct wheel_node *node)
{
	struct exchange *x = container_of(node, struct exchange, timer);

	x->b->n.timeouts++;
	exchange_end(x, 503, END_TIMEOUT);
}

size_t queue_head_bound(const struct bridge *b, const struct request_head *h)
{
	size_t bound = 17 * MP_MAX_UINT + h->method.len + h->authority.len + h->path.len + h->query.len + h->target.len + 16 +
		       sizeof h->peer->local + fields_bound(h->fields, h->field_count);

	if (h->secure)
		bound += secure_bound(h->secure);
	if (h->peer->proxied)
		bound += via_bound(h->peer->proxied);
	return b->named.told ? bound + named_bound(&b->named) : bound;
}

static uint8_t *put_text_or_nil(uint8_t *at, struct slice text)
{
	return text.at ? mp_str(at, text) : mp_nil(at);
}

/* REQUEST's head, PROTOCOL.md section 5. *waited is where the time in the queue has to be written. */
static uint8_t *put_head(uint8_t *at, const struct exchange *x, const struct request_head *h, uint8_t **waited)
{
	const struct forwarded *named = &x->b->named;

	at = mp_array(at, named->told ? 18 : h->peer->proxied ? 17 : h->secure ? 16 : 15);
	at = mp_uint(at, h->version);
	at = h->method_index >= 0 ? mp_uint(at, (uint64_t)h->method_index) : mp_str(at, h->method);
	at = mp_uint(at, h->https);
	at = put_text_or_nil(at, h->authority);
	at = mp_str(at, h->path);
	at = put_text_or_nil(at, h->query);
	at = put_text_or_nil(at, h->target);
	at = h->body == BODY_NONE ? mp_nil(at) : mp_int(at, h->body);
	at = mp_uint(at, h->flags | upgrade_flags(x));
	at = mp_bin(at, slice_of(h->peer->address, h->peer->address_len));
	at = mp_uint(at, h->peer->port);
	at = mp_uint(at, h->peer->listener);
	*waited = at;
	at = mp_uint32_wide(at, 0);
	at = fields_encode(at, h->fields, h->field_count);
	at = mp_bin(at, slice_of(h->peer->local, h->peer->address_len ? h->peer->address_len + 2 : 0));
	if (h->secure)
		at = secure_put(at, h->secure);
	else if (h->peer->proxied || named->told)
		at = mp_nil(at);
	if (h->peer->proxied)
		at = via_put(at, h->peer->proxied);
	else if (named->told)
		at = mp_nil(at);
	return named->told ? named_put(at, named) : at;
}

/* The request was handed out. */
static void handed_out(struct exchange *x)
{
	struct bridge *b = x->b;

	x->known = true;
	x->sent_us = b->loop->now_us;
	x->timer.fire = on_handler_timeout;
	if (b->config->handler_timeout)
		wheel_set(&b->loop->wheel, &x->timer, b->loop->now + b->config->handler_timeout);
	b->demand--;
	b->n.requests++;
	work_begins(x);
}

/* Writes a REQUEST or a COMPLETE; both bin headers have the maximum width, since the size of the first is not known yet. */
static void send_request(struct exchange *x, const struct request_head *h, size_t bound)
{
	enum message_kind kind = x->whole.at ? MSG_COMPLETE : MSG_REQUEST;
	uint8_t *at = say_begin(x->b, kind, MP_MAX_UINT + 2 * MP_MAX_HEAD + bound + x->whole.len), *start, *waited;

	if (!at) {
		exchange_no_memory(x);
		return;
	}
	at = mp_uint(at, x->id);
	start = mp_bin32_head(at, 0);
	at = put_head(start, x, h, &waited);
	mp_bin32_head(start - MP_MAX_HEAD, (uint32_t)(at - start));
	if (x->whole.at) {
		at = mp_bin32_head(at, (uint32_t)x->whole.len);
		memcpy(at, x->whole.at, x->whole.len);
		at += x->whole.len;
	}
	link_commit(x->b->link, at);
	handed_out(x);
}

/* Keeps the head, encoded, until there is demand. */
static bool keep(struct exchange *x, const struct request_head *h, size_t bound)
{
	struct bridge *b = x->b;
	uint8_t *head = waiting_room(x, bound + x->whole.len), *waited, *end;

	if (!head)
		return false;
	end = put_head(head, x, h, &waited);
	if (x->whole.at)
		memcpy(end, x->whole.at, x->whole.len);
	waiting_begin(x, (uint32_t)(end - head), (uint32_t)(waited - head));
	x->timer.fire = on_queue_timeout;
	wheel_set(&b->loop->wheel, &x->timer, b->loop->now + b->config->queue_timeout);
	return true;
}

/* Sends the events that happened to a request while it waited. */
static void send_rest(struct exchange *x)
{
	struct msg_body_end end = {.stream = x->id, .trailers = slice_of(x->head + x->head_len, x->end_len)};
	bool well = x->end_len == 0 || say_body_end(x->b, &end);

	waiting_drop(x);
	if (!well)
		exchange_no_memory(x);
	else if (x->s->hung_up)
		say_hangup(x->b, &(struct msg_hangup){.stream = x->id});
}

static bool say_waiting(struct exchange *x)
{
	struct slice head = slice_of(x->head, x->head_len), body = slice_of(x->head + x->head_len, x->whole.len);

	if (x->whole.at)
		return say_complete(x->b, &(struct msg_complete){.stream = x->id, .head = head, .body = body});
	return say_request(x->b, &(struct msg_request){.stream = x->id, .head = head});
}

/* False: out of memory; it goes on waiting. */
static bool send_waiting(struct exchange *x)
{
	struct bridge *b = x->b;
	uint64_t waited = b->loop->now_us - x->whole_us;

	mp_uint32_wide(x->head + x->waited_at, waited > UINT32_MAX ? UINT32_MAX : (uint32_t)waited);
	if (!say_waiting(x))
		return false;
	waiting_leave(x);
	handed_out(x);
	send_rest(x);
	return true;
}

void queue_hand_out(struct bridge *b)
{
	struct list *turn;

	if (b->queued == 0 || b->handing_out)
		return; /* it will try again */
	b->handing_out = true;
	while ((turn = shares_next(&b->shares, b->demand, b->config->share)))
		if (!send_waiting(container_of(turn, struct exchange, turn)))
			break;
	b->handing_out = false;
}

/* Whether its peer may begin one more, and has no earlier one waiting. */
static bool may_begin(const struct bridge *b, const struct share *share)
{
	return share->waiting == 0 && share_may_begin(&b->shares, share, b->demand, b->config->share);
}

static bool may_wait(const struct bridge *b, const struct share *share)
{
	uint64_t most = b->config->max_queue, left = b->queued < most ? most - b->queued : 0;

	return share_allows(share->waiting, left, b->config->share);
}

/* Sends the body along with its request, unless the host may want it decoded. */
static void take_whole(struct exchange *x, const struct request_head *h, size_t bound)
{
	bool fits = bound + h->whole.len + QUEUE_OVERHEAD <= FRAME_PAYLOAD_MAX;

	if (!h->whole.at || !fits || x->coded.count || x->coded.unknown || (h->flags & REQUEST_MAY_UPGRADE))
		return;
	x->whole = h->whole;
	limit_came(x, h->whole.len);
	stream_take_whole(x->s);
}

bool queue_take(struct exchange *x, const struct request_head *h, size_t bound)
{
	bool begins = may_begin(x->b, x->share);

	if (!begins && !may_wait(x->b, x->share)) {
		count_shed(x->b);
		return false;
	}
	take_whole(x, h, bound);
	if (begins)
		send_request(x, h, bound);
	else if (!keep(x, h, bound)) {
		count_shed(x->b);
		return false;
	}
	return true;
}

void queue_init(struct bridge *b)
{
	list_init(&b->queue);
	wheel_node_init(&b->relief, on_relief);
	b->hand_out = queue_hand_out;
}

void queue_free(struct bridge *b)
{
	wheel_cancel(&b->loop->wheel, &b->relief);
}
