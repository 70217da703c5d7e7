/* SPDX-License-Identifier: Apache-2.0 */
/* The UDP socket: many packets for each call, both ways. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/udp.h>
#include <string.h>
#include <unistd.h>

#include "quic/parts.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

enum {
	RECEIVE_MAX = 64,        /* packets for each call */
	KERNEL_BUFFER = 4 << 20, /* bytes, each way; the system may give less */
	CONTROL_IN = 128,
	CONTROL_OUT = 128,
};

/* One thread, and one call at a time. */
static struct {
	uint8_t in[RECEIVE_MAX][QUIC_PACKET_MAX];
	uint8_t control[RECEIVE_MAX][CONTROL_IN];
	union quic_address from[RECEIVE_MAX];
	uint8_t out[QUIC_BURST];
} scratch;

uint8_t *quic_scratch(void)
{
	return scratch.out;
}

struct slice quic_octets(const union quic_address *a, in_port_t *port)
{
	*port = a->any.sa_family == AF_INET ? a->v4.sin_port : a->v6.sin6_port;
	if (a->any.sa_family == AF_INET)
		return slice_of(&a->v4.sin_addr, 4);
	if (IN6_IS_ADDR_V4MAPPED(&a->v6.sin6_addr))
		return slice_of(&a->v6.sin6_addr.s6_addr[12], 4);
	return slice_of(&a->v6.sin6_addr, 16);
}

/* ---- the beginning ---- */

static socklen_t parse(const struct listener_config *config, uint16_t port, union quic_address *a)
{
	memset(a, 0, sizeof *a);
	if (inet_pton(AF_INET, config->address, &a->v4.sin_addr) == 1) {
		a->v4.sin_family = AF_INET;
		a->v4.sin_port = htons(port);
		return sizeof a->v4;
	}
	if (inet_pton(AF_INET6, config->address, &a->v6.sin6_addr) == 1) {
		a->v6.sin6_family = AF_INET6;
		a->v6.sin6_port = htons(port);
		return sizeof a->v6;
	}
	errno = EAFNOSUPPORT;
	return 0;
}

/* Beyond what the system gives to everybody, if this process may have that. */
static void set_buffers(int fd)
{
	int size = KERNEL_BUFFER;

	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) != 0)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) != 0)
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
}

/* The address that a packet was sent to, its ECN mark; and that no packet of ours is cut into pieces on its way. */
static void set_options(int fd, const struct listener_config *config, int family)
{
	int on = 1, probe = IP_PMTUDISC_PROBE, only = config->ipv6_only;

	set_buffers(fd);
	if (config->reuse_port)
		setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
	setsockopt(fd, IPPROTO_IP, IP_RECVTOS, &on, sizeof on);
	setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &probe, sizeof probe);
	if (family == AF_INET) {
		setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof on);
		return;
	}
	setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only);
	setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof on);
	setsockopt(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, &on, sizeof on);
	setsockopt(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, &probe, sizeof probe);
}

int quic_socket(const struct listener_config *config, uint16_t port, union quic_address *local)
{
	socklen_t len = parse(config, port, local);
	int fd;

	if (len == 0)
		return -1;
	fd = socket(local->any.sa_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	set_options(fd, config, local->any.sa_family);
	if (bind(fd, &local->any, len) == 0 && getsockname(fd, &local->any, &len) == 0)
		return fd;
	close(fd);
	return -1;
}

/* ---- receiving ---- */

static void read_control(struct msghdr *m, struct quic_datagram *d)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		int number = 0;
		if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
			struct in_pktinfo info;
			memcpy(&info, CMSG_DATA(c), sizeof info);
			d->to.v4.sin_addr = info.ipi_addr;
		} else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
			struct in6_pktinfo info;
			memcpy(&info, CMSG_DATA(c), sizeof info);
			d->to.v6.sin6_addr = info.ipi6_addr;
		} else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS) {
			d->ecn = *CMSG_DATA(c) & 3;
		} else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS) {
			memcpy(&number, CMSG_DATA(c), sizeof number);
			d->ecn = (uint8_t)(number & 3);
		}
	}
}

/* False: it is too long to be one of ours. */
static bool describe(const struct quic *q, struct mmsghdr *m, unsigned i, struct quic_datagram *d)
{
	*d = (struct quic_datagram){.bytes = scratch.in[i], .n = m->msg_len, .to = q->local};
	d->from = scratch.from[i];
	d->from_len = m->msg_hdr.msg_namelen;
	d->to_len = q->local.any.sa_family == AF_INET ? sizeof d->to.v4 : sizeof d->to.v6;
	read_control(&m->msg_hdr, d);
	return !(m->msg_hdr.msg_flags & MSG_TRUNC) && d->n > 0;
}

unsigned quic_socket_receive(struct quic *q, struct quic_datagram *list, unsigned max)
{
	struct mmsghdr messages[RECEIVE_MAX];
	struct iovec iov[RECEIVE_MAX];
	unsigned most = max < RECEIVE_MAX ? max : RECEIVE_MAX, count = 0;
	int got;

	for (unsigned i = 0; i < most; i++) {
		iov[i] = (struct iovec){scratch.in[i], QUIC_PACKET_MAX};
		messages[i] = (struct mmsghdr){.msg_hdr = {
						       .msg_name = &scratch.from[i],
						       .msg_namelen = sizeof scratch.from[i],
						       .msg_iov = &iov[i],
						       .msg_iovlen = 1,
						       .msg_control = scratch.control[i],
						       .msg_controllen = CONTROL_IN,
					       }};
	}
	got = recvmmsg(loop_io_fd(&q->io), messages, most, 0, NULL);
	q->readable = got == (int)most;
	for (int i = 0; i < got; i++)
		count += describe(q, &messages[i], (unsigned)i, &list[count]);
	return count;
}

/* ---- sending ---- */

static struct cmsghdr *put_control(struct msghdr *m, int level, int type, const void *value, size_t n)
{
	struct cmsghdr *c = (struct cmsghdr *)(void *)((uint8_t *)m->msg_control + m->msg_controllen);

	c->cmsg_level = level;
	c->cmsg_type = type;
	c->cmsg_len = CMSG_LEN(n);
	memcpy(CMSG_DATA(c), value, n);
	m->msg_controllen += CMSG_SPACE(n);
	return c;
}

/* From the address that the client knows, with a mark, in pieces. */
static void control(struct msghdr *m, const ngtcp2_path *path, uint8_t ecn, size_t n, size_t segment)
{
	const union quic_address *local = (const void *)path->local.addr, *remote = (const void *)path->remote.addr;
	uint16_t size = (uint16_t)segment;
	int mark = ecn;

	if (local->any.sa_family == AF_INET) {
		struct in_pktinfo info = {.ipi_spec_dst = local->v4.sin_addr};
		put_control(m, IPPROTO_IP, IP_PKTINFO, &info, sizeof info);
	} else {
		struct in6_pktinfo info = {.ipi6_addr = local->v6.sin6_addr};
		put_control(m, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof info);
	}
	if (ecn && (remote->any.sa_family == AF_INET || IN6_IS_ADDR_V4MAPPED(&remote->v6.sin6_addr)))
		put_control(m, IPPROTO_IP, IP_TOS, &mark, sizeof mark);
	else if (ecn)
		put_control(m, IPPROTO_IPV6, IPV6_TCLASS, &mark, sizeof mark);
	if (n > segment)
		put_control(m, IPPROTO_UDP, UDP_SEGMENT, &size, sizeof size);
}

static ssize_t send_one(struct quic *q, const ngtcp2_path *path, uint8_t ecn, const uint8_t *bytes, size_t n, size_t segment)
{
	_Alignas(struct cmsghdr) uint8_t room[CONTROL_OUT] = {0};
	struct iovec iov = {(void *)(uintptr_t)bytes, n};
	struct msghdr m = {
		.msg_name = (void *)(uintptr_t)path->remote.addr,
		.msg_namelen = path->remote.addrlen,
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = room,
	};
	ssize_t sent;

	control(&m, path, ecn, n, segment);
	do
		sent = sendmsg(loop_io_fd(&q->io), &m, 0);
	while (sent < 0 && errno == EINTR);
	return sent;
}

static bool would_wait(void)
{
	return errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS;
}

bool quic_socket_send(struct quic *q, const ngtcp2_path *path, uint8_t ecn, const uint8_t *bytes, size_t n, size_t segment,
		      size_t *sent)
{
	*sent = 0;
	if (q->segments && n > segment) {
		if (send_one(q, path, ecn, bytes, n, segment) >= 0) {
			*sent = n;
			return true;
		}
		if (would_wait())
			return false;
		if (errno == EIO || errno == EINVAL) /* the device does not cut them */
			q->segments = false;
	}
	while (*sent < n) {
		size_t part = n - *sent < segment ? n - *sent : segment;
		if (send_one(q, path, ecn, bytes + *sent, part, part) < 0 && would_wait())
			return false;
		*sent += part;
	}
	return true;
}
