/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <malloc.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
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

/* ---- descriptors that the host hands over ---- */

static bool is_ours(int fd)
{
	struct ucred peer;
	socklen_t len = sizeof peer;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) != 0)
		return false;
	if (peer.uid == geteuid())
		return true;
	errno = EPERM;
	return false;
}

int platform_channel(const char *path)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	int fd, error;

	if (strlen(path) >= sizeof to.sun_path) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(to.sun_path, path, strlen(path));
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 || (connect(fd, (struct sockaddr *)&to, sizeof to) == 0 && is_ours(fd)))
		return fd;
	error = errno;
	close(fd);
	errno = error;
	return -1;
}

enum { RECEIVED_MAX = 16 };

static void take_descriptors(struct msghdr *m, unsigned max, struct received *r)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = platform_next_control(m, c)) {
		unsigned n;
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		for (unsigned i = 0; i < n; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
			if (r->count < max) {
				r->fds[r->count++] = fd;
				continue;
			}
			close(fd);
			r->cut = true;
		}
	}
}

bool platform_receive(int fd, void *bytes, size_t size, unsigned max, struct received *r)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(RECEIVED_MAX * sizeof(int))];
	} control;
	struct iovec iov = {bytes, size};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	ssize_t n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);

	r->len = r->count = 0;
	r->cut = false;
	if (n < 0)
		return false;
	r->len = (size_t)n;
	r->cut = m.msg_flags & MSG_TRUNC;
	take_descriptors(&m, max, r);
	/* the kernel closed the descriptors that did not fit; if none arrived, the table of descriptors was full */
	r->cut = r->cut || (r->count > 0 && m.msg_flags & MSG_CTRUNC);
	return true;
}

/* The bare system call: the C library's fstat may use calls that look up names, which the filter does not allow. */
bool platform_is_file(int fd)
{
	struct stat st;
	int flags = fcntl(fd, F_GETFL);

	return syscall(SYS_fstat, fd, &st) == 0 && S_ISREG(st.st_mode) && flags >= 0 && (flags & O_ACCMODE) == O_RDONLY;
}

#ifndef RWF_NOWAIT
#define RWF_NOWAIT 8
#endif

/* The bare system call: some C libraries lack it, and others fall back to other calls when it fails. */
ssize_t platform_read_cached(int fd, void *to, size_t n, uint64_t offset)
{
	struct iovec iov = {to, n};

	return syscall(SYS_preadv2, fd, &iov, 1L, (long)offset, (long)(offset >> 32), (long)RWF_NOWAIT);
}

void platform_fetch(int fd, uint64_t offset, uint64_t n)
{
	posix_fadvise(fd, (off_t)offset, (off_t)n, POSIX_FADV_WILLNEED);
}

ssize_t platform_sendfile(int socket, int fd, uint64_t offset, size_t n)
{
	off_t at = (off_t)offset;

	return sendfile(socket, fd, &at, n);
}

const void *platform_map(int fd, size_t *size)
{
	struct stat st;
	void *at;

	if (!platform_is_file(fd) || fstat(fd, &st) != 0 || st.st_size <= 0)
		return NULL;
	at = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED)
		return NULL;
	*size = (size_t)st.st_size;
	return at;
}

/* ---- buffers, chance, memory ---- */

void platform_pipe_size(int fd, int bytes)
{
	fcntl(fd, F_SETPIPE_SZ, bytes);
}

void platform_unsent_limit(int fd, int bytes)
{
	setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &bytes, sizeof bytes);
}

size_t platform_unsent(int fd)
{
	int bytes;

	return ioctl(fd, SIOCOUTQ, &bytes) == 0 && bytes >= 0 ? (size_t)bytes : SIZE_MAX;
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

/* Closing a separate epoll removes the file from it; in libev's epoll only the kernel could remove it. */
int platform_watchable(int fd)
{
	struct epoll_event event = {.events = EPOLLIN};
	int watched = epoll_create1(EPOLL_CLOEXEC);

	if (watched >= 0 && epoll_ctl(watched, EPOLL_CTL_ADD, fd, &event) < 0) {
		close(watched);
		return -1;
	}
	return watched;
}

/* ---- a separate epoll for EPOLLRDHUP without EPOLLIN, which libev does not support ---- */

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
