/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/h2_scan.h"

#include <nghttp2/nghttp2.h>
#include <string.h>

enum { HEAD_LEN = 9 };

struct frame {
	uint32_t length;
	uint8_t type, flags;
	int32_t id;
	const uint8_t *payload; /* the first 4 bytes of a PRIORITY; NULL else */
};

void h2_scan_init(struct h2_scan *scan)
{
	memset(scan, 0, sizeof *scan);
	scan->left = NGHTTP2_CLIENT_MAGIC_LEN;
	scan->past.last = -1;
}

static uint32_t number_at(const uint8_t *at)
{
	return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static struct frame frame_of(const struct h2_scan *scan)
{
	const uint8_t *head = scan->head;

	return (struct frame){
		.length = number_at(head) >> 8,
		.type = head[3],
		.flags = head[4],
		.id = (int32_t)(number_at(head + 5) & 0x7fffffff),
		.payload = scan->have > HEAD_LEN ? head + HEAD_LEN : NULL,
	};
}

/* ---- closed streams ---- */

static void note_opened(struct h2_past *past, int32_t id)
{
	uint32_t by = ((uint32_t)id - (uint32_t)past->last) / 2;

	past->opened = (by < 64 ? past->opened << by : 0) | 1;
	past->ended = by < 64 ? past->ended << by : 0;
	past->last = id;
}

static uint64_t bit_of(const struct h2_past *past, int32_t id)
{
	uint32_t back = ((uint32_t)past->last - (uint32_t)id) / 2;

	return id % 2 == 1 && id <= past->last && back < 64 ? UINT64_C(1) << back : 0;
}

/*
 * A frame for a stream that the client itself has ended is an error, and so is a stream that is opened out of order. Frames that
 * were
 * on their way to a stream that we ended are accepted, and so are frames for streams too old to remember.
 */
static uint32_t check_stream(struct h2_past *past, const struct frame *f)
{
	uint64_t bit;

	if (f->type == NGHTTP2_HEADERS && f->id % 2 == 1 && f->id > past->last)
		note_opened(past, f->id);
	bit = bit_of(past, f->id);
	if (bit && !(past->opened & bit))
		return NGHTTP2_PROTOCOL_ERROR;
	if (past->ended & bit)
		return NGHTTP2_STREAM_CLOSED;
	if (f->flags & NGHTTP2_FLAG_END_STREAM)
		past->ended |= bit;
	return NGHTTP2_NO_ERROR;
}

static uint32_t check_priority(const struct frame *f)
{
	if (f->id == 0 || (f->payload && (int32_t)(number_at(f->payload) & 0x7fffffff) == f->id))
		return NGHTTP2_PROTOCOL_ERROR;
	return NGHTTP2_NO_ERROR;
}

static uint32_t check(struct h2_past *past, const struct frame *f)
{
	switch (f->type) {
	case NGHTTP2_DATA:
	case NGHTTP2_HEADERS:
		return check_stream(past, f);
	case NGHTTP2_RST_STREAM:
		past->ended |= bit_of(past, f->id);
		return NGHTTP2_NO_ERROR;
	case NGHTTP2_PRIORITY:
		return check_priority(f);
	default:
		return NGHTTP2_NO_ERROR;
	}
}

/* ---- floods ---- */

static bool take_other(struct h2_scan *scan, const struct config *c, uint64_t now_us)
{
	if (scan->earned > 0) {
		scan->earned--;
		return true;
	}
	return bucket_take(&scan->others, now_us, c->h2_other_frames, 1000000);
}

/* nghttp2 ignores frames for closed streams, which still costs CPU time. Some of them may have been sent before the client knew.
 * */
static bool is_for_the_past(const struct h2_scan *scan, const struct frame *f)
{
	return f->id > 0 && f->id <= scan->known && scan->is_open && !scan->is_open(scan->ctx, f->id);
}

static bool take_data(struct h2_scan *scan, const struct config *c, uint64_t now_us, const struct frame *f)
{
	if (f->length == 0 && !(f->flags & NGHTTP2_FLAG_END_STREAM))
		return h2_scan_take_empty(scan, c, now_us);
	return !is_for_the_past(scan, f) || take_other(scan, c, now_us);
}

static bool take_headers(struct h2_scan *scan, const struct config *c, uint64_t now_us, const struct frame *f, bool opens)
{
	scan->continuations = 0;
	if (is_for_the_past(scan, f))
		return take_other(scan, c, now_us);
	if (opens)
		h2_scan_earn(scan);
	return true;
}

static bool take(struct h2_scan *scan, const struct config *c, uint64_t now_us, const struct frame *f, bool opens)
{
	bool ack = f->flags & NGHTTP2_FLAG_ACK; /* nghttp2 checks this itself */

	switch (f->type) {
	case NGHTTP2_HEADERS:
		return take_headers(scan, c, now_us, f, opens);
	case NGHTTP2_CONTINUATION:
		return ++scan->continuations <= c->h2_max_continuations;
	case NGHTTP2_DATA:
		return take_data(scan, c, now_us, f);
	case NGHTTP2_RST_STREAM:
		return h2_scan_take_reset(scan, c, now_us);
	case NGHTTP2_PING:
		return bucket_take(ack ? &scan->others : &scan->pings, now_us, c->h2_pings, 1000000);
	case NGHTTP2_SETTINGS:
		return ack || bucket_take(&scan->settings, now_us, c->h2_settings, 1000000);
	default:
		return take_other(scan, c, now_us);
	}
}

/* ---- bytes ---- */

static bool is_whole(const struct h2_scan *scan)
{
	bool priority = scan->head[3] == NGHTTP2_PRIORITY && scan->left >= 4;

	return scan->have == (priority ? sizeof scan->head : HEAD_LEN);
}

/* RFC 9113 6.10: no other frame, on any stream, may come between a HEADERS and the last of its CONTINUATIONs. */
static bool interrupts(const struct h2_scan *scan, const struct frame *f)
{
	bool inside = scan->head_id && !scan->head_ends;

	return inside != (f->type == NGHTTP2_CONTINUATION) || (inside && f->id != scan->head_id);
}

static uint32_t judge(struct h2_scan *scan, const struct config *c, uint64_t now_us)
{
	struct frame f = frame_of(scan);
	bool opens = f.type == NGHTTP2_HEADERS && f.id > scan->past.last;
	uint32_t fault = interrupts(scan, &f) ? NGHTTP2_PROTOCOL_ERROR : check(&scan->past, &f);

	if (f.type == NGHTTP2_HEADERS) {
		scan->head_since = now_us;
		scan->head_id = f.id;
	}
	if (f.type == NGHTTP2_HEADERS || f.type == NGHTTP2_CONTINUATION)
		scan->head_ends = f.flags & NGHTTP2_FLAG_END_HEADERS;
	else
		scan->head_since = 0;
	scan->left = f.length - (scan->have - (uint32_t)HEAD_LEN);
	scan->have = 0;
	if (!fault && !take(scan, c, now_us, &f, opens))
		fault = NGHTTP2_ENHANCE_YOUR_CALM;
	return fault;
}

size_t h2_scan(struct h2_scan *scan, const struct config *config, uint64_t now_us, const uint8_t *data, size_t len, unsigned *most,
	       uint32_t *fault)
{
	size_t at = 0, skip;

	scan->known = scan->past.last;
	for (*fault = NGHTTP2_NO_ERROR; at < len; at++) {
		skip = scan->have ? 0 : scan->left < len - at ? scan->left : len - at;
		at += skip;
		scan->left -= (uint32_t)skip;
		if (at == len)
			break;
		if (scan->have == 0 && *most == 0)
			return at;
		if (scan->have == 0 && len - at >= HEAD_LEN) { /* all but its last byte */
			memcpy(scan->head, data + at, HEAD_LEN - 1);
			scan->have = HEAD_LEN - 1;
			at += HEAD_LEN - 1;
		}
		scan->head[scan->have++] = data[at];
		if (scan->have == HEAD_LEN)
			scan->left = number_at(scan->head) >> 8;
		if (scan->have < HEAD_LEN || !is_whole(scan))
			continue;
		*fault = judge(scan, config, now_us);
		if (*fault)
			return at;
		--*most;
	}
	return len;
}
