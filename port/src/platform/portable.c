/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "platform/platform.h"

/* ---- descriptors ---- */

static int prepared(int fd)
{
	if (fd >= 0 && (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0 || fcntl(fd, F_SETFL, O_NONBLOCK) != 0)) {
		close(fd);
		return -1;
	}
	return fd;
}

int platform_socket(int family)
{
	return prepared(socket(family, SOCK_STREAM, 0));
}

int platform_accept(int listener, struct sockaddr *from, socklen_t *len)
{
	return prepared(accept(listener, from, len));
}

int platform_spare_descriptor(void)
{
	return fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
}

/* ---- what only Linux has ---- */

int platform_channel(const char *path)
{
	(void)path;
	errno = ENOTSUP;
	return -1;
}

bool platform_receive(int fd, void *bytes, size_t size, unsigned max, struct received *r)
{
	(void)fd;
	(void)bytes;
	(void)size;
	(void)max;
	(void)r;
	errno = ENOTSUP;
	return false;
}

bool platform_is_file(int fd)
{
	(void)fd;
	return false;
}

ssize_t platform_read_cached(int fd, void *to, size_t n, uint64_t offset)
{
	(void)fd;
	(void)to;
	(void)n;
	(void)offset;
	errno = ENOSYS;
	return -1;
}

void platform_fetch(int fd, uint64_t offset, uint64_t n)
{
	(void)fd;
	(void)offset;
	(void)n;
}

ssize_t platform_sendfile(int socket, int fd, uint64_t offset, size_t n)
{
	(void)socket;
	(void)fd;
	(void)offset;
	(void)n;
	errno = ENOSYS;
	return -1;
}

const void *platform_map(int fd, size_t *size)
{
	(void)fd;
	(void)size;
	return NULL;
}

void platform_pipe_size(int fd, int bytes)
{
	(void)fd;
	(void)bytes;
}

void platform_unsent_limit(int fd, int bytes)
{
	(void)fd;
	(void)bytes;
}

size_t platform_unsent(int fd)
{
	(void)fd;
	return SIZE_MAX;
}

bool platform_random(void *bytes, size_t n)
{
	int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
	bool all = fd >= 0 && read(fd, bytes, n) == (ssize_t)n;

	if (fd >= 0)
		close(fd);
	return all;
}

size_t platform_memory_size(void *at)
{
	(void)at;
	return 0;
}

void platform_zero_pages(void *at, size_t size)
{
	memset(at, 0, size);
}

void platform_keep_memory(int bytes)
{
	(void)bytes;
}

int platform_watchable(int fd)
{
	return fd;
}

/* ---- peers that hang up: every descriptor is polled; keys are its number + 1, since no key is 0 ---- */

bool hups_open(struct hups *h)
{
	*h = (struct hups){.fd = -1};
	return true;
}

void hups_close(struct hups *h)
{
	idmap_free(&h->open);
	idmap_free(&h->half);
}

/* Without memory, the peer's departure is noticed at the next read or write. */
void hups_watch(struct hups *h, int fd, void *who)
{
	idmap_put(&h->open, (uint64_t)fd + 1, who);
}

void hups_watch_on(struct hups *h, int fd, void *who)
{
	idmap_put(&h->half, (uint64_t)fd + 1, who);
}

void hups_forget(struct hups *h, int fd)
{
	idmap_del(&h->open, (uint64_t)fd + 1);
	idmap_del(&h->half, (uint64_t)fd + 1);
}

enum departure { STAYS, LEFT_HALF, GONE };

static enum departure look(int fd, short events)
{
	struct pollfd p = {.fd = fd, .events = events};
	char byte;
	ssize_t n;

	if (poll(&p, 1, 0) != 1)
		return STAYS;
	if (p.revents & (POLLERR | POLLHUP | POLLNVAL))
		return GONE;
	n = recv(fd, &byte, 1, MSG_PEEK);
	if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
		return GONE;
	return n == 0 ? LEFT_HALF : STAYS;
}

static int take_of(struct idmap *map, short events, struct hup *told, int max)
{
	struct idmap_walk walk = {0};
	int count = 0;
	void *who;

	while (count < max && (who = idmap_next(map, &walk))) {
		enum departure departure = look((int)(walk.key - 1), events);
		if (departure == STAYS)
			continue;
		told[count++] = (struct hup){who, departure == GONE};
		idmap_del(map, walk.key);
	}
	return count;
}

int hups_take(struct hups *h, struct hup *told, int max)
{
	int count = take_of(&h->open, POLLIN, told, max);

	return count + take_of(&h->half, 0, told + count, max - count);
}
