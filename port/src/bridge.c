#include "bridge.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/sm.h"
#include "bridge_in.h"
#include "frames/fields.h"
#include "frames/mp.h"
#include "stream/rules.h"
#include "version.h"

enum { CHUNK_MAX = 65000, REQUEST_OVERHEAD = 32, EXIT_CONFIG = 2, EXIT_LISTEN = 3, EXIT_FRAMING = 4 };

static const char *const state_names[] = {"new", "serving", "draining", "over"};
static const uint32_t state_next[] = {
	[BRIDGE_NEW] = SM_BIT(BRIDGE_SERVING) | SM_BIT(BRIDGE_OVER),
	[BRIDGE_SERVING] = SM_BIT(BRIDGE_DRAINING) | SM_BIT(BRIDGE_OVER),
	[BRIDGE_DRAINING] = SM_BIT(BRIDGE_OVER),
	[BRIDGE_OVER] = 0,
};
static const struct sm machine = {"bridge", state_names, state_next};

/* ---- messages out ---- */

/* The beginning of a message of this kind, with room for `body` bytes after it. NULL: no memory; the message is lost. */
uint8_t *bridge_begin(struct bridge *b, enum message_kind kind, size_t body)
{
	uint8_t *at = link_reserve(b->link, 2 + body);

	if (!at)
		return NULL;
	at = mp_array(at, (uint32_t)strlen(message_def(kind)->format) + 1);
	return mp_uint(at, kind);
}

/* Diagnostics are dropped when the host does not keep up. */
static bool no_room_for_talk(struct bridge *b)
{
	if (b->link->queued <= b->link->high)
		return false;
	b->n.logs_dropped++;
	return true;
}

void bridge_send_error(struct bridge *b, const struct message *m, const char *field, const char *rule, const char *consequence)
{
	bool has_stream = m->def && m->def->format[0] == 's' && m->field[0].u > 0;
	uint8_t *at;

	b->n.errors++;
	if (no_room_for_talk(b))
		return;
	at = bridge_begin(b, MSG_ERROR, 2 * MP_MAX_UINT + 3 * MP_MAX_HEAD + strlen(field) + strlen(rule) + strlen(consequence));
	if (!at)
		return;
	at = m->kind == MSG_NONE ? mp_nil(at) : mp_uint(at, m->kind);
	at = has_stream ? mp_uint(at, m->field[0].u) : mp_nil(at);
	at = mp_str(at, slice_str(field));
	at = mp_str(at, slice_str(rule));
	at = mp_str(at, slice_str(consequence));
	link_commit(b->link, at);
}

void bridge_log(void *ctx, enum log_level level, const char *text)
{
	struct bridge *b = ctx;
	struct slice name = slice_str(log_level_name(level));
	uint8_t *at = no_room_for_talk(b) ? NULL : bridge_begin(b, MSG_LOG, 2 * MP_MAX_HEAD + name.len + strlen(text));

	if (!at)
		return;
	at = mp_str(at, name);
	at = mp_str(at, slice_str(text));
	link_commit(b->link, at);
}

static void send_gone(struct bridge *b, uint64_t id, enum stream_end why)
{
	struct slice reason = slice_str(stream_end_name(why));
	uint8_t *at = bridge_begin(b, MSG_GONE, MP_MAX_UINT + MP_MAX_HEAD + reason.len);

	if (!at)
		return;
	at = mp_uint(at, id);
	at = mp_str(at, reason);
	link_commit(b->link, at);
}

static void send_number(struct bridge *b, enum message_kind kind, uint64_t number)
{
	uint8_t *at = bridge_begin(b, kind, MP_MAX_UINT);

	if (at)
		link_commit(b->link, mp_uint(at, number));
}

/* ---- the life of a stream here ---- */

static void forget(struct bridge *b, struct stream *s)
{
	idmap_del(&b->streams, s->id);
	wheel_cancel(&b->loop->wheel, &s->timer);
	b->n.read_credit -= s->chunks;
	b->n.body_queued -= s->body_out - (s->body_out < s->room_total ? s->body_out : s->room_total);
	if (list_linked(&s->queue)) {
		list_remove(&s->queue);
		b->queued--;
	}
	free(s->held);
	s->held = NULL;
	upgrade_forget(s);
}

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

/* The host broke a rule, failed, or was too slow: answers with status if nothing was sent, else cuts. */
void bridge_end_stream(struct bridge *b, struct stream *s, unsigned status, enum stream_end why)
{
	uint64_t id = s->id;
	bool known = !s->held, said = upgrade_says_goodbye(s, why);

	forget(b, s);
	stream_detach(s);
	if (said)
		s->ops->send_end(s, NULL, 0);
	else
		s->ops->reset(s, status, status == 503 ? (unsigned)b->config->retry_after : 0);
	if (known)
		send_gone(b, id, why);
}

void bridge_break_rule(struct bridge *b, struct stream *s, const struct message *m, const char *field, const char *rule)
{
	bridge_send_error(b, m, field, rule, "reset");
	bridge_end_stream(b, s, 500, END_ERROR);
}

void bridge_no_memory(struct bridge *b, struct stream *s)
{
	log_line(LOG_ERROR, "out of memory: a stream is cut");
	bridge_end_stream(b, s, 0, END_ERROR);
}

/* ---- events: requests ---- */

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
	at = mp_uint(at, h->flags | upgrade_flags(s));
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
	uint8_t *start = malloc(head_bound(h)), *waited;

	if (!start)
		return false;
	s->held_len = (uint32_t)(put_head(start, s, h, &waited) - start);
	s->held_waited = (uint32_t)(waited - start);
	s->held = realloc(start, s->held_len);
	if (!s->held)
		s->held = start;
	list_append(&b->queue, &s->queue);
	b->queued++;
	s->timer.fire = on_queue_timeout;
	wheel_set(&b->loop->wheel, &s->timer, b->loop->now + b->config->queue_timeout);
	return true;
}

static void send_held(struct bridge *b, struct stream *s)
{
	uint64_t waited = b->loop->now_us - s->whole_us;
	uint8_t *at = bridge_begin(b, MSG_REQUEST, MP_MAX_UINT + MP_MAX_HEAD + s->held_len);

	if (!at)
		return;
	list_remove(&s->queue);
	b->queued--;
	mp_uint32_wide(s->held + s->held_waited, waited > UINT32_MAX ? UINT32_MAX : (uint32_t)waited);
	at = mp_uint(at, s->id);
	link_commit(b->link, mp_bin(at, slice_of(s->held, s->held_len)));
	free(s->held);
	s->held = NULL;
	watch_handler(b, s);
	if (s->hung_up) /* while it waited */
		send_number(b, MSG_HANGUP, s->id);
}

static void send_queued(struct bridge *b)
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
	upgrade_note(s, h);
	if (!idmap_put(&b->streams, s->id, s)) {
		upgrade_forget(s);
		refuse_request(s, 503, 0);
		return;
	}
	if (b->demand > 0 && list_empty(&b->queue)) {
		send_request(b, s, h);
	} else if (b->queued >= b->config->max_queue || !hold(b, s, h)) {
		count_shed(b);
		forget(b, s);
		refuse_request(s, 503, (unsigned)b->config->retry_after);
	}
}

/* ---- events: bodies and ends ---- */

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
		return upgrade_bytes(ctx, s, bytes);
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
		send_number(b, MSG_HANGUP, s->id);
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
	forget(b, s);
}

static void on_reset(void *ctx, struct stream *s, enum stream_end why)
{
	struct bridge *b = ctx;
	uint64_t id = s->id;
	bool known = !s->held;

	forget(b, s);
	if (known)
		send_gone(b, id, why);
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
	uint8_t *at = no_room_for_talk(b) ? NULL
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
	uint8_t *at = no_room_for_talk(b) ? NULL : bridge_begin(b, MSG_ENDED, 4 * MP_MAX_UINT + MP_MAX_HEAD + reason.len);

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

/* ---- messages in: the hello ---- */

static void over(struct bridge *b, int status)
{
	if (b->state != BRIDGE_OVER)
		sm_move(&machine, &b->state, BRIDGE_OVER);
	b->control.ops->stop(b->control.ctx, status);
}

static uint8_t *put_limits(struct bridge *b, uint8_t *at)
{
	const struct option_def *def;
	uint32_t count = 0;

	while (option_at(count))
		count++;
	at = mp_map(at, count);
	for (unsigned i = 0; (def = option_at(i)); i++) {
		at = mp_str(at, slice_str(def->name));
		at = mp_uint(at, option_value(b->config, def));
	}
	return at;
}

static uint8_t *put_listeners(struct bridge *b, uint8_t *at)
{
	struct listener_name name;

	at = mp_array(at, b->config->listener_count);
	for (unsigned i = 0; i < b->config->listener_count; i++) {
		b->control.ops->name(b->control.ctx, i, &name);
		at = mp_map(at, 2);
		at = mp_str(at, SLICE_LIT("address"));
		at = mp_str(at, slice_str(name.address));
		at = mp_str(at, SLICE_LIT("port"));
		at = mp_uint(at, name.port);
	}
	return at;
}

static void send_ready(struct bridge *b)
{
	uint8_t *at = bridge_begin(b, MSG_READY, 4096 + LISTENERS_MAX * (ADDRESS_MAX + 32));

	if (!at)
		return;
	at = mp_uint(at, SPARX_PROTOCOL_VERSION);
	at = mp_map(at, 7);
	at = mp_str(at, SLICE_LIT("version"));
	at = mp_str(at, SLICE_LIT(SPARX_VERSION));
	at = mp_str(at, SLICE_LIT("pid"));
	at = mp_uint(at, (uint64_t)getpid());
	at = mp_str(at, SLICE_LIT("features"));
	at = mp_array(at, 5);
	at = mp_str(at, SLICE_LIT("http/1.1"));
	at = mp_str(at, SLICE_LIT("http/2"));
	at = mp_str(at, SLICE_LIT("push"));
	at = mp_str(at, SLICE_LIT("upgrade"));
	at = mp_str(at, SLICE_LIT("websocket"));
	at = mp_str(at, SLICE_LIT("listeners"));
	at = put_listeners(b, at);
	at = mp_str(at, SLICE_LIT("limits"));
	at = put_limits(b, at);
	at = mp_str(at, SLICE_LIT("max_frame"));
	at = mp_uint(at, b->config->max_frame);
	at = mp_str(at, SLICE_LIT("sandbox"));
	at = mp_str(at, SLICE_LIT("off"));
	link_commit(b->link, at);
}

static void hello_failed(struct bridge *b, const struct message *m, const char *field, const char *rule, int status)
{
	bridge_send_error(b, m, field, rule, "exit");
	over(b, status);
}

static void take_hello(struct bridge *b, const struct message *m)
{
	struct config_fault fault;

	if (m->field[0].u != SPARX_PROTOCOL_VERSION) {
		hello_failed(b, m, "version", "must be 1", EXIT_CONFIG);
		return;
	}
	if (!config_read(b->config, m->field[1].bytes, &fault)) {
		hello_failed(b, m, fault.field, fault.rule, EXIT_CONFIG);
		return;
	}
	if (!b->control.ops->listen(b->control.ctx, &fault)) {
		hello_failed(b, m, fault.field, fault.rule, EXIT_LISTEN);
		return;
	}
	link_limits(b->link, (size_t)b->config->max_frame, (size_t)b->config->max_link);
	sm_move(&machine, &b->state, BRIDGE_SERVING);
	send_ready(b);
}

/* ---- messages in: streams ---- */

/* The live stream that a message speaks of; NULL if it has ended, or there never was one (which is told). */
struct stream *bridge_find(struct bridge *b, const struct message *m)
{
	uint64_t id = m->field[0].u;
	struct stream *s = idmap_get(&b->streams, id);

	if (s && !s->held)
		return s;
	if (s || id == 0 || id > b->last_id)
		bridge_send_error(b, m, "stream", "was never given out", "ignored");
	else
		b->n.dropped++;
	return NULL;
}

static bool in_range(struct bridge *b, const struct message *m, unsigned i, uint64_t min, uint64_t max)
{
	char field[32], rule[64];

	if (m->field[i].u >= min && m->field[i].u <= max)
		return true;
	message_field_name(m->def, i, field, sizeof field);
	snprintf(rule, sizeof rule, "must be %llu to %llu", (unsigned long long)min, (unsigned long long)max);
	bridge_send_error(b, m, field, rule, "ignored");
	return false;
}

static void take_demand(struct bridge *b, const struct message *m)
{
	if (!in_range(b, m, 0, 1, UINT32_MAX))
		return;
	b->demand += m->field[0].u;
	send_queued(b);
}

static void take_read(struct bridge *b, const struct message *m)
{
	struct stream *s = bridge_find(b, m);

	if (!s || !in_range(b, m, 1, 1, UINT32_MAX) || !in_range(b, m, 2, 1, UINT32_MAX))
		return;
	if (s->request != REQUEST_OPEN)
		return; /* the end and this have crossed */
	s->chunks += m->field[1].u;
	b->n.read_credit += m->field[1].u;
	s->chunk = m->field[2].u < CHUNK_MAX ? m->field[2].u : CHUNK_MAX;
	s->ops->consume(s);
}

static void take_discard(struct bridge *b, const struct message *m)
{
	struct stream *s = bridge_find(b, m);

	if (!s || s->request != REQUEST_OPEN || s->upgraded)
		return;
	stream_request_moves(s, REQUEST_SKIPPED);
	b->n.read_credit -= s->chunks;
	s->chunks = 0;
	s->ops->discard(s);
}

bool bridge_read_fields(struct bridge *b, struct stream *s, const struct message *m, unsigned i, unsigned *count)
{
	const char *rule;
	char field[32];

	*count = 0;
	if (m->field[i].nil || fields_decode(m->field[i].bytes, b->fields, sizeof b->fields / sizeof *b->fields, count, &rule))
		return true;
	message_field_name(m->def, i, field, sizeof field);
	bridge_break_rule(b, s, m, field, rule);
	return false;
}

/* The application's mistake: the host's developer is told in the log too. */
void bridge_refuse(struct bridge *b, struct stream *s, const struct message *m, const char *field, const char *rule)
{
	log_line(LOG_ERROR, "response refused: %s %s", field, rule);
	bridge_break_rule(b, s, m, field, rule);
}

void bridge_first_answer(struct bridge *b, struct stream *s, unsigned status)
{
	wheel_cancel(&b->loop->wheel, &s->timer);
	s->answered_us = b->loop->now_us;
	s->status = (uint16_t)status;
}

/* The head of a response, checked, and handed to the session. False: the stream has ended. */
static bool start_response(struct bridge *b, struct stream *s, const struct message *m, int64_t length)
{
	struct response_head head = {.status = (unsigned)m->field[1].u, .fields = b->fields, .length = length};
	const char *rule;

	if (s->response != RESPONSE_WAITING) {
		bridge_break_rule(b, s, m, "message", "the response has begun already");
		return false;
	}
	if (m->field[1].u < 200 || m->field[1].u > 599) {
		bridge_refuse(b, s, m, "status", "must be 200 to 599");
		return false;
	}
	if (!bridge_read_fields(b, s, m, 2, &head.field_count))
		return false;
	s->bodiless = never_has_body(head.status, s->head_method);
	rule = response_check(&head, s->bodiless);
	if (rule) {
		bridge_refuse(b, s, m, "headers", rule);
		return false;
	}
	s->left = head.length;
	bridge_first_answer(b, s, head.status);
	stream_response_moves(s, RESPONSE_STREAMING);
	if (s->ops->send_head(s, &head))
		return true;
	bridge_no_memory(b, s);
	return false;
}

static bool spend_window(struct bridge *b, struct stream *s, const struct message *m, unsigned i)
{
	char field[32];

	message_field_name(m->def, i, field, sizeof field);
	if (m->field[i].bytes.len > s->window) {
		bridge_break_rule(b, s, m, field, "is more than the window");
		return false;
	}
	if (!s->bodiless && s->left != LENGTH_UNKNOWN && m->field[i].bytes.len > (uint64_t)s->left) {
		bridge_refuse(b, s, m, field, "is more than the length that was said");
		return false;
	}
	return true;
}

static bool send_body(struct bridge *b, struct stream *s, struct slice data)
{
	s->window -= data.len;
	s->body_out += data.len;
	b->n.body_queued += data.len;
	if (!s->bodiless && s->left != LENGTH_UNKNOWN)
		s->left -= (int64_t)data.len;
	if (s->ops->send_data(s, data))
		return true;
	bridge_no_memory(b, s);
	return false;
}

static void finish_response(struct bridge *b, struct stream *s, unsigned trailers)
{
	stream_response_moves(s, RESPONSE_ENDED);
	if (!s->ops->send_end(s, b->fields, trailers))
		bridge_no_memory(b, s);
}

static void take_respond(struct bridge *b, const struct message *m)
{
	struct stream *s = bridge_find(b, m);
	size_t len = m->field[3].bytes.len;
	int64_t length;

	if (!s)
		return;
	/* without a body to send, only the host's content-length can tell its size */
	length = never_has_body((unsigned)m->field[1].u, s->head_method) && len == 0 ? LENGTH_UNKNOWN : (int64_t)len;
	if (s->response == RESPONSE_WAITING && len > s->window) {
		bridge_break_rule(b, s, m, "body", "is more than the window");
		return;
	}
	if (!start_response(b, s, m, length))
		return;
	if (send_body(b, s, m->field[3].bytes))
		finish_response(b, s, 0);
}

static void take_head(struct bridge *b, const struct message *m)
{
	struct stream *s = bridge_find(b, m);

	if (!s)
		return;
	if (!m->field[3].nil && m->field[3].u > INT64_MAX) {
		bridge_refuse(b, s, m, "length", "is too large");
		return;
	}
	start_response(b, s, m, m->field[3].nil ? LENGTH_UNKNOWN : (int64_t)m->field[3].u);
}

static void take_data(struct bridge *b, const struct message *m)
{
	struct stream *s = bridge_find(b, m);

	if (!s)
		return;
	if (s->response != RESPONSE_STREAMING)
		bridge_break_rule(b, s, m, "message", "the response has not begun, or has ended");
	else if (s->ws)
		bridge_break_rule(b, s, m, "message", "the stream is a WebSocket");
	else if (spend_window(b, s, m, 1))
		send_body(b, s, m->field[1].bytes);
}

static void take_end(struct bridge *b, const struct message *m)
{
	struct stream *s = bridge_find(b, m);
	const char *rule;
	unsigned count;

	if (!s || !bridge_read_fields(b, s, m, 1, &count))
		return;
	rule = trailers_check(b->fields, count);
	if (s->response != RESPONSE_STREAMING)
		bridge_break_rule(b, s, m, "message", "the response has not begun, or has ended");
	else if (s->ws)
		bridge_break_rule(b, s, m, "message", "the stream is a WebSocket");
	else if (!s->bodiless && s->left > 0)
		bridge_refuse(b, s, m, "message", "the body is shorter than the length that was said");
	else if (rule)
		bridge_refuse(b, s, m, "trailers", rule);
	else
		finish_response(b, s, count);
}

static void take_inform(struct bridge *b, const struct message *m)
{
	struct stream *s = bridge_find(b, m);
	unsigned status = (unsigned)m->field[1].u, count;
	const char *rule;

	if (!s || !in_range(b, m, 1, 100, 199) || !bridge_read_fields(b, s, m, 2, &count))
		return;
	rule = info_check(status, b->fields, count);
	if (s->response != RESPONSE_WAITING)
		bridge_break_rule(b, s, m, "message", "the response has begun already");
	else if (rule)
		bridge_refuse(b, s, m, "headers", rule);
	else if (!s->ops->send_info(s, status, b->fields, count))
		bridge_no_memory(b, s);
}

/* Visible ASCII that begins with a slash, without a fragment. */
static bool is_path(struct slice target)
{
	for (size_t i = 0; i < target.len; i++)
		if (target.at[i] <= 0x20 || target.at[i] >= 0x7f || target.at[i] == '#')
			return false;
	return target.len > 0 && target.at[0] == '/';
}

/* Only a client can say whether it takes pushes, and may have changed its mind: one that comes in vain is no mistake. */
static void take_push(struct bridge *b, const struct message *m)
{
	struct stream *s = bridge_find(b, m);
	const char *rule;
	unsigned count;

	if (!s || !bridge_read_fields(b, s, m, 2, &count))
		return;
	rule = info_check(103, b->fields, count);
	if (!is_path(m->field[1].bytes))
		bridge_refuse(b, s, m, "target", "must be a path, and a query if there is one");
	else if (rule)
		bridge_refuse(b, s, m, "headers", rule);
	else if (s->response != RESPONSE_ENDED && s->ops->push && !s->ops->push(s, m->field[1].bytes, b->fields, count))
		bridge_no_memory(b, s);
}

static void take_abort(struct bridge *b, const struct message *m)
{
	struct stream *s = bridge_find(b, m);

	if (!s || !in_range(b, m, 1, 400, 599))
		return;
	if (s->response != RESPONSE_ENDED) /* who answered whole has not failed its client */
		bridge_end_stream(b, s, (unsigned)m->field[1].u, END_ABORTED);
}

/* ---- messages in: the whole ---- */

static uint8_t *put_figure(uint8_t *at, const char *name, uint64_t value)
{
	at = mp_str(at, slice_str(name));
	return mp_uint(at, value);
}

/* µs for which the first of the queue has waited. */
static uint64_t longest_wait(const struct bridge *b)
{
	if (list_empty(&b->queue))
		return 0;
	return b->loop->now_us - container_of(b->queue.next, struct stream, queue)->whole_us;
}

static void take_stats(struct bridge *b, const struct message *m)
{
	uint8_t *at = bridge_begin(b, MSG_FIGURES, 1024);
	struct control_figures f;

	if (!at)
		return;
	b->control.ops->stats(b->control.ctx, &f);
	at = mp_uint(at, m->field[0].u);
	at = mp_map(at, 21);
	at = put_figure(at, "connections", f.connections);
	at = put_figure(at, "idle", f.idle);
	at = put_figure(at, "lingering", f.lingering);
	at = put_figure(at, "streams", b->streams.count);
	at = put_figure(at, "queued", b->queued);
	at = put_figure(at, "queue_wait", longest_wait(b));
	at = put_figure(at, "demand", b->demand);
	at = put_figure(at, "accepted", f.accepted);
	at = put_figure(at, "requests", b->n.requests);
	at = put_figure(at, "responses", b->n.responses);
	at = put_figure(at, "shed", b->n.shed);
	at = put_figure(at, "timeouts", b->n.timeouts);
	at = put_figure(at, "rejected", f.rejected + b->n.refused);
	at = put_figure(at, "dropped", b->n.dropped);
	at = put_figure(at, "errors", b->n.errors);
	at = put_figure(at, "logs_dropped", b->n.logs_dropped);
	at = put_figure(at, "bytes_in", f.bytes_in);
	at = put_figure(at, "bytes_out", f.bytes_out);
	at = put_figure(at, "link_queued", b->link->queued);
	at = put_figure(at, "body_queued", b->n.body_queued);
	at = put_figure(at, "read_credit", b->n.read_credit);
	link_commit(b->link, at);
}

void bridge_drain(struct bridge *b, uint64_t deadline)
{
	if (b->state == BRIDGE_OVER)
		return;
	if (b->state == BRIDGE_NEW) {
		over(b, 0);
		return;
	}
	if (b->state == BRIDGE_SERVING)
		sm_move(&machine, &b->state, BRIDGE_DRAINING);
	upgrade_drain(b);
	b->control.ops->drain(b->control.ctx, deadline);
}

void bridge_drained(void *ctx, unsigned cut)
{
	struct bridge *b = ctx;

	if (b->state == BRIDGE_OVER)
		return;
	send_number(b, MSG_DRAINED, cut);
	over(b, 0);
}

static void on_message(void *ctx, const struct message *m)
{
	struct bridge *b = ctx;

	if (b->state == BRIDGE_OVER)
		return;
	if (b->state == BRIDGE_NEW) {
		if (m->kind == MSG_HELLO)
			take_hello(b, m);
		else
			hello_failed(b, m, "kind", "must be HELLO first", EXIT_FRAMING);
		return;
	}
	switch ((enum message_kind)m->kind) {
	case MSG_DEMAND:
		take_demand(b, m);
		break;
	case MSG_READ:
		take_read(b, m);
		break;
	case MSG_DISCARD:
		take_discard(b, m);
		break;
	case MSG_RESPOND:
		take_respond(b, m);
		break;
	case MSG_HEAD:
		take_head(b, m);
		break;
	case MSG_DATA:
		take_data(b, m);
		break;
	case MSG_END:
		take_end(b, m);
		break;
	case MSG_INFORM:
		take_inform(b, m);
		break;
	case MSG_PUSH:
		take_push(b, m);
		break;
	case MSG_ABORT:
		take_abort(b, m);
		break;
	case MSG_UPGRADE:
		upgrade_take(b, m);
		break;
	case MSG_SEND:
		upgrade_take_send(b, m);
		break;
	case MSG_CLOSE:
		upgrade_take_close(b, m);
		break;
	case MSG_DRAIN:
		bridge_drain(b, m->field[0].u < 86400000 ? m->field[0].u : 86400000);
		break;
	case MSG_STATS:
		take_stats(b, m);
		break;
	case MSG_PING:
		send_number(b, MSG_PONG, m->field[0].u);
		break;
	default: /* HELLO: the kinds of the other direction do not come here */
		bridge_send_error(b, m, "kind", "comes only once", "ignored");
		break;
	}
}

static void on_fault(void *ctx, const struct message *m, const struct message_fault *fault, bool lost)
{
	struct bridge *b = ctx;

	if (b->state == BRIDGE_OVER)
		return;
	if (b->state == BRIDGE_NEW && m->kind == MSG_HELLO)
		hello_failed(b, m, fault->field, fault->rule, EXIT_CONFIG);
	else if (lost || b->state == BRIDGE_NEW)
		hello_failed(b, m, fault->field, fault->rule, EXIT_FRAMING);
	else
		bridge_send_error(b, m, fault->field, fault->rule, "ignored");
}

/* What was answered whole may go out; all others are told that nobody is there to answer. */
static void host_gone(struct bridge *b)
{
	size_t i = 0;

	b->host_gone = true;
	bridge_drain(b, b->config->eof_timeout);
	while (b->streams.slots && i <= b->streams.mask) {
		struct stream *s = b->streams.slots[i].value;
		if (s && s->response != RESPONSE_ENDED)
			bridge_end_stream(b, s, 503, END_CLOSED); /* its slot is filled by the next one, or free */
		else
			i++;
	}
}

static void on_eof(void *ctx)
{
	struct bridge *b = ctx;

	if (b->state == BRIDGE_OVER)
		return;
	if (b->state == BRIDGE_NEW)
		over(b, 0);
	else
		host_gone(b);
}

const struct link_handler bridge_link_handler = {
	.on_message = on_message,
	.on_fault = on_fault,
	.on_eof = on_eof,
};

void bridge_init(struct bridge *b, struct loop *loop, struct link *link, struct config *config)
{
	memset(b, 0, sizeof *b);
	b->loop = loop;
	b->link = link;
	b->config = config;
	b->ws.now = &loop->now;
	idmap_init(&b->streams);
	list_init(&b->queue);
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
	};
}

void bridge_control(struct bridge *b, struct control control)
{
	b->control = control;
}

void bridge_free(struct bridge *b)
{
	wheel_cancel(&b->loop->wheel, &b->relief);
	idmap_free(&b->streams);
	ws_env_free(&b->ws);
}
