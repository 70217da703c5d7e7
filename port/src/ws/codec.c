/* SPDX-License-Identifier: Apache-2.0 */
#include "ws/codec.h"

#include <stdlib.h>

#include <wslay/wslay.h>

struct ws_codec {
	wslay_frame_context_ptr frame;
	struct slice in;
	ws_write_fn *write;
	void *ctx;
	bool failed;
};

static ssize_t on_recv(uint8_t *buf, size_t len, int flags, void *data)
{
	struct ws_codec *c = data;
	size_t n = len < c->in.len ? len : c->in.len;

	(void)flags;
	if (n == 0)
		return -1; /* nothing yet */
	memcpy(buf, c->in.at, n);
	c->in = slice_of(c->in.at + n, c->in.len - n);
	return (ssize_t)n;
}

static ssize_t on_send(const uint8_t *bytes, size_t len, int flags, void *data)
{
	struct ws_codec *c = data;

	(void)flags;
	if (!c->write(c->ctx, slice_of(bytes, len))) {
		c->failed = true;
		return -1;
	}
	return (ssize_t)len;
}

static const struct wslay_frame_callbacks callbacks = {.send_callback = on_send, .recv_callback = on_recv};

static struct ws_codec *codec_new(void)
{
	struct ws_codec *c = calloc(1, sizeof *c);

	if (c && wslay_frame_context_init(&c->frame, &callbacks, c) != 0) {
		free(c);
		return NULL;
	}
	return c;
}

struct ws_codec *ws_codec_take(struct ws_codec **spare)
{
	struct ws_codec *c = *spare;

	*spare = NULL;
	return c ? c : codec_new();
}

void ws_codec_give(struct ws_codec **spare, struct ws_codec *c, bool broken)
{
	if (broken) {
		ws_codec_free(c);
		return;
	}
	ws_codec_free(*spare); /* the last bytes read are in this frame, and are still to be returned */
	*spare = c;
}

void ws_codec_free(struct ws_codec *c)
{
	if (!c)
		return;
	wslay_frame_context_free(c->frame);
	free(c);
}

bool ws_codec_read(struct ws_codec *c, struct slice *in, struct slice *piece)
{
	struct wslay_frame_iocb io = {0};
	ssize_t n;

	c->in = *in;
	n = wslay_frame_recv(c->frame, &io);
	*in = c->in;
	*piece = n >= 0 ? slice_of(io.data, io.data_length) : (struct slice){0};
	return n >= 0 || n == WSLAY_ERR_WANT_READ;
}

bool ws_codec_write(struct ws_codec *c, struct ws_out out, struct slice payload, ws_write_fn *write, void *ctx)
{
	struct wslay_frame_iocb io = {
		.fin = out.fin,
		.rsv = out.compressed ? WSLAY_RSV1_BIT : WSLAY_RSV_NONE,
		.opcode = out.type,
		.payload_length = payload.len,
		.data = payload.at,
		.data_length = payload.len,
	};

	c->write = write;
	c->ctx = ctx;
	c->failed = false;
	return wslay_frame_send(c->frame, &io) >= 0 && !c->failed;
}
