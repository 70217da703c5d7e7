/* SPDX-License-Identifier: Apache-2.0 */
#include "ws/deflate.h"

#include <stdio.h>
#include <stdlib.h>

#include <zlib.h>

#include "base/text.h"

enum { BITS_MIN = 9, BITS_MAX = 15, OUT_STEP = 4096 };

/* The end of a sync flush, which a message leaves out (RFC 7692 7.2.1). */
static const uint8_t flush_end[] = {0x00, 0x00, 0xff, 0xff};

/* ---- offers ---- */

/* Cuts at the next mark that is not in quotes. False: nothing is left. */
static bool next_part(struct slice *in, uint8_t mark, struct slice *part)
{
	bool quoted = false;
	size_t i = 0;

	if (!in->at)
		return false;
	for (; i < in->len && (quoted || in->at[i] != mark); i++)
		quoted ^= in->at[i] == '"';
	*part = text_trim(slice_of(in->at, i));
	*in = i < in->len ? slice_of(in->at + i + 1, in->len - i - 1) : (struct slice){0};
	return true;
}

static struct slice unquote(struct slice s)
{
	if (s.len >= 2 && s.at[0] == '"' && s.at[s.len - 1] == '"')
		return slice_of(s.at + 1, s.len - 2);
	return s;
}

/* 8 to 15, without a leading zero (RFC 7692 7.1.2); 0 otherwise. */
static uint8_t read_bits(struct slice value)
{
	if (value.len == 1 && (value.at[0] == '8' || value.at[0] == '9'))
		return (uint8_t)(value.at[0] - '0');
	if (value.len == 2 && value.at[0] == '1' && value.at[1] >= '0' && value.at[1] <= '5')
		return (uint8_t)(10 + value.at[1] - '0');
	return 0;
}

static bool set_flag(bool *flag, bool has_value)
{
	bool fresh = !*flag && !has_value;

	*flag = true;
	return fresh;
}

static bool set_bits(uint8_t *bits, struct slice value)
{
	bool fresh = *bits == 0;

	*bits = read_bits(value);
	return fresh && *bits;
}

/* False: the parameter is unknown, comes twice or has a value that is not allowed, so the offer must be declined. */
static bool read_param(struct deflate_params *p, struct slice param)
{
	struct slice rest = param, name, value = {0};
	bool has_value;

	next_part(&rest, '=', &name);
	has_value = rest.at != NULL;
	if (has_value)
		value = unquote(text_trim(rest));
	if (slice_eq_nocase(name, SLICE_LIT("server_no_context_takeover")))
		return set_flag(&p->server_no_takeover, has_value);
	if (slice_eq_nocase(name, SLICE_LIT("client_no_context_takeover")))
		return set_flag(&p->client_no_takeover, has_value);
	if (slice_eq_nocase(name, SLICE_LIT("server_max_window_bits")))
		return set_bits(&p->server_bits, value);
	if (slice_eq_nocase(name, SLICE_LIT("client_max_window_bits")))
		return set_flag(&p->client_bits_known, false) && (!has_value || set_bits(&p->client_bits, value));
	return false;
}

static bool read_offer(struct slice offer, struct deflate_params *p)
{
	struct slice part;

	*p = (struct deflate_params){0};
	if (!next_part(&offer, ';', &part) || !slice_eq_nocase(part, SLICE_LIT("permessage-deflate")))
		return false;
	while (next_part(&offer, ';', &part))
		if (!read_param(p, part))
			return false;
	return true;
}

void deflate_read_offers(struct slice value, struct deflate_params *offers, unsigned *count)
{
	struct slice offer;

	while (*count < DEFLATE_OFFERS_MAX && next_part(&value, ',', &offer))
		if (read_offer(offer, &offers[*count]))
			(*count)++;
}

static uint8_t least(uint8_t a, uint8_t b)
{
	return a && a < b ? a : b;
}

bool deflate_agree(const struct deflate_params *offers, unsigned count, const struct deflate_want *want,
		   struct deflate_params *agreed)
{
	for (unsigned i = 0; i < count; i++) {
		const struct deflate_params *offer = &offers[i];
		uint8_t bits = least(offer->server_bits, want->server_bits);
		if (bits < BITS_MIN)
			continue; /* zlib does not support raw deflate with a window of 256 bytes */
		*agreed = (struct deflate_params){
			.server_no_takeover = offer->server_no_takeover || want->server_no_takeover,
			.client_no_takeover = offer->client_no_takeover || want->client_no_takeover,
			.server_bits = bits,
			.client_bits = offer->client_bits_known ? least(offer->client_bits, want->client_bits) : 0,
		};
		return true;
	}
	return false;
}

struct slice deflate_answer(const struct deflate_params *p, char *text)
{
	int n = snprintf(text, DEFLATE_TEXT_MAX, "permessage-deflate%s%s",
			 p->server_no_takeover ? "; server_no_context_takeover" : "",
			 p->client_no_takeover ? "; client_no_context_takeover" : "");

	if (p->server_bits && p->server_bits < BITS_MAX)
		n += snprintf(text + n, DEFLATE_TEXT_MAX - (size_t)n, "; server_max_window_bits=%u", p->server_bits);
	if (p->client_bits && p->client_bits < BITS_MAX)
		n += snprintf(text + n, DEFLATE_TEXT_MAX - (size_t)n, "; client_max_window_bits=%u", p->client_bits);
	return slice_of(text, (size_t)n);
}

/* ---- inflating ---- */

struct inflater {
	z_stream z;
};

/* The largest window works for any window of the client; zlib allocates it only when needed. */
struct inflater *inflater_new(void)
{
	struct inflater *z = calloc(1, sizeof *z);

	if (z && inflateInit2(&z->z, -BITS_MAX) != Z_OK) {
		free(z);
		return NULL;
	}
	return z;
}

void inflater_free(struct inflater *z)
{
	if (!z)
		return;
	inflateEnd(&z->z);
	free(z);
}

void inflater_reset(struct inflater *z)
{
	inflateReset(&z->z);
}

/* One step; makes room for it first, but for at most one byte beyond max. */
static int inflate_step(z_stream *z, struct buf *out, size_t max)
{
	size_t room = max + 1 - buf_len(out) < OUT_STEP ? max + 1 - buf_len(out) : OUT_STEP;
	int result;

	if (!buf_reserve(out, room))
		return Z_MEM_ERROR;
	z->next_out = out->data + out->tail;
	z->avail_out = (uInt)room;
	result = inflate(z, Z_SYNC_FLUSH);
	buf_filled(out, room - z->avail_out);
	/* a block that says it is the last one may be followed by others (RFC 7692 7.2.3.5) */
	return result == Z_STREAM_END ? inflateReset(z) : result;
}

enum inflate_result inflater_feed(struct inflater *z, struct slice in, struct buf *out, size_t max)
{
	z->z.next_in = (uint8_t *)(uintptr_t)in.at;
	z->z.avail_in = (uInt)in.len;
	while (buf_len(out) <= max) {
		int result = inflate_step(&z->z, out, max);
		if (result == Z_MEM_ERROR)
			return INFLATE_NO_MEMORY;
		if (result != Z_OK && result != Z_BUF_ERROR)
			return INFLATE_BAD;
		if (z->z.avail_out > 0 && (z->z.avail_in == 0 || result == Z_BUF_ERROR))
			return buf_len(out) <= max ? INFLATE_OK : INFLATE_TOO_BIG;
	}
	return INFLATE_TOO_BIG;
}

enum inflate_result inflater_end(struct inflater *z, struct buf *out, size_t max)
{
	return inflater_feed(z, slice_of(flush_end, sizeof flush_end), out, max);
}

/* ---- deflating ---- */

struct deflater {
	z_stream z;
	uint8_t bits, level, mem_level;
};

struct deflater *deflater_new(uint8_t bits, uint8_t level, uint8_t mem_level)
{
	struct deflater *z = calloc(1, sizeof *z);

	if (!z)
		return NULL;
	z->bits = bits;
	z->level = level;
	z->mem_level = mem_level;
	if (deflateInit2(&z->z, level, Z_DEFLATED, -bits, mem_level, Z_DEFAULT_STRATEGY) != Z_OK) {
		free(z);
		return NULL;
	}
	return z;
}

void deflater_free(struct deflater *z)
{
	if (!z)
		return;
	deflateEnd(&z->z);
	free(z);
}

void deflater_reset(struct deflater *z)
{
	deflateReset(&z->z);
}

bool deflater_is(const struct deflater *z, uint8_t bits, uint8_t level, uint8_t mem_level)
{
	return z->bits == bits && z->level == level && z->mem_level == mem_level;
}

/* zlib writes nothing for an empty flush; an empty message is one empty block without its end (RFC 7692 7.2.3.6). */
static bool drop_flush_end(struct buf *out, size_t from)
{
	if (buf_len(out) - from >= sizeof flush_end)
		out->tail -= sizeof flush_end;
	return buf_len(out) > from || buf_append(out, "", 1);
}

bool deflater_feed(struct deflater *z, struct slice in, bool end, struct buf *out)
{
	size_t from = buf_len(out);

	z->z.next_in = (uint8_t *)(uintptr_t)in.at;
	z->z.avail_in = (uInt)in.len;
	do {
		if (!buf_reserve(out, OUT_STEP))
			return false;
		z->z.next_out = out->data + out->tail;
		z->z.avail_out = OUT_STEP;
		deflate(&z->z, Z_SYNC_FLUSH);
		buf_filled(out, OUT_STEP - z->z.avail_out);
	} while (z->z.avail_out == 0);
	return !end || drop_flush_end(out, from);
}
