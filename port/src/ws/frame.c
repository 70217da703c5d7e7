/* SPDX-License-Identifier: Apache-2.0 */
#include "ws/frame.h"

#include "ws/utf8.h"

static bool fail(struct ws_fault *fault, unsigned code, const char *rule)
{
	*fault = (struct ws_fault){code, rule};
	return false;
}

static bool protocol_error(struct ws_fault *fault, const char *rule)
{
	return fail(fault, WS_PROTOCOL_ERROR, rule);
}

static bool check_first_byte(const struct ws_guard *g, uint8_t byte, struct ws_header *h, struct ws_fault *fault)
{
	bool rsv1 = byte & 0x40;

	h->fin = byte & 0x80;
	h->type = byte & 0x0f;
	h->compressed = rsv1;
	if (byte & 0x30)
		return protocol_error(fault, "a reserved bit is set");
	if (h->type > WS_PONG || (h->type > WS_BINARY && h->type < WS_CLOSE))
		return protocol_error(fault, "a reserved opcode");
	if (rsv1 && (!g->may_compress || ws_is_control(h->type) || h->type == WS_CONTINUATION))
		return protocol_error(fault, "RSV1 is set");
	if (ws_is_control(h->type))
		return h->fin || protocol_error(fault, "a fragmented control frame");
	if (h->type == WS_CONTINUATION && !g->type)
		return protocol_error(fault, "a continuation without a message");
	if (h->type != WS_CONTINUATION && g->type)
		return protocol_error(fault, "a message inside another");
	return true;
}

static bool check_second_byte(uint8_t byte, const struct ws_header *h, struct ws_fault *fault)
{
	if (!(byte & 0x80))
		return protocol_error(fault, "a frame without a mask");
	if (ws_is_control(h->type) && (byte & 0x7f) > WS_CONTROL_MAX)
		return protocol_error(fault, "a control frame of more than 125 bytes");
	return true;
}

static uint64_t read_number(const uint8_t *at, unsigned size)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < size; i++)
		n = n << 8 | at[i];
	return n;
}

/* A message of one frame is not fragmented. */
static bool is_small_fragment(const struct ws_guard *g, const struct ws_header *h)
{
	return h->len < WS_SMALL_FRAGMENT && (g->type != WS_CONTINUATION || !h->fin);
}

static bool check_length(const struct ws_guard *g, const struct ws_header *h, unsigned width, struct ws_fault *fault)
{
	if ((width == 2 && h->len < 126) || (width == 8 && h->len < 65536))
		return protocol_error(fault, "a length that is not minimal");
	if (h->len >> 63)
		return protocol_error(fault, "a length of more than 63 bits");
	if (ws_is_control(h->type))
		return true;
	if (h->len > g->max_message || g->size > g->max_message - h->len)
		return fail(fault, WS_TOO_BIG, "the message is too big");
	if (is_small_fragment(g, h) && g->small >= g->max_fragments)
		return fail(fault, WS_TOO_BIG, "too many small fragments");
	return true;
}

enum ws_look ws_guard_look(const struct ws_guard *g, struct slice bytes, struct ws_header *h, struct ws_fault *fault)
{
	unsigned width;

	if (bytes.len < 1)
		return WS_LOOK_MORE;
	if (!check_first_byte(g, bytes.at[0], h, fault))
		return WS_LOOK_FAULT;
	if (bytes.len < 2)
		return WS_LOOK_MORE;
	if (!check_second_byte(bytes.at[1], h, fault))
		return WS_LOOK_FAULT;
	h->len = bytes.at[1] & 0x7f;
	width = h->len == 126 ? 2 : h->len == 127 ? 8 : 0;
	if (bytes.len < 2 + width)
		return WS_LOOK_MORE;
	if (width)
		h->len = read_number(bytes.at + 2, width);
	if (!check_length(g, h, width, fault))
		return WS_LOOK_FAULT;
	h->size = (uint8_t)(2 + width + 4);
	return bytes.len < h->size ? WS_LOOK_MORE : WS_LOOK_FRAME;
}

void ws_guard_begin(struct ws_guard *g, const struct ws_header *h)
{
	g->small += is_small_fragment(g, h);
	if (h->type != WS_CONTINUATION) {
		g->type = h->type;
		g->compressed = h->compressed;
	}
	g->size += h->len;
}

void ws_guard_end(struct ws_guard *g)
{
	g->type = WS_CONTINUATION;
	g->compressed = false;
	g->small = 0;
	g->size = 0;
}

bool ws_code_valid(unsigned code)
{
	return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999);
}

bool ws_read_close(struct slice payload, unsigned *code, struct slice *reason, struct ws_fault *fault)
{
	struct utf8 text = {0};

	*code = WS_NO_CODE;
	*reason = (struct slice){0};
	if (payload.len == 0)
		return true;
	if (payload.len == 1)
		return protocol_error(fault, "an incomplete close code");
	*code = (unsigned)read_number(payload.at, 2);
	if (!ws_code_valid(*code))
		return protocol_error(fault, "a close code that is not allowed");
	*reason = slice_of(payload.at + 2, payload.len - 2);
	if (!utf8_feed(&text, *reason) || !utf8_whole(&text))
		return fail(fault, WS_BAD_DATA, "a close reason that is not UTF-8");
	return true;
}
