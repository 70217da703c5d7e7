/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/h3.h"

#include <stdlib.h>

#include "proto/h3_kind.h"
#include "proto/h3_life.h"
#include "proto/h3_read.h"
#include "proto/h3_stream.h"
#include "proto/mux_act.h"
#include "proto/mux_stream.h"
#include "proto/mux_wait.h"
#include "proto/mux_write.h"

enum { VECTORS_MAX = 16, UNTYPED_MAX = 16, STREAM_CONTROL = 0, SETTING_BLOCKED = 7 };
enum { TWO_BYTES_MIN = 64, TWO_BYTES_MAX = 16383 }; /* prefix of a number of two bytes (RFC 9000 16) */

/* ---- streams of the client ---- */

static bool is_request(int64_t id)
{
	return (id & 3) == 0;
}

/* This also opens all streams with smaller numbers: RFC 9000 2.1. */
static void note_opened(struct h3 *h3, int64_t id)
{
	uint64_t count = (uint64_t)id / 4 + 1;

	if (count > h3->opened)
		h3->opened = count;
	h3_allow_more(h3);
}

/* A stream that can carry a request. NULL: out of memory. */
static struct h3_stream *find_or_make(struct h3 *h3, int64_t id)
{
	struct h3_stream *x = h3_stream_of(h3, id);

	if (x)
		return x;
	note_opened(h3, id);
	x = h3_stream_new(h3, id);
	if (!x)
		h3_give_up(h3, NGHTTP3_H3_INTERNAL_ERROR);
	return x;
}

static struct h3_uni *uni_of(struct h3 *h3, int64_t id)
{
	for (unsigned i = 0; i < H3_UNI_MAX; i++)
		if (h3->uni[i].id == id)
			return &h3->uni[i];
	return NULL;
}

/* nghttp3 treats the end of a stream of yet unknown type like the end of a critical stream, so such an end is not passed on. */
static void note_type(struct h3 *h3, int64_t id, const uint8_t *bytes, size_t n)
{
	struct h3_uni *u = uni_of(h3, id);
	size_t i = 0;

	if (!u) {
		u = uni_of(h3, -1);
		if (!u)
			return;
		*u = (struct h3_uni){.id = id};
	}
	for (; i < n && !u->typed; i++)
		u->typed = h3_number_take(&u->type, bytes[i]);
	if (u->typed && i > 0 && u->type.value == STREAM_CONTROL && h3->control_id == -1)
		h3->control_id = id;
	if (id == h3->control_id && i < n) {
		uint64_t fault = h3_scan_control(&h3->control, bytes + i, n - i);
		if (fault)
			h3_give_up(h3, fault);
	}
}

void h3_receive(struct h3 *h3, int64_t id, const uint8_t *bytes, size_t n, bool end)
{
	if (h3->state == H3_STOPPED || h3->m.fault)
		return;
	if (is_request(id) && !find_or_make(h3, id))
		return;
	if (!is_request(id))
		note_type(h3, id, bytes, n);
	if (!h3->m.fault)
		h3_read(h3, id, bytes, n, end);
}

/*
 * nghttp3 1.8 forgets to send a lone end of stream once all bytes before it are acknowledged. So one byte is reported as
 * unacknowledged until the end has left.
 */
void h3_acked(struct h3 *h3, int64_t id, uint64_t n)
{
	struct h3_stream *x = h3_stream_of(h3, id);

	h3->progress += is_request(id) ? n : 0;
	if (x && x->ended && !x->m.left && !x->spared && n > 0) {
		x->spared = true;
		n--;
	}
	if (nghttp3_conn_add_ack_offset(h3->ng, id, n) != 0)
		h3_give_up(h3, NGHTTP3_H3_INTERNAL_ERROR);
}

/* A few are normal, many are a flood. */
static void count_reset(struct h3 *h3)
{
	const struct config *c = h3_config(h3);

	if (!bucket_take(&h3->resets, mux_now_us(&h3->m), c->h3_max_resets, c->h3_max_resets * 1000000 / c->h3_reset_rate))
		h3_give_up(h3, NGHTTP3_H3_EXCESSIVE_LOAD);
}

void h3_reset(struct h3 *h3, int64_t id)
{
	struct h3_stream *x;

	if (h3->state == H3_STOPPED)
		return;
	if (!is_request(id))
		return; /* h3_gone follows */
	x = h3_stream_of(h3, id);
	if (x && (x->m.heard & HEARD_END))
		return;                         /* the request is complete */
	if (!x || !(x->m.left || x->m.stopped)) /* else the response has left, or the client was asked to stop */
		count_reset(h3);
	if (nghttp3_conn_shutdown_stream_read(h3->ng, id) != 0)
		h3_give_up(h3, NGHTTP3_H3_INTERNAL_ERROR);
	x = find_or_make(h3, id);
	if (!x)
		return;
	x->m.stopped = true;
	h3_is_queued(x, false);
	mux_note(&x->m, HEARD_LEFT);
	mux_wake(&h3->m);
}

/* A unidirectional stream. Its type says whether it must not end. */
static void uni_gone(struct h3 *h3, int64_t id, uint64_t code)
{
	struct h3_uni *u = uni_of(h3, id);
	bool typed = !u || u->typed;
	int error = typed ? nghttp3_conn_close_stream(h3->ng, id, code) : 0;

	if (u)
		u->id = -1;
	if (!typed && ++h3->untyped > UNTYPED_MAX) /* nghttp3 keeps the memory */
		h3_give_up(h3, NGHTTP3_H3_EXCESSIVE_LOAD);
	if (error && error != NGHTTP3_ERR_STREAM_NOT_FOUND)
		h3_give_up(h3, nghttp3_err_infer_quic_app_error_code(error));
	if (!bucket_take(&h3->unis, mux_now_us(&h3->m), 100, 10000000))
		h3_give_up(h3, NGHTTP3_H3_EXCESSIVE_LOAD);
	h3->carrier->more(h3->m.owner, true, 1);
}

void h3_gone(struct h3 *h3, int64_t id, uint64_t code)
{
	struct h3_stream *x = h3_stream_of(h3, id);
	int error;

	if (h3->state == H3_STOPPED)
		return;
	mux_wake(&h3->m);
	if (!is_request(id)) {
		uni_gone(h3, id, code);
		return;
	}
	if (x && !x->m.left && !x->m.reset && !x->m.stopped)
		count_reset(h3); /* the client did not want the response any more */
	error = nghttp3_conn_close_stream(h3->ng, id, code);
	if (error && error != NGHTTP3_ERR_STREAM_NOT_FOUND)
		h3_give_up(h3, nghttp3_err_infer_quic_app_error_code(error));
	if (x) {
		mux_note(&x->m, HEARD_CLOSE);
		return;
	}
	note_opened(h3, id);
	h3_allow_one_more(h3);
}

void h3_unblocked(struct h3 *h3, int64_t id)
{
	if (nghttp3_conn_unblock_stream(h3->ng, id) != 0)
		h3_give_up(h3, NGHTTP3_H3_INTERNAL_ERROR);
	mux_wake(&h3->m);
}

/* ---- to the client ---- */

/* A number of RFC 9000 16 at `at`. */
static uint64_t number_at(uint8_t **at, const uint8_t *end)
{
	struct h3_number number = {0};

	while (*at < end && !h3_number_take(&number, *(*at)++))
		;
	return number.value;
}

/*
 * A stream that is reset while it waits for the QPACK table counts in nghttp3 until the table has the entries that it waits for,
 * but clients may not count it (RFC 9204 2.2.2.2). So nghttp3 gets a larger limit than the client: the setting is changed in the
 * outgoing frame, where it has two bytes. h3_read counts the streams that really wait.
 */
static void promise_blocked(struct h3 *h3, const nghttp3_vec *vec)
{
	uint8_t *at = vec->base, *end = vec->base + vec->len;
	uint64_t most = h3_config(h3)->h3_qpack_blocked, id;

	h3->promised = true;
	for (unsigned i = 0; i < 3; i++)
		number_at(&at, end); /* the stream's type, the frame's type and length */
	while (at < end) {
		id = number_at(&at, end);
		if (id == SETTING_BLOCKED && end - at >= 2 && *at >> 6 == 1) {
			at[0] = (uint8_t)(0x40 | most >> 8);
			at[1] = (uint8_t)most;
			h3->may_queue = (uint32_t)most;
			return;
		}
		number_at(&at, end);
	}
}

int h3_output(struct h3 *h3, int64_t *id, bool *end, struct iovec *iov, int max)
{
	nghttp3_vec vec[VECTORS_MAX];
	uint32_t deferrals;
	nghttp3_ssize count;
	int fin = 0;

	*id = -1;
	*end = false;
	if (h3->state == H3_STOPPED || h3->m.fault || h3->unacked >= h3_config(h3)->h3_unacked)
		return 0;
	if (!mux_write_cold(&h3->m))
		h3_give_up(h3, NGHTTP3_H3_INTERNAL_ERROR);
	/* nghttp3 returns nothing if the stream whose turn it is has nothing to send; another stream may have. */
	do {
		deferrals = h3->deferrals;
		count = nghttp3_conn_writev_stream(h3->ng, id, &fin, vec, (size_t)(max < VECTORS_MAX ? max : VECTORS_MAX));
	} while (count == 0 && *id == -1 && deferrals != h3->deferrals);
	if (count < 0) {
		h3_give_up(h3, nghttp3_err_infer_quic_app_error_code((int)count));
		*id = -1;
		return 0;
	}
	if (*id == h3->own_control && !h3->promised)
		promise_blocked(h3, vec);
	*end = fin;
	for (int i = 0; i < (int)count; i++)
		iov[i] = (struct iovec){vec[i].base, vec[i].len};
	return (int)count;
}

void h3_written(struct h3 *h3, int64_t id, size_t n, bool end)
{
	struct h3_stream *x = h3_stream_of(h3, id);

	if (nghttp3_conn_add_write_offset(h3->ng, id, n) != 0)
		h3_give_up(h3, NGHTTP3_H3_INTERNAL_ERROR);
	if (!x)
		return;
	if (end && x->spared && nghttp3_conn_add_ack_offset(h3->ng, id, 1) != 0)
		h3_give_up(h3, NGHTTP3_H3_INTERNAL_ERROR);
	x->m.s.interim = 0;
	mux_pace_moved(&x->m, n);
	mux_framed_moved(&h3->m, n);
	if (!end)
		return;
	x->m.finished = x->m.left = true;
	mux_watch(&h3->m, pace_deadline(&x->m.pace));
	mux_note(&x->m, 0);
}

void h3_blocked(struct h3 *h3, int64_t id)
{
	nghttp3_conn_block_stream(h3->ng, id);
}

void h3_shut(struct h3 *h3, int64_t id)
{
	struct h3_stream *x = h3_stream_of(h3, id);

	if (!is_request(id)) {
		h3_give_up(h3, NGHTTP3_H3_CLOSED_CRITICAL_STREAM);
		return;
	}
	nghttp3_conn_shutdown_stream_write(h3->ng, id);
	if (!x || x->m.reset)
		return;
	count_reset(h3);
	x->m.reset = true; /* the carrier has done that */
	mux_note(&x->m, HEARD_LEFT);
	mux_wake(&h3->m);
}

/* ---- its life ---- */

/* Here, since the bytes change while nghttp3 works, and in operations. */
static void tell_kept(struct h3 *h3)
{
	const struct stream_sink *sink = mux_sink(&h3->m);
	int64_t more = (int64_t)(h3->unacked - h3->kept);

	if (more == 0)
		return;
	h3->kept = h3->unacked;
	sink->on_kept(sink->ctx, &h3->m.owner->peer, more);
}

void h3_deliver(struct h3 *h3)
{
	if (h3->state != H3_STOPPED)
		mux_act_all(&h3->m);
	h3_look_around(h3);
	tell_kept(h3);
}

/* There are at most incomplete heads. */
static bool has_begun(const struct h3 *h3)
{
	for (const struct list *l = h3->m.streams.next; l != &h3->m.streams; l = l->next)
		if (container_of(l, struct mux_stream, link)->known)
			return false;
	return true;
}

struct session_wants h3_wants(const struct h3 *h3)
{
	uint64_t deadline = h3_deadline(h3);

	return (struct session_wants){
		.read = h3->state != H3_STOPPED,
		.idle = h3->state == H3_OPEN && h3->m.open == 0,
		.begun = has_begun(h3),
		.later = h3->m.cold > 0,
		.close = h3->state == H3_STOPPED ? CLOSE_NOW : CLOSE_NOT,
		.deadline = deadline == UINT64_MAX ? 0 : deadline,
	};
}

bool h3_stalled(const struct h3 *h3)
{
	return mux_all_wait(&h3->m);
}

void h3_tick(struct h3 *h3)
{
	h3_overdue(h3);
}

void h3_drain(struct h3 *h3)
{
	h3_begin_drain(h3);
}

uint64_t h3_code(const struct h3 *h3)
{
	return h3->m.fault ? h3->m.fault : NGHTTP3_H3_NO_ERROR;
}

uint64_t h3_progress(const struct h3 *h3)
{
	return h3->progress;
}

void h3_close(struct h3 *h3, enum stream_end why)
{
	struct list *l;

	while ((l = h3->m.streams.next) != &h3->m.streams) {
		struct h3_stream *x = container_of(l, struct h3_stream, m.link);
		mux_stream_ends(&x->m, why);
		h3_stream_free(x);
	}
	tell_kept(h3);
	nghttp3_conn_del(h3->ng);
	idmap_free(&h3->map);
	free(h3);
}

/* ---- the beginning ---- */

/* The control stream, and the two QPACK streams. */
static bool open_streams(struct h3 *h3)
{
	int64_t id[3];

	for (unsigned i = 0; i < 3; i++)
		if (!h3->carrier->open(h3->m.owner, &id[i]))
			return false;
	h3->own_control = id[0];
	return nghttp3_conn_bind_control_stream(h3->ng, id[0]) == 0 && nghttp3_conn_bind_qpack_streams(h3->ng, id[1], id[2]) == 0;
}

/* Streams that wait, plus as many that were reset meanwhile as may be open at once. */
static uint32_t blocked_for_nghttp3(const struct config *c)
{
	uint64_t most = c->h3_qpack_blocked + c->h3_max_resets;

	if (c->h3_qpack_blocked == 0)
		return 0;
	return most < TWO_BYTES_MIN ? TWO_BYTES_MIN : most < TWO_BYTES_MAX ? (uint32_t)most : TWO_BYTES_MAX;
}

static bool make_session(struct h3 *h3)
{
	const struct config *c = h3_config(h3);
	nghttp3_callbacks callbacks;
	nghttp3_settings settings;

	h3_read_callbacks(&callbacks);
	nghttp3_settings_default(&settings);
	settings.max_field_section_size = c->max_header_block;
	settings.qpack_max_dtable_capacity = (size_t)c->h3_qpack_table;
	settings.qpack_blocked_streams = h3->may_queue = blocked_for_nghttp3(c);
	settings.qpack_encoder_max_dtable_capacity = 0;
	settings.enable_connect_protocol = c->h3_extended_connect != 0;
	if (nghttp3_conn_server_new(&h3->ng, &callbacks, &settings, NULL, h3) != 0)
		return false;
	nghttp3_conn_set_max_client_streams_bidi(h3->ng, h3->allowed);
	nghttp3_conn_set_max_concurrent_streams(h3->ng, (size_t)c->h3_max_streams);
	return open_streams(h3);
}

struct h3 *h3_start(struct session_owner *owner, const struct h3_carrier *carrier)
{
	struct h3 *h3 = calloc(1, sizeof *h3);

	if (!h3 || !mux_init(&h3->m, owner, &h3_kind)) {
		free(h3);
		return NULL;
	}
	h3->carrier = carrier;
	idmap_init(&h3->map);
	for (unsigned i = 0; i < H3_UNI_MAX; i++)
		h3->uni[i].id = -1;
	h3->control_id = -1;
	h3->allowed = h3_config(h3)->h3_max_streams;
	if (make_session(h3)) {
		if (owner->env->draining)
			h3_begin_drain(h3);
		return h3;
	}
	if (h3->ng)
		nghttp3_conn_del(h3->ng);
	free(h3);
	return NULL;
}
