/* SPDX-License-Identifier: Apache-2.0 */
#include "channel/channel.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "base/list.h"
#include "frames/mp.h"
#include "platform/platform.h"

/* A packet's array has three numbers; a longer packet is truncated, which is noticed. */
enum { PACKET_MAX = 64, PACKET_FIELDS = 3, DESCRIPTORS_MAX = 4 };

void channel_init(struct channel *c)
{
	*c = (struct channel){0};
	loop_io_init(&c->io, NULL, NULL, -1);
}

static void on_ready(struct loop_io *io, int ready)
{
	(void)ready;
	container_of(io, struct channel, io)->ready = true;
}

void channel_use(struct channel *c, struct loop *loop, int fd)
{
	loop_io_init(&c->io, on_ready, NULL, fd);
	loop_io_watch(loop, &c->io, LOOP_READ);
	c->open = c->ready = true;
}

bool channel_open(struct channel *c, struct loop *loop, const char *path)
{
	int fd = platform_channel(path);

	if (fd >= 0)
		channel_use(c, loop, fd);
	return fd >= 0;
}

void channel_close(struct channel *c, struct loop *loop)
{
	if (!c->open)
		return;
	loop_io_watch(loop, &c->io, 0);
	close(loop_io_fd(&c->io));
	channel_init(c);
}

static bool wrong(const char **rule, const char *text)
{
	*rule = text;
	return false;
}

static bool take_number(struct slice *in, uint64_t *to)
{
	struct mp_value v;

	if (!mp_read(in, &v) || v.type != MP_UINT)
		return false;
	*to = v.u;
	return true;
}

static bool read_packet(struct slice in, struct descriptor *d, const char **rule)
{
	struct mp_value array;
	uint64_t use;

	if (!mp_read(&in, &array) || array.type != MP_ARRAY || array.u != PACKET_FIELDS || !take_number(&in, &use) ||
	    !take_number(&in, &d->token) || !take_number(&in, &d->stream) || in.len > 0)
		return wrong(rule, "must come with [use, token, stream]");
	if (use >= DESCRIPTOR_USES)
		return wrong(rule, "is for an unknown use");
	if (d->token == 0)
		return wrong(rule, "must have a token of at least 1");
	d->use = (enum descriptor_use)use;
	return true;
}

/* Checks the rest of a descriptor's packet, and closes the descriptor if something is wrong. */
static bool judge(const struct received *r, const uint8_t *bytes, struct descriptor *d, const char **rule)
{
	*d = (struct descriptor){.fd = -1};
	if (!read_packet(slice_of(bytes, r->len), d, rule))
		return false;
	if (r->cut || r->count > 1)
		return wrong(rule, "must come alone");
	if (r->count == 0)
		return wrong(rule, "is missing, or no descriptor is free for it");
	d->fd = r->fds[0];
	return true;
}

static bool passes(int error)
{
	return error == EAGAIN || error == EINTR || error == ENOMEM || error == ENOBUFS;
}

enum channel_result channel_take(struct channel *c, struct descriptor *d, const char **rule)
{
	uint8_t bytes[PACKET_MAX];
	int fds[DESCRIPTORS_MAX];
	struct received r = {.fds = fds};

	if (!c->open || !c->ready)
		return CHANNEL_EMPTY;
	if (!platform_receive(loop_io_fd(&c->io), bytes, sizeof bytes, DESCRIPTORS_MAX, &r)) {
		c->ready = false;
		return passes(errno) ? CHANNEL_EMPTY : CHANNEL_OVER;
	}
	if (r.len == 0 && r.count == 0)
		return CHANNEL_OVER; /* the end, or an empty packet, which no host sends */
	if (judge(&r, bytes, d, rule))
		return CHANNEL_GOT;
	for (unsigned i = 0; i < r.count; i++)
		close(fds[i]);
	return CHANNEL_WRONG;
}

bool channel_wait(struct channel *c, int ms)
{
	struct pollfd p = {.fd = loop_io_fd(&c->io), .events = POLLIN};

	c->ready = c->open && poll(&p, 1, ms) == 1;
	return c->ready;
}
