/* SPDX-License-Identifier: Apache-2.0 */
#include "conn/greeting.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct greeting *greeting_new(void)
{
	return calloc(1, sizeof(struct greeting));
}

void greeting_free(struct greeting *g)
{
	if (!g)
		return;
	buf_free(&g->bytes);
	free(g);
}

static struct io_result failed(void)
{
	if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
		return io_again(IO_READ);
	return io_failed(errno);
}

/* Removes n bytes from the socket that were already peeked at. */
static bool take(int fd, uint8_t *room, size_t n)
{
	return n == 0 || read(fd, room, n) == (ssize_t)n;
}

struct io_result greeting_read(struct greeting *g, int fd, uint8_t *room, size_t max, enum proxied_step *step)
{
	for (;;) {
		size_t before = buf_len(&g->bytes), used;
		/* Bytes after the header must stay in the socket: with TLS another reader takes them. */
		ssize_t n = recv(fd, room, max - before, MSG_PEEK);
		if (n < 0)
			return failed();
		if (n == 0)
			return (struct io_result){.status = IO_EOF};
		if (!buf_append(&g->bytes, room, (size_t)n))
			return io_failed(ENOMEM);
		*step = proxied_read(slice_of(buf_at(&g->bytes), buf_len(&g->bytes)), max, &g->said, &used, &g->why);
		if (*step == PROXIED_NOT)
			used = before;
		else if (*step != PROXIED_DONE)
			used = buf_len(&g->bytes);
		if (!take(fd, room, used - before))
			return io_failed(EPROTO);
		g->bytes.tail = g->bytes.head + used;
		if (*step != PROXIED_MORE)
			return (struct io_result){.status = IO_OK, .n = 1};
	}
}

/* REQUEST cannot report ends of different families: our end is then 0.0.0.0, port 0. */
static void put_local(struct peer *peer, const struct proxied_end *target)
{
	uint16_t port = htons(target->port);

	memset(peer->local, 0, sizeof peer->local);
	if (target->ip.len != peer->address_len)
		return;
	memcpy(peer->local, target->ip.bytes, target->ip.len);
	memcpy(peer->local + target->ip.len, &port, sizeof port);
}

void greeting_apply(struct greeting *g, struct peer *peer)
{
	struct proxied *said = &g->said;

	said->via = (struct proxied_end){.ip = ip_of(peer->address, peer->address_len), .port = peer->port};
	peer->proxied = said;
	if (said->silent)
		return;
	peer->address_len = said->source.ip.len;
	memcpy(peer->address, said->source.ip.bytes, sizeof peer->address);
	peer->port = said->source.port;
	put_local(peer, &said->target);
}
