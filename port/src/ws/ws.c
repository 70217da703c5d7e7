/* SPDX-License-Identifier: Apache-2.0 */
#include "ws/ws.h"

#include <stdlib.h>

#include "base/sm.h"

enum { PING_LEN = 4, CODE_LEN = 2, PONGS_AT_ONCE = 16, RATIO_FLOOR = 1024 * 1024 };

static const char *const state_names[] = {"open", "closing", "leaving", "over"};
static const uint32_t state_next[] = {
	[WS_OPEN] = SM_BIT(WS_CLOSING) | SM_BIT(WS_LEAVING) | SM_BIT(WS_OVER),
	[WS_CLOSING] = SM_BIT(WS_LEAVING) | SM_BIT(WS_OVER),
	[WS_LEAVING] = SM_BIT(WS_OVER),
	[WS_OVER] = 0,
};
static const struct sm machine = {"ws", state_names, state_next};

static const struct ws_option_def option_defs[] = {
#define WS_OPTION(name, value, min, max, unit, meaning) {#name, unit, min, max, offsetof(struct ws_config, name)},
#include "ws/options.def"
#undef WS_OPTION
};

const struct ws_option_def *ws_option_at(unsigned position)
{
	return position < sizeof option_defs / sizeof *option_defs ? &option_defs[position] : NULL;
}

void ws_config_defaults(struct ws_config *c)
{
	*c = (struct ws_config){
#define WS_OPTION(name, value, min, max, unit, meaning) .name = (value),
#include "ws/options.def"
#undef WS_OPTION
		.compress = {.server_no_takeover = true,
			     .client_no_takeover = true,
			     .server_bits = 12,
			     .client_bits = 12,
			     .level = 6,
			     .mem_level = 5,
			     .max_ratio = 100},
	};
}

static uint64_t now(const struct ws *w)
{
	return *w->env->now;
}

/* ---- objects that are borrowed for a frame or message ---- */

static void give_codec(struct ws *w, bool broken)
{
	if (w->codec)
		ws_codec_give(&w->env->codec, w->codec, broken);
	w->codec = NULL;
}

static bool take_inflater(struct ws *w)
{
	if (w->inflater)
		return true;
	w->inflater = w->env->inflater ? w->env->inflater : inflater_new();
	w->env->inflater = NULL;
	return w->inflater != NULL;
}

static void give_inflater(struct ws *w)
{
	if (!w->inflater)
		return;
	if (w->env->inflater) {
		inflater_free(w->inflater);
	} else {
		inflater_reset(w->inflater);
		w->env->inflater = w->inflater;
	}
	w->inflater = NULL;
}

static bool take_deflater(struct ws *w)
{
	struct ws_env *env = w->env;

	if (w->deflater)
		return true;
	if (env->deflater && deflater_is(env->deflater, w->deflate->server_bits, w->level, w->mem_level)) {
		w->deflater = env->deflater;
		env->deflater = NULL;
		return true;
	}
	w->deflater = deflater_new(w->deflate->server_bits, w->level, w->mem_level);
	return w->deflater != NULL;
}

static void give_deflater(struct ws *w)
{
	if (!w->deflater)
		return;
	deflater_free(w->env->deflater); /* keep the most recently used one: its parameters are the likeliest to match */
	deflater_reset(w->deflater);
	w->env->deflater = w->deflater;
	w->deflater = NULL;
}

void ws_env_free(struct ws_env *env)
{
	ws_codec_free(env->codec);
	inflater_free(env->inflater);
	deflater_free(env->deflater);
	buf_free(&env->deflated);
}

/* ---- beginning and end ---- */

struct ws *ws_new(struct ws_env *env, struct stream *s, const struct ws_config *c, const struct deflate_params *agreed)
{
	struct ws *w = calloc(1, sizeof *w + (agreed ? sizeof *agreed : 0));

	if (!w)
		return NULL;
	w->s = s;
	w->env = env;
	w->guard = (struct ws_guard){
		.max_message = c->max_message, .max_fragments = (uint32_t)c->max_fragments, .may_compress = agreed != NULL};
	if (agreed) {
		w->deflate = (struct deflate_params *)(w + 1);
		*w->deflate = *agreed;
	}
	w->idle_timeout = (uint32_t)c->idle_timeout;
	w->ping_interval = (uint32_t)c->ping_interval;
	w->close_timeout = (uint32_t)c->close_timeout;
	w->credit = c->prefetch;
	w->credit_grows = c->prefetch == 0;
	w->max_ratio = c->compress.max_ratio;
	w->level = c->compress.level;
	w->mem_level = c->compress.mem_level;
	w->heard = w->active = now(w);
	return w;
}

void ws_free(struct ws *w)
{
	if (!w)
		return;
	ws_codec_free(w->codec);
	buf_free(&w->message);
	buf_free(&w->pong);
	inflater_free(w->inflater);
	deflater_free(w->deflater);
	free(w);
}

/* ---- sending ---- */

static bool on_write(void *ctx, struct slice bytes)
{
	struct ws *w = ctx;

	w->wire_total += bytes.len;
	return w->s->ops->send_data(w->s, bytes);
}

/* Deflated bytes lie in a shared buffer, so they are sent in portions that are copied. */
static bool on_write_deflated(void *ctx, struct slice bytes)
{
	while (bytes.len > SEND_COPIED) {
		if (!on_write(ctx, slice_of(bytes.at, SEND_COPIED)))
			return false;
		bytes = slice_of(bytes.at + SEND_COPIED, bytes.len - SEND_COPIED);
	}
	return on_write(ctx, bytes);
}

static bool send_frame(struct ws *w, struct ws_out out, struct slice payload)
{
	struct ws_codec *c = ws_codec_take(&w->env->codec);
	bool sent = c && ws_codec_write(c, out, payload, out.deflated ? on_write_deflated : on_write, w);

	if (c)
		ws_codec_give(&w->env->codec, c, !sent);
	return sent;
}

static bool send_control(struct ws *w, enum ws_type type, struct slice payload)
{
	return send_frame(w, (struct ws_out){.type = (uint8_t)type, .fin = true}, payload);
}

/* code WS_NO_CODE or 0: without code and text. */
static bool send_close(struct ws *w, unsigned code, struct slice reason)
{
	uint8_t payload[WS_CONTROL_MAX] = {(uint8_t)(code >> 8), (uint8_t)code};
	size_t len = reason.len < sizeof payload - CODE_LEN ? reason.len : sizeof payload - CODE_LEN;

	if (w->said_close)
		return true;
	w->said_close = true;
	if (code == 0 || code == WS_NO_CODE)
		return send_control(w, WS_CLOSE, (struct slice){0});
	if (len)
		memcpy(payload + CODE_LEN, reason.at, len);
	return send_control(w, WS_CLOSE, slice_of(payload, CODE_LEN + len));
}

/* The piece as it is sent: deflated or unchanged. */
static bool deflate_piece(struct ws *w, struct slice *data, bool more)
{
	struct buf *out = &w->env->deflated;
	bool deflated;

	if (!w->deflating)
		return true;
	buf_consume(out, buf_len(out));
	deflated = take_deflater(w) && deflater_feed(w->deflater, *data, !more, out);
	*data = slice_of(buf_at(out), buf_len(out));
	if (!more && w->deflater && w->deflate->server_no_takeover)
		give_deflater(w);
	return deflated;
}

static enum ws_result send_piece(struct ws *w, unsigned type, struct slice data, bool more)
{
	bool first = w->sending == WS_CONTINUATION;
	struct ws_out out = {.type = (uint8_t)(first ? type : WS_CONTINUATION), .fin = !more};

	if (first)
		w->deflating = w->deflate != NULL;
	out.compressed = first && w->deflating;
	out.deflated = w->deflating;
	w->active = now(w);
	if (!deflate_piece(w, &data, more) || !send_frame(w, out, data))
		return WS_OUT_OF_MEMORY;
	w->sending = (uint8_t)(more ? type : WS_CONTINUATION);
	return WS_OK;
}

static enum ws_result refuse(const char **rule, const char *why)
{
	*rule = why;
	return WS_REFUSED;
}

static enum ws_result send_control_of_host(struct ws *w, unsigned type, struct slice data, bool more, const char **rule)
{
	if (more || data.len > WS_CONTROL_MAX)
		return refuse(rule, "is longer than a control frame may be: 125 bytes");
	return send_control(w, (enum ws_type)type, data) ? WS_OK : WS_OUT_OF_MEMORY;
}

enum ws_result ws_send(struct ws *w, unsigned type, struct slice data, bool more, const char **rule)
{
	if (w->said_close)
		return WS_OK;
	w->unsent += data.len + WS_SEND_COST;
	if (type == WS_PING || type == WS_PONG)
		return send_control_of_host(w, type, data, more, rule);
	if (type != WS_TEXT && type != WS_BINARY)
		return refuse(rule, "must be 1, 2, 9 or 10");
	if (w->sending != WS_CONTINUATION && w->sending != type)
		return refuse(rule, "must match the type of the message already started");
	if (type == WS_TEXT && (!utf8_feed(&w->out_text, data) || (!more && !utf8_whole(&w->out_text))))
		return refuse(rule, "is text that is not UTF-8");
	return send_piece(w, type, data, more);
}

enum ws_result ws_close(struct ws *w, enum ws_closer closer, unsigned code, struct slice reason, const char **rule)
{
	struct utf8 text = {0};

	if (code && !ws_code_valid(code))
		return refuse(rule, "must be 0, 1000 to 1003, 1007 to 1014, or 3000 to 4999");
	if (reason.len > WS_CONTROL_MAX - CODE_LEN || (reason.len && !code))
		return refuse(rule, "has a reason without a code, or of more than 123 bytes");
	if (!utf8_feed(&text, reason) || !utf8_whole(&text))
		return refuse(rule, "has a reason that is not UTF-8");
	if (w->state != WS_OPEN)
		return WS_OK;
	sm_move(&machine, &w->state, WS_CLOSING);
	w->closer = (uint8_t)closer;
	w->closing = now(w);
	return send_close(w, code, reason) ? WS_OK : WS_OUT_OF_MEMORY;
}

void ws_fail(struct ws *w, unsigned code, const char *reason)
{
	if (w->state == WS_OVER)
		return;
	sm_move(&machine, &w->state, WS_OVER);
	send_close(w, code, slice_str(reason));
}

/* With PONGS_AT_ONCE pongs still queued, remember only the newest ping and answer it when they have drained (RFC 6455 5.5.3). */
static bool send_pong(struct ws *w, struct slice payload)
{
	if (w->said_close)
		return true;
	if (w->wire_gone >= w->pong_end)
		w->pongs = 0;
	if (w->pongs == PONGS_AT_ONCE) {
		buf_consume(&w->pong, buf_len(&w->pong));
		return payload.len ? buf_append(&w->pong, payload.at, payload.len) : buf_reserve(&w->pong, 1);
	}
	if (!send_control(w, WS_PONG, payload))
		return false;
	w->pong_end = w->wire_total;
	w->pongs++;
	return true;
}

uint64_t ws_sent(struct ws *w, uint64_t n)
{
	uint64_t left, freed;

	w->wire_gone += n;
	left = w->wire_total - w->wire_gone;
	left = w->unsent < left ? w->unsent : left;
	freed = w->unsent - left;
	w->unsent = left;
	if (w->pong.data && w->wire_gone >= w->pong_end) {
		struct buf newest = w->pong;
		w->pong = (struct buf){0};
		send_pong(w, slice_of(buf_at(&newest), buf_len(&newest)));
		buf_free(&newest);
	}
	return freed;
}

/* ---- receiving ---- */

static struct ws_event nothing(void)
{
	return (struct ws_event){.kind = WS_NOTHING};
}

static struct ws_event no_memory(void)
{
	return (struct ws_event){.kind = WS_NO_MEMORY};
}

static struct ws_event leaves(struct ws *w, unsigned code, const char *fault)
{
	sm_move(&machine, &w->state, WS_LEAVING);
	w->code = (uint16_t)code;
	w->fault = fault;
	w->closing = now(w);
	return (struct ws_event){.kind = WS_LEAVES};
}

static struct ws_event failed(struct ws *w, struct ws_fault fault)
{
	give_codec(w, true);
	buf_free(&w->message);
	return leaves(w, fault.code, fault.rule);
}

static struct ws_event failed_with(struct ws *w, unsigned code, const char *rule)
{
	return failed(w, (struct ws_fault){code, rule});
}

static bool is_own_pong(const struct ws *w, struct slice payload)
{
	return w->ping_count && payload.len == PING_LEN && memcmp(payload.at, &w->ping_count, PING_LEN) == 0;
}

static struct ws_event take_close(struct ws *w, struct slice payload)
{
	struct ws_fault fault;
	struct slice reason;
	unsigned code;

	if (!ws_read_close(payload, &code, &reason, &fault))
		return failed(w, fault);
	buf_free(&w->message);
	if (reason.len && !buf_append(&w->message, reason.at, reason.len))
		return no_memory();
	return leaves(w, code, NULL);
}

struct ws_event ws_last_event(const struct ws *w)
{
	struct slice reason = w->fault ? slice_str(w->fault) : slice_of(buf_at(&w->message), buf_len(&w->message));

	return (struct ws_event){.kind = w->fault ? WS_FAILED : WS_CLOSED, .code = w->code, .data = reason};
}

struct ws_event ws_finish(struct ws *w)
{
	sm_move(&machine, &w->state, WS_OVER);
	return send_close(w, w->code, w->fault ? slice_str(w->fault) : (struct slice){0}) ? ws_last_event(w) : no_memory();
}

static struct ws_event take_control(struct ws *w, unsigned type, struct slice payload)
{
	if (type == WS_CLOSE)
		return take_close(w, payload);
	if (type == WS_PING && !send_pong(w, payload))
		return no_memory();
	if (w->state != WS_OPEN || (type == WS_PONG && is_own_pong(w, payload)))
		return nothing();
	return (struct ws_event){.kind = WS_MESSAGE, .type = type, .data = payload};
}

/* A control frame is short: it is handled once it is complete. */
static struct ws_event control_frame(struct ws *w, const struct ws_header *h, struct slice bytes, size_t *used)
{
	struct slice payload = {0}, in = slice_of(bytes.at, h->size + (size_t)h->len);
	struct ws_codec *c;

	if (bytes.len < in.len)
		return nothing();
	*used = in.len;
	if (h->len == 0)
		return take_control(w, h->type, payload);
	c = ws_codec_take(&w->env->codec);
	if (!c)
		return no_memory();
	if (!ws_codec_read(c, &in, &payload) || payload.len != h->len) {
		ws_codec_free(c);
		return failed_with(w, WS_PROTOCOL_ERROR, "a malformed frame");
	}
	ws_codec_give(&w->env->codec, c, false); /* writing does not touch the bytes that were read */
	return take_control(w, h->type, payload);
}

static struct ws_fault inflate_fault(enum inflate_result result)
{
	if (result == INFLATE_TOO_BIG)
		return (struct ws_fault){WS_TOO_BIG, "the message is too big"};
	if (result == INFLATE_NO_MEMORY)
		return (struct ws_fault){WS_INTERNAL_ERROR, "out of memory"};
	return (struct ws_fault){result == INFLATE_OK ? 0 : WS_BAD_DATA, "compressed data that is malformed"};
}

/* The longest message allowed for this many compressed bytes. */
static size_t inflate_bound(const struct ws *w)
{
	uint64_t most = (w->guard.size - w->frame_left) * w->max_ratio;

	if (most < RATIO_FLOOR)
		most = RATIO_FLOOR;
	return (size_t)(most < w->guard.max_message ? most : w->guard.max_message);
}

/* The bytes inflated after `from` are checked even if inflating failed later: the first error counts, however the bytes are
 * split. */
static bool inflated_text_valid(struct ws *w, size_t from)
{
	size_t n = buf_len(&w->message) - from;

	return w->guard.type != WS_TEXT || n == 0 || utf8_feed(&w->in_text, slice_of(buf_at(&w->message) + from, n));
}

/* At the end of the message: appends the bytes that the compressed form leaves out. */
static struct ws_fault inflate_piece(struct ws *w, struct slice piece, bool end)
{
	size_t before = buf_len(&w->message);
	enum inflate_result result;

	if (!take_inflater(w))
		return inflate_fault(INFLATE_NO_MEMORY);
	result = end ? inflater_end(w->inflater, &w->message, inflate_bound(w))
		     : inflater_feed(w->inflater, piece, &w->message, inflate_bound(w));
	if (!inflated_text_valid(w, before))
		return (struct ws_fault){WS_BAD_DATA, "text that is not UTF-8"};
	return inflate_fault(result);
}

static struct ws_fault take_piece(struct ws *w, struct slice piece)
{
	if (w->guard.compressed)
		return inflate_piece(w, piece, false);
	if (w->guard.type == WS_TEXT && !utf8_feed(&w->in_text, piece))
		return (struct ws_fault){WS_BAD_DATA, "text that is not UTF-8"};
	if (!buf_append(&w->message, piece.at, piece.len))
		return (struct ws_fault){WS_INTERNAL_ERROR, "out of memory"};
	return (struct ws_fault){0};
}

/* The last frame of a message was read; data is its payload so far. */
static struct ws_event message_ended(struct ws *w, struct slice data)
{
	struct ws_event event = {.kind = WS_MESSAGE, .type = w->guard.type, .data = data};
	bool whole = utf8_whole(&w->in_text);

	w->in_text = (struct utf8){0};
	ws_guard_end(&w->guard);
	if (w->state != WS_OPEN)
		return nothing();
	if (!whole)
		return failed_with(w, WS_BAD_DATA, "text that ends inside a character");
	w->active = now(w);
	return event;
}

static struct ws_event frame_ended(struct ws *w)
{
	give_codec(w, false);
	if (!w->frame_fin)
		return nothing();
	if (w->guard.compressed && w->state == WS_OPEN) {
		struct ws_fault fault = inflate_piece(w, (struct slice){0}, true);
		if (fault.code)
			return failed(w, fault);
		if (w->deflate->client_no_takeover)
			give_inflater(w);
	}
	return message_ended(w, slice_of(buf_at(&w->message), buf_len(&w->message)));
}

/* The whole message lies in wslay's buffer: it is passed on from there. */
static bool is_whole(const struct ws *w, struct slice piece)
{
	return w->frame_left == 0 && w->frame_fin && !w->guard.compressed && buf_len(&w->message) == 0 &&
	       w->guard.size == piece.len;
}

static struct ws_event whole_message(struct ws *w, struct slice data)
{
	give_codec(w, false);
	if (w->state == WS_OPEN && w->guard.type == WS_TEXT && !utf8_feed(&w->in_text, data))
		return failed_with(w, WS_BAD_DATA, "text that is not UTF-8");
	return message_ended(w, data);
}

/* Bytes of the data frame that is being read, its header perhaps first. */
static struct ws_event feed_frame(struct ws *w, struct slice in)
{
	struct slice piece;

	if (!w->codec && !(w->codec = ws_codec_take(&w->env->codec)))
		return no_memory();
	for (;;) {
		struct ws_fault fault;
		if (!ws_codec_read(w->codec, &in, &piece))
			return failed_with(w, WS_PROTOCOL_ERROR, "a malformed frame");
		if (piece.len == 0)
			return w->frame_left ? nothing() : frame_ended(w);
		w->frame_left -= piece.len;
		if (is_whole(w, piece))
			return whole_message(w, piece);
		if (w->state != WS_OPEN)
			continue; /* it will not be passed on */
		fault = take_piece(w, piece);
		if (fault.code)
			return failed(w, fault);
		if (w->frame_left == 0)
			return frame_ended(w);
	}
}

static struct ws_event continue_frame(struct ws *w, struct slice bytes, size_t *used)
{
	*used = bytes.len < w->frame_left ? bytes.len : (size_t)w->frame_left;
	return feed_frame(w, slice_of(bytes.at, *used));
}

static struct ws_event data_frame(struct ws *w, const struct ws_header *h, struct slice bytes, size_t *used)
{
	uint64_t whole = h->size + h->len;

	ws_guard_begin(&w->guard, h);
	w->frame_fin = h->fin;
	w->frame_left = h->len;
	*used = bytes.len < whole ? bytes.len : (size_t)whole;
	return h->len ? feed_frame(w, slice_of(bytes.at, *used)) : frame_ended(w);
}

static struct ws_event next_frame(struct ws *w, struct slice bytes, size_t *used)
{
	struct ws_header h;
	struct ws_fault fault;

	switch (ws_guard_look(&w->guard, bytes, &h, &fault)) {
	case WS_LOOK_MORE:
		return nothing();
	case WS_LOOK_FAULT:
		return failed(w, fault);
	case WS_LOOK_FRAME:
		break;
	}
	return ws_is_control(h.type) ? control_frame(w, &h, bytes, used) : data_frame(w, &h, bytes, used);
}

struct ws_event ws_next(struct ws *w, struct slice bytes, size_t *used)
{
	struct ws_event event;
	size_t n;

	*used = 0;
	if (w->state == WS_LEAVING) {
		*used = bytes.len; /* after its Close a client sends nothing */
		return nothing();
	}
	if (w->guard.type == WS_CONTINUATION)
		buf_free(&w->message); /* it was passed on */
	w->heard = now(w);
	w->pinged = 0;
	do {
		struct slice rest = slice_of(bytes.at + *used, bytes.len - *used);
		n = 0;
		event = w->frame_left ? continue_frame(w, rest, &n) : next_frame(w, rest, &n);
		*used += n;
	} while (event.kind == WS_NOTHING && n > 0 && *used < bytes.len);
	return event;
}

/* ---- deadlines ---- */

static uint64_t sooner(uint64_t a, uint64_t b)
{
	return a == 0 || (b && b < a) ? b : a;
}

uint64_t ws_deadline(const struct ws *w)
{
	uint64_t idle = w->idle_timeout ? w->active + w->idle_timeout : 0;
	uint64_t ping = w->ping_interval ? (w->pinged ? w->pinged : w->heard) + w->ping_interval : 0;

	switch ((enum ws_state)w->state) {
	case WS_OPEN:
		return sooner(idle, ping);
	case WS_CLOSING:
	case WS_LEAVING:
		return w->closing + w->close_timeout;
	case WS_OVER:
		break;
	}
	return 0;
}

static bool ping(struct ws *w)
{
	w->ping_count++;
	w->pinged = now(w);
	return send_control(w, WS_PING, slice_of(&w->ping_count, PING_LEN));
}

/* While the socket is not read, a pong cannot arrive: the client is not to blame. */
static bool ping_due(struct ws *w, bool reading)
{
	if (!reading) {
		w->heard = now(w);
		w->pinged = 0;
		return true;
	}
	return !w->pinged && ping(w);
}

bool ws_tick(struct ws *w, bool reading)
{
	const char *rule;

	if (w->state == WS_CLOSING)
		return now(w) < w->closing + w->close_timeout;
	if (w->state == WS_OPEN && w->idle_timeout && now(w) >= w->active + w->idle_timeout)
		return ws_close(w, WS_CLOSED_FOR_IDLENESS, WS_GOING_AWAY, SLICE_LIT("idle"), &rule) == WS_OK;
	if (w->state == WS_OPEN && w->ping_interval && now(w) >= (w->pinged ? w->pinged : w->heard) + w->ping_interval)
		return ping_due(w, reading);
	return true;
}
