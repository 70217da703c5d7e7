#include <fcntl.h>
#include <malloc.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "platform/platform.h"

int platform_socket(int family)
{
	return socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

int platform_accept(int listener, struct sockaddr *from, socklen_t *len)
{
	return accept4(listener, from, len, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

int platform_spare_descriptor(void)
{
	return eventfd(0, EFD_CLOEXEC);
}

void platform_pipe_size(int fd, int bytes)
{
	fcntl(fd, F_SETPIPE_SZ, bytes);
}

void platform_unsent_limit(int fd, int bytes)
{
	setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &bytes, sizeof bytes);
}

bool platform_random(void *bytes, size_t n)
{
	return getrandom(bytes, n, 0) == (ssize_t)n;
}

size_t platform_memory_size(void *at)
{
	return malloc_usable_size(at);
}

void platform_zero_pages(void *at, size_t size)
{
	if (madvise(at, size, MADV_DONTNEED) != 0)
		memset(at, 0, size);
}

void platform_keep_memory(int bytes)
{
#ifdef __GLIBC__
	mallopt(M_TRIM_THRESHOLD, bytes);
#else
	(void)bytes;
#endif
}

/* ---- an epoll of its own, for what libev cannot be asked: EPOLLRDHUP without EPOLLIN ---- */

bool hups_open(struct hups *h)
{
	*h = (struct hups){.fd = epoll_create1(EPOLL_CLOEXEC)};
	return h->fd >= 0;
}

void hups_close(struct hups *h)
{
	if (h->fd >= 0)
		close(h->fd);
	h->fd = -1;
}

void hups_watch(struct hups *h, int fd, void *who)
{
	struct epoll_event event = {.events = EPOLLRDHUP | EPOLLONESHOT, .data.ptr = who};

	epoll_ctl(h->fd, EPOLL_CTL_ADD, fd, &event);
}

void hups_watch_on(struct hups *h, int fd, void *who)
{
	struct epoll_event event = {.events = EPOLLONESHOT, .data.ptr = who};

	epoll_ctl(h->fd, EPOLL_CTL_MOD, fd, &event);
}

void hups_forget(struct hups *h, int fd)
{
	struct epoll_event none = {0};

	epoll_ctl(h->fd, EPOLL_CTL_DEL, fd, &none);
}

int hups_take(struct hups *h, struct hup *told, int max)
{
	struct epoll_event events[64];
	int count = epoll_wait(h->fd, events, max < 64 ? max : 64, 0);

	for (int i = 0; i < count; i++)
		told[i] = (struct hup){events[i].data.ptr, events[i].events & (EPOLLERR | EPOLLHUP)};
	return count < 0 ? 0 : count;
}
