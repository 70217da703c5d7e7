#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "transport/transport.h"

static struct io_result result_of(ssize_t n, enum io_status when_zero)
{
	if (n > 0)
		return (struct io_result){.status = IO_OK, .n = (size_t)n};
	if (n == 0)
		return (struct io_result){.status = when_zero};
	if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
		return (struct io_result){.status = IO_AGAIN};
	return (struct io_result){.status = IO_ERROR, .error = errno};
}

static struct io_result tcp_read(int fd, void *state, void *bytes, size_t n)
{
	(void)state;
	return result_of(read(fd, bytes, n), IO_EOF);
}

static struct io_result tcp_writev(int fd, void *state, const struct iovec *iov, int count)
{
	(void)state;
	if (count == 1)
		return result_of(write(fd, iov[0].iov_base, iov[0].iov_len), IO_AGAIN);
	return result_of(writev(fd, iov, count), IO_AGAIN);
}

static void tcp_shutdown(int fd, void *state)
{
	(void)state;
	shutdown(fd, SHUT_WR);
}

static void tcp_close(int fd, void *state, bool abort)
{
	struct linger now = {.l_onoff = 1, .l_linger = 0};

	(void)state;
	if (abort)
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
	close(fd);
}

static int tcp_wants(const void *state)
{
	(void)state;
	return 0;
}

static bool tcp_pending(const void *state)
{
	(void)state;
	return false;
}

static const char *tcp_alpn(const void *state)
{
	(void)state;
	return NULL;
}

const struct transport_ops transport_tcp = {
	.scheme = "http",
	.read = tcp_read,
	.writev = tcp_writev,
	.shutdown = tcp_shutdown,
	.close = tcp_close,
	.wants = tcp_wants,
	.pending = tcp_pending,
	.alpn = tcp_alpn,
};
