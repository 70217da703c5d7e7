/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "platform/platform.h"
#include "transport/transport.h"

static struct io_result failed(enum io_direction until)
{
	if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
		return io_again(until);
	return io_failed(errno);
}

static struct io_result tcp_read(int fd, void *state, void *bytes, size_t n)
{
	ssize_t got = read(fd, bytes, n);

	(void)state;
	if (got < 0)
		return failed(IO_READ);
	if (got == 0)
		return (struct io_result){.status = IO_EOF};
	return (struct io_result){.status = IO_OK, .n = (size_t)got, .more = (size_t)got == n};
}

static struct io_result wrote(ssize_t n, size_t offered)
{
	if (n < 0)
		return failed(IO_WRITE);
	if (n == 0)
		return io_again(IO_WRITE);
	return (struct io_result){.status = IO_OK, .n = (size_t)n, .more = (size_t)n == offered};
}

static struct io_result tcp_writev(int fd, void *state, const struct iovec *iov, int count)
{
	size_t offered = 0;

	(void)state;
	if (count == 1)
		return wrote(write(fd, iov[0].iov_base, iov[0].iov_len), iov[0].iov_len);
	for (int i = 0; i < count; i++)
		offered += iov[i].iov_len;
	return wrote(writev(fd, iov, count), offered);
}

/* sendfile returns 0 at the end of a file; the next read finds that it is too short. */
static struct io_result tcp_send_file(int fd, void *state, int file, uint64_t offset, size_t n)
{
	(void)state;
	return wrote(platform_sendfile(fd, file, offset, n), n);
}

static void tcp_widen(int fd, bool on)
{
	platform_unsent_limit(fd, on ? TRANSPORT_UNSENT_FILES : TRANSPORT_UNSENT);
}

static struct io_result tcp_shutdown(int fd, void *state)
{
	(void)state;
	shutdown(fd, SHUT_WR);
	return (struct io_result){.status = IO_OK};
}

static void tcp_close(int fd, void *state, bool abort)
{
	struct linger now = {.l_onoff = 1, .l_linger = 0};

	(void)state;
	if (abort)
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
	close(fd);
}

static size_t tcp_unsent(int fd, void *state)
{
	(void)state;
	return platform_unsent(fd);
}

const struct transport_ops transport_tcp = {
	.unsent = tcp_unsent,
	.read = tcp_read,
	.writev = tcp_writev,
	.send_file = tcp_send_file,
	.widen = tcp_widen,
	.shutdown = tcp_shutdown,
	.close = tcp_close,
};
