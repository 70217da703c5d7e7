/* SPDX-License-Identifier: Apache-2.0 */
#include "host_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static bool no_turn(void *ctx)
{
	(void)ctx;
	return false;
}

void host_start(struct host *h, const struct link_handler *handler, void *ctx)
{
	memset(h, 0, sizeof *h);
	assert_true(loop_init(&h->loop, no_turn, NULL));
	assert_int_equal(pipe2(h->to_port, O_NONBLOCK | O_CLOEXEC), 0);
	assert_int_equal(pipe2(h->from_port, O_NONBLOCK | O_CLOEXEC), 0);
	h->loop.now = 1000;
	h->loop.now_us = 1000000;
	wheel_init(&h->loop.wheel, h->loop.now);
	link_init(&h->link, &h->loop, h->to_port[0], h->from_port[1], handler, ctx);
}

void host_stop(struct host *h)
{
	link_free(&h->link);
	loop_free(&h->loop);
	for (unsigned i = 0; i < 2; i++) {
		if (h->to_port[i] >= 0)
			close(h->to_port[i]);
		if (h->from_port[i] >= 0)
			close(h->from_port[i]);
	}
	buf_free(&h->input);
	text_free(&h->heard);
}

static void port_reads(struct host *h)
{
	uint64_t before;

	do {
		before = h->link.bytes_in;
		h->link.in_ready = true;
		link_read(&h->link);
	} while (h->link.bytes_in > before);
}

void host_writes(struct host *h, const void *bytes, size_t n)
{
	const uint8_t *at = bytes;

	while (n > 0) {
		ssize_t written = write(h->to_port[1], at, n);
		if (written > 0) {
			at += written;
			n -= (size_t)written;
		}
		assert_true(written > 0 || errno == EAGAIN);
		port_reads(h);
	}
}

void host_says(struct host *h, const char *messages)
{
	struct buf frame = {0};

	notation_frame(&frame, messages);
	host_writes(h, buf_at(&frame), buf_len(&frame));
	buf_free(&frame);
}

void host_closes(struct host *h)
{
	close(h->to_port[1]);
	h->to_port[1] = -1;
	port_reads(h);
}

static void hear_frame(struct host *h, struct slice payload)
{
	assert_true(payload.len <= FRAME_PAYLOAD_MAX);
	h->frames++;
	while (payload.len) {
		struct slice again = payload;
		struct message m;
		struct message_fault fault;
		if (!message_read(&payload, FROM_PORT, &m, &fault))
			fail_msg("the port sent what it must not: %s %s", fault.field, fault.rule);
		notation_print(&h->heard, &again, true);
		text_add(&h->heard, "\n");
	}
}

void host_listens(struct host *h)
{
	uint8_t bytes[65536];
	ssize_t n;

	while ((n = read(h->from_port[0], bytes, sizeof bytes)) > 0)
		buf_append(&h->input, bytes, (size_t)n);
	while (buf_len(&h->input) >= 4) {
		const uint8_t *at = buf_at(&h->input);
		size_t len = (size_t)at[0] << 24 | (size_t)at[1] << 16 | (size_t)at[2] << 8 | at[3];
		if (buf_len(&h->input) < 4 + len)
			return;
		hear_frame(h, slice_of(at + 4, len));
		buf_consume(&h->input, 4 + len);
	}
}

void host_pass_time(struct host *h, uint64_t ms)
{
	h->loop.now += ms;
	h->loop.now_us += ms * 1000;
	wheel_fire(&h->loop.wheel, h->loop.now);
}

void expect_heard_at(struct host *h, const char *wanted, const char *file, int line)
{
	for (size_t before = SIZE_MAX; h->link.queued > 0 && h->link.queued < before && !h->link.out_broken;) {
		before = h->link.queued;
		h->link.urgent = true;
		h->link.out_blocked = false;
		link_flush(&h->link);
		host_listens(h);
	}
	host_listens(h);
	expect_text_at(&h->heard, wanted, file, line);
}
