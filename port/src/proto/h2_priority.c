/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/h2_priority.h"

enum { ID_LEN = 4, URGENCY_DEFAULT = 3, URGENCY_MAX = 7 };

/* The priority of a stream that does not exist yet. */
struct h2_update {
	int32_t id;
	uint8_t urgency;
	bool incremental;
};

/* ---- the field value ---- */

static void skip_blanks(struct slice *in)
{
	while (in->len && (*in->at == ' ' || *in->at == '\t'))
		*in = slice_of(in->at + 1, in->len - 1);
}

static bool take_mark(struct slice *in, uint8_t mark)
{
	if (in->len == 0 || *in->at != mark)
		return false;
	*in = slice_of(in->at + 1, in->len - 1);
	return true;
}

static bool is_letter(uint8_t c)
{
	return (c >= 'a' && c <= 'z') || c == '*';
}

static bool is_key_char(uint8_t c)
{
	return is_letter(c) || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';
}

static struct slice take_key(struct slice *in)
{
	struct slice key = slice_of(in->at, 0);

	if (in->len == 0 || !is_letter(*in->at))
		return key;
	while (key.len < in->len && is_key_char(in->at[key.len]))
		key.len++;
	*in = slice_of(in->at + key.len, in->len - key.len);
	return key;
}

/* A string up to its closing quote; empty if that is missing. */
static size_t string_length(struct slice in)
{
	for (size_t i = 1; i < in.len; i++) {
		if (in.at[i] == '"')
			return i + 1;
		i += in.at[i] == '\\';
	}
	return 0;
}

static bool is_value_char(uint8_t c)
{
	return c > 0x20 && c < 0x7f && c != ',' && c != ';';
}

/* A string, or the bytes before the next parameter or member: only the end of an unknown value matters. */
static struct slice take_value(struct slice *in)
{
	struct slice value = slice_of(in->at, 0);

	if (in->len && *in->at == '"')
		value.len = string_length(*in);
	else
		while (value.len < in->len && is_value_char(in->at[value.len]))
			value.len++;
	*in = slice_of(in->at + value.len, in->len - value.len);
	return value;
}

/* key [ "=" value ]; a missing value means true. */
static bool take_pair(struct slice *in, struct slice *key, struct slice *value)
{
	*key = take_key(in);
	*value = SLICE_LIT("?1");
	if (key->len == 0)
		return false;
	if (!take_mark(in, '='))
		return true;
	*value = take_value(in);
	return value->len > 0;
}

static bool take_parameters(struct slice *in)
{
	struct slice key, value;

	while (take_mark(in, ';')) {
		skip_blanks(in);
		if (!take_pair(in, &key, &value))
			return false;
	}
	return true;
}

bool h2_priority_parse(struct slice text, unsigned *urgency, bool *incremental)
{
	unsigned u = URGENCY_DEFAULT;
	bool i = false;
	struct slice key, value;

	for (skip_blanks(&text); text.len;) {
		if (!take_pair(&text, &key, &value) || !take_parameters(&text))
			return false;
		if (slice_eq(key, SLICE_LIT("u")) && value.len == 1 && *value.at >= '0' && *value.at <= '0' + URGENCY_MAX)
			u = *value.at - (unsigned)'0';
		else if (slice_eq(key, SLICE_LIT("i")) && value.len == 2 && *value.at == '?')
			i = value.at[1] == '1';
		skip_blanks(&text);
		if (text.len == 0)
			break;
		if (!take_mark(&text, ','))
			return false;
		skip_blanks(&text);
		if (text.len == 0)
			return false; /* a comma with nothing after it */
	}
	*urgency = u;
	*incremental = i;
	return true;
}

/* ---- the frame ---- */

static int on_chunk(nghttp2_session *ng, const nghttp2_frame_hd *hd, const uint8_t *data, size_t len, void *ctx)
{
	struct h2 *h2 = ctx;
	size_t room = sizeof h2->update - h2->update_len, part = len < room ? len : room;

	(void)ng;
	(void)hd;
	memcpy(h2->update + h2->update_len, data, part);
	h2->update_len = (uint8_t)(h2->update_len + part);
	return 0;
}

static int unpack(nghttp2_session *ng, void **payload, const nghttp2_frame_hd *hd, void *ctx)
{
	(void)ng;
	(void)hd;
	*payload = ctx;
	return 0;
}

void h2_priority_callbacks(nghttp2_session_callbacks *callbacks, nghttp2_option *option)
{
	nghttp2_option_set_user_recv_extension_type(option, NGHTTP2_PRIORITY_UPDATE);
	nghttp2_session_callbacks_set_on_extension_chunk_recv_callback(callbacks, on_chunk);
	nghttp2_session_callbacks_set_unpack_extension_callback(callbacks, unpack);
}

static void set_priority(struct h2 *h2, const struct h2_update *u)
{
	nghttp2_extpri priority = {u->urgency, u->incremental};

	if (nghttp2_session_change_extpri_stream_priority(h2->ng, u->id, &priority, 1) == NGHTTP2_ERR_NOMEM)
		h2->m.fault = NGHTTP2_INTERNAL_ERROR;
}

/* The newest frame of a stream counts. Frames for streams that do not exist yet count as streams: RFC 9218 7.1. */
static uint32_t keep(struct h2 *h2, const struct h2_update *u)
{
	struct h2_update *kept = (struct h2_update *)(void *)buf_at(&h2->updates);
	size_t count = buf_len(&h2->updates) / sizeof *kept;

	for (size_t i = 0; i < count; i++)
		if (kept[i].id == u->id) {
			kept[i] = *u;
			return NGHTTP2_NO_ERROR;
		}
	if (count >= h2_config(h2)->h2_max_streams)
		return NGHTTP2_PROTOCOL_ERROR;
	return buf_append(&h2->updates, u, sizeof *u) ? NGHTTP2_NO_ERROR : NGHTTP2_INTERNAL_ERROR;
}

static bool is_to_come(const struct h2 *h2, int32_t id)
{
	return id % 2 ? id > h2->newest : (uint32_t)id >= nghttp2_session_get_next_stream_id(h2->ng);
}

uint32_t h2_priority_take(struct h2 *h2, const nghttp2_frame *frame)
{
	struct slice said = slice_of(h2->update, h2->update_len);
	struct h2_update u;
	unsigned urgency;

	h2->update_len = 0;
	if (frame->hd.length < ID_LEN)
		return NGHTTP2_FRAME_SIZE_ERROR;
	u.id = (int32_t)(((uint32_t)said.at[0] & 0x7f) << 24 | (uint32_t)said.at[1] << 16 | (uint32_t)said.at[2] << 8 | said.at[3]);
	if (frame->hd.stream_id != 0 || u.id == 0 || (u.id % 2 == 0 && is_to_come(h2, u.id)))
		return NGHTTP2_PROTOCOL_ERROR;
	if (frame->hd.length > sizeof h2->update ||
	    !h2_priority_parse(slice_of(said.at + ID_LEN, said.len - ID_LEN), &urgency, &u.incremental))
		return NGHTTP2_NO_ERROR; /* RFC 9218 4: ignored */
	u.urgency = (uint8_t)urgency;
	if (is_to_come(h2, u.id))
		return keep(h2, &u);
	if (h2_stream_of(h2, u.id))
		set_priority(h2, &u);
	return NGHTTP2_NO_ERROR;
}

void h2_priority_begins(struct h2 *h2, int32_t id)
{
	struct h2_update *kept = (struct h2_update *)(void *)buf_at(&h2->updates);
	size_t count = buf_len(&h2->updates) / sizeof *kept, left = 0;

	for (size_t i = 0; i < count; i++) {
		if (kept[i].id == id)
			set_priority(h2, &kept[i]);
		else if (kept[i].id > id) /* lower stream numbers cannot be opened any more */
			kept[left++] = kept[i];
	}
	h2->updates.tail -= (count - left) * sizeof *kept;
	if (left == 0)
		buf_free(&h2->updates);
}
