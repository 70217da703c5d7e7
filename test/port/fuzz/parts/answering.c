/* SPDX-License-Identifier: Apache-2.0 */
#include "answering.h"

#include "frames/mp.h"

enum {
	ROUNDS_MAX = 1000,
	INLINE_MAX = 50,
	SMALL = 3,
	MAY_UPGRADE = REQUEST_MAY_UPGRADE,
	HEAD_METHOD = 1,
	HEAD_PATH = 4,
	HEAD_BODY = 7,
	HEAD_FLAGS = 8
};

static void say(struct answering *a, const uint8_t *from, const uint8_t *to)
{
	MUST(buf_append(&a->orders, from, (size_t)(to - from)));
}

static uint8_t *begin(uint8_t *at, enum message_kind kind, uint64_t id)
{
	return mp_uint(message_begin(at, kind), id);
}

static uint8_t *put_head(const struct answering *a, uint8_t *at, enum message_kind kind, uint64_t id)
{
	at = begin(at, kind, id);
	at = mp_uint(at, 200);
	at = mp_array(at, a->compress ? 4 : 2);
	at = mp_str(at, SLICE_LIT("date")); /* or the answer would contain the time */
	at = mp_str(at, SLICE_LIT("x"));
	if (!a->compress)
		return at;
	at = mp_str(at, SLICE_LIT("content-type"));
	return mp_str(at, SLICE_LIT("text/plain"));
}

static void grant(struct answering *a, uint64_t id, uint64_t max)
{
	uint8_t bytes[64], *at = begin(bytes, MSG_READ, id);

	at = mp_uint(at, 1);
	say(a, bytes, mp_uint(at, max));
}

static void undo_codings(struct answering *a, uint64_t id)
{
	uint8_t bytes[64], *at = begin(bytes, MSG_DECODE, id);

	at = mp_uint(at, 1000);
	say(a, bytes, mp_uint(at, 100));
}

static void send_bytes(struct answering *a, enum message_kind kind, uint64_t id, struct slice data)
{
	static uint8_t bytes[FRAME_PAYLOAD_MAX + 64];

	say(a, bytes, mp_bin(begin(bytes, kind, id), data));
}

static void send_message(struct answering *a, uint64_t id, uint64_t type, struct slice data, uint64_t left)
{
	static uint8_t bytes[FRAME_PAYLOAD_MAX + 64];
	uint8_t *at = mp_uint(begin(bytes, MSG_SEND, id), type);

	say(a, bytes, mp_uint(mp_bin(at, data), left));
}

static void discard(struct answering *a, uint64_t id)
{
	uint8_t bytes[16];

	say(a, bytes, begin(bytes, MSG_DISCARD, id));
}

static void end(struct answering *a, uint64_t id, bool trailers)
{
	uint8_t bytes[64], *at = begin(bytes, MSG_END, id);

	if (!trailers) {
		say(a, bytes, mp_nil(at));
		return;
	}
	at = mp_array(at, 2);
	at = mp_str(at, SLICE_LIT("x-t"));
	say(a, bytes, mp_str(at, SLICE_LIT("1")));
}

/* A body of a->size, whole or in three pieces; with a length if the letter is even. */
static void answer_large(struct answering *a, uint64_t id)
{
	static uint8_t body[1 << 17], bytes[sizeof body + 128];
	uint8_t letter = a->letters[id % ANSWERING_STREAMS], *at;
	size_t piece = a->size / 3 + 1;

	MUST(a->size <= sizeof body);
	for (size_t i = 0; i < a->size; i++)
		body[i] = answering_octet(letter, i);
	if (a->way != ANSWER_STREAM) {
		say(a, bytes, mp_bin(put_head(a, bytes, MSG_RESPOND, id), slice_of(body, a->size)));
		return;
	}
	at = put_head(a, bytes, MSG_HEAD, id);
	say(a, bytes, letter % 2 ? mp_nil(at) : mp_uint(at, a->size));
	for (size_t from = 0; from < a->size; from += piece)
		say(a, bytes,
		    mp_bin(begin(bytes, MSG_DATA, id), slice_of(body + from, piece < a->size - from ? piece : a->size - from)));
	end(a, id, true);
}

static void send_file(struct answering *a, uint64_t id, uint64_t offset, uint64_t length)
{
	uint8_t bytes[64], *at = begin(bytes, MSG_FILE, id);

	say(a, bytes, mp_uint(mp_uint(mp_uint(at, id), offset), length));
}

/* a->size bytes in three pieces, one of which crosses the pipe; with a length for every second request. */
static void answer_file(struct answering *a, uint64_t id)
{
	uint8_t bytes[1024], *at = put_head(a, bytes, MSG_HEAD, id);
	size_t size = a->size ? a->size : 70000;

	say(a, bytes, id % 2 ? mp_nil(at) : mp_uint(at, size));
	rig_hand(&a->rig, id, id);
	send_file(a, id, 0, 1000);
	for (size_t i = 0; i < 500; i++)
		bytes[i] = rig_octet(1000 + i);
	send_bytes(a, MSG_DATA, id, slice_of(bytes, 500));
	send_file(a, id, 1500, size - 1500);
	end(a, id, true);
}

static void answer(struct answering *a, uint64_t id)
{
	uint8_t bytes[128];

	if (a->way == ANSWER_FILE && a->rig.bridge.channel.open) {
		answer_file(a, id);
		return;
	}
	if (a->size) {
		answer_large(a, id);
		return;
	}
	if (a->way != ANSWER_STREAM) {
		say(a, bytes, mp_bin(put_head(a, bytes, MSG_RESPOND, id), SLICE_LIT("hello")));
		return;
	}
	say(a, bytes, mp_nil(put_head(a, bytes, MSG_HEAD, id)));
	send_bytes(a, MSG_DATA, id, SLICE_LIT("hel"));
	send_bytes(a, MSG_DATA, id, SLICE_LIT("lo"));
	end(a, id, true);
}

static uint8_t *put_options(const struct answering *a, uint8_t *at)
{
	at = mp_map(at, a->compress ? 2 : 1);
	at = mp_str(at, SLICE_LIT("max_message"));
	at = mp_uint(at, a->max_message ? a->max_message : 1 << 16);
	if (!a->compress)
		return at;
	at = mp_str(at, SLICE_LIT("compress"));
	at = mp_map(at, 1);
	at = mp_str(at, SLICE_LIT("max_ratio"));
	return mp_uint(at, 100);
}

static void upgrade(struct answering *a, uint64_t id)
{
	uint8_t bytes[128], *at = begin(bytes, MSG_UPGRADE, id);
	bool socket = a->way == ANSWER_SOCKET;

	at = mp_str(at, socket ? SLICE_LIT("websocket") : SLICE_LIT(""));
	at = mp_array(at, 0);
	say(a, bytes, socket ? put_options(a, at) : mp_map(at, 0));
	grant(a, id, 65000);
	if (!socket && id < ANSWERING_STREAMS)
		a->tunnels |= UINT64_C(1) << id;
}

/* Element number i of REQUEST's head. */
static struct mp_value element(struct slice head, unsigned i)
{
	struct mp_value v;

	MUST(mp_read(&head, &v) && v.type == MP_ARRAY && i < v.u);
	for (; i > 0; i--)
		MUST(mp_skip(&head, NULL));
	MUST(mp_read(&head, &v));
	return v;
}

static void on_request(struct answering *a, uint64_t id, struct slice head)
{
	unsigned asks = a->way == ANSWER_SOCKET ? REQUEST_WEBSOCKET : MAY_UPGRADE;
	bool body = element(head, HEAD_BODY).type != MP_NIL;
	struct slice path = element(head, HEAD_PATH).bytes;

	a->letters[id % ANSWERING_STREAMS] = path.len ? path.at[path.len - 1] : 0;
	if ((a->way == ANSWER_UPGRADE || a->way == ANSWER_SOCKET) && (element(head, HEAD_FLAGS).u & asks)) {
		upgrade(a, id);
		return;
	}
	if (body && a->way == ANSWER_DISCARD)
		discard(a, id);
	if (body && a->decode)
		undo_codings(a, id);
	if (body && a->way != ANSWER_DISCARD && a->way != ANSWER_AT_ONCE)
		grant(a, id, a->way == ANSWER_STREAM ? SMALL : 65000);
	else
		answer(a, id);
}

static bool is_tunnel(const struct answering *a, uint64_t id)
{
	return id < ANSWERING_STREAMS && (a->tunnels >> id & 1);
}

static void on_body(struct answering *a, uint64_t id, struct slice data)
{
	MUST(data.len > 0 && (a->way != ANSWER_STREAM || data.len <= SMALL));
	if (is_tunnel(a, id))
		send_bytes(a, MSG_DATA, id, data);
	grant(a, id, a->way == ANSWER_STREAM ? SMALL : 65000);
}

static void release(struct answering *a, uint64_t id)
{
	uint8_t bytes[16];

	say(a, bytes, begin(bytes, MSG_RELEASE, id));
}

static void note(struct buf *to, const void *bytes, size_t n)
{
	if (n)
		MUST(buf_append(to, bytes, n));
}

static void note_message(struct answering *a, uint64_t id, const struct message *m)
{
	uint8_t kind = (uint8_t)m->kind;
	struct buf *to = &a->heard[id];

	if (m->kind == MSG_BODY) {
		note(&a->bodies[id], m->body.data.at, m->body.data.len);
		return;
	}
	note(to, &kind, 1);
	switch (m->kind) {
	case MSG_REQUEST:
		note(to, m->request.head.at, m->request.head.len);
		break;
	case MSG_BODY_END:
		note(to, m->body_end.trailers.at, m->body_end.trailers.len);
		break;
	case MSG_DONE:
		note(to, m->done.report.at, m->done.report.len);
		break;
	case MSG_GONE:
		note(to, m->gone.reason.at, m->gone.reason.len);
		break;
	case MSG_RECV:
		note(to, &m->recv.type, sizeof m->recv.type);
		note(to, m->recv.data.at, m->recv.data.len);
		note(to, &m->recv.left, sizeof m->recv.left);
		break;
	case MSG_CLOSED: /* if there are two faults, either may be the reason */
		note(to, &m->closed.code, sizeof m->closed.code);
		break;
	default:
		break;
	}
	if (m->kind == MSG_GONE)
		a->gone |= UINT64_C(1) << id;
}

/* A request with its body, recorded as if it had come in three messages. */
static void on_complete(struct answering *a, uint64_t id, const struct msg_complete *m)
{
	uint8_t begins = (uint8_t)MSG_REQUEST, ends = (uint8_t)MSG_BODY_END;

	MUST(m->body.len > 0 && m->body.len <= INLINE_MAX && a->way <= ANSWER_STREAM && a->way != ANSWER_AT_ONCE);
	if (id < ANSWERING_STREAMS) {
		note(&a->heard[id], &begins, 1);
		note(&a->heard[id], m->head.at, m->head.len);
		note(&a->bodies[id], m->body.at, m->body.len);
		note(&a->heard[id], &ends, 1);
	}
	on_request(a, id, m->head);
	answer(a, id);
}

static void on_message(struct rig *r, const struct message *m)
{
	struct answering *a = (struct answering *)(void *)r;
	uint64_t id = m->stream;

	/* This host breaks no rule; but listening may fail, and so may accepting a descriptor. */
	MUST(m->kind != MSG_ERROR || m->error.kind == MSG_HELLO || a->way == ANSWER_FILE);
	if (m->def->format[0] != 's')
		return;
	if (m->kind == MSG_COMPLETE) {
		on_complete(a, id, &m->complete);
		return;
	}
	if (id < ANSWERING_STREAMS && m->kind != MSG_ROOM)
		note_message(a, id, m);
	if (m->kind == MSG_REQUEST)
		on_request(a, id, m->request.head);
	else if (m->kind == MSG_BODY)
		on_body(a, id, m->body.data);
	else if (m->kind == MSG_BODY_END && is_tunnel(a, id))
		end(a, id, false);
	else if (m->kind == MSG_BODY_END && a->way != ANSWER_AT_ONCE && a->way != ANSWER_DISCARD)
		answer(a, id);
	else if (m->kind == MSG_RECV)
		send_message(a, id, m->recv.type, m->recv.data, m->recv.left);
	if (m->kind == MSG_RECV && m->recv.left == 0)
		grant(a, id, 65000);
	if (m->kind == MSG_GONE && id % 2) /* for the others it forgets RELEASE */
		release(a, id);
}

void answering_begin(struct answering *a, enum answering_way way)
{
	memset(a, 0, sizeof *a);
	rig_start(&a->rig);
	a->way = way;
	a->rig.on_message = on_message;
}

void answering_hello(struct answering *a)
{
	static const struct {
		const char *name;
		uint32_t value;
	} limits[] = {{"max_request_line", 64}, {"max_header_line", 80}, {"max_header_block", 256},
		      {"max_header_count", 10}, {"max_body", 100},       {"max_chunk_extension", 20}};
	unsigned count = a->narrow ? sizeof limits / sizeof *limits : 0;
	uint8_t bytes[256], *at = bytes;

	for (unsigned i = 0; i < count; i++)
		at = mp_uint(mp_str(at, slice_str(limits[i].name)), limits[i].value);
	if (a->way == ANSWER_READ || a->way == ANSWER_STREAM) { /* the others test bodies that are not read */
		count++;
		at = mp_uint(mp_str(at, SLICE_LIT("inline_body")), INLINE_MAX);
	}
	if (a->compress) {
		count += 2;
		at = mp_uint(mp_str(at, SLICE_LIT("compress_min")), 0);
		at = mp_array(mp_str(at, SLICE_LIT("compress")), 1);
		at = mp_str(at, SLICE_LIT("gzip"));
	}
	rig_hello(&a->rig, count, slice_of(bytes, (size_t)(at - bytes)), 1 << 20);
}

void answering_start(struct answering *a, enum answering_way way)
{
	answering_begin(a, way);
	answering_hello(a);
}

void answering_stop(struct answering *a)
{
	a->rig.on_message = NULL;
	rig_stop(&a->rig);
	buf_free(&a->orders);
	for (unsigned i = 0; i < ANSWERING_STREAMS; i++)
		buf_free(&a->heard[i]), buf_free(&a->bodies[i]);
}

void answering_turn(struct answering *a)
{
	struct buf orders;

	rig_turn(&a->rig);
	for (unsigned i = 0; i < ROUNDS_MAX && buf_len(&a->orders); i++) {
		orders = a->orders;
		a->orders = (struct buf){0};
		rig_frame(&a->rig, buf_at(&orders), buf_len(&orders));
		buf_free(&orders);
	}
}

static uint32_t next_random(uint32_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state;
}

/* Mostly small. */
static size_t piece(uint32_t *cuts)
{
	uint32_t most = 1u << next_random(cuts) % 8;

	return next_random(cuts) % most + 1;
}

void answering_client(struct answering *a, struct rig_client *k, struct slice bytes, uint32_t cuts)
{
	bool single = cuts == ANSWERING_BYTES;

	while (bytes.len) {
		size_t n = single ? 1 : cuts ? piece(&cuts) : SIZE_MAX;
		n = n < bytes.len ? n : bytes.len;
		rig_client(k, bytes.at, n);
		bytes = slice_of(bytes.at + n, bytes.len - n);
		k->room = cuts ? next_random(&cuts) % 100 : SIZE_MAX;
		answering_turn(a);
	}
	k->room = SIZE_MAX;
	answering_turn(a);
}
