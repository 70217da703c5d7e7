/* SPDX-License-Identifier: Apache-2.0 */
/* The UDP socket: many packets received per call, in both directions. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/udp.h>
#include <string.h>
#include <unistd.h>

#include "platform/platform.h"
#include "quic/parts.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

enum {
	RECEIVE_MAX = 16, /* messages for each call: packets, or several of the same client and size in one */
	MESSAGE_MAX = 65535,
	KERNEL_BUFFER = 4 << 20, /* bytes of the socket's buffers in each direction; the system may allow less */
	CONTROL_IN = 128,
	CONTROL_OUT = 128,
};

/* Static, since there is one thread and one call at a time. */
static struct {
	uint8_t in[RECEIVE_MAX][MESSAGE_MAX];
	uint8_t control[RECEIVE_MAX][CONTROL_IN];
	union quic_address from[RECEIVE_MAX];
	uint8_t out[QUIC_SCRATCH];
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

/* Exceeds the system's ordinary limit, if this process is allowed to. */
static void set_buffers(int fd)
{
	int size = KERNEL_BUFFER;

	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) != 0)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) != 0)
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
}

/*
 * Asks for the address that a packet was sent to and its ECN mark; for packets that belong together in one message; and that no
 * packet of ours is fragmented.
 */
static void set_options(int fd, const struct listener_config *config, int family)
{
	int on = 1, probe = IP_PMTUDISC_PROBE, only = config->ipv6_only;

	set_buffers(fd);
	if (config->reuse_port)
		setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
	setsockopt(fd, IPPROTO_UDP, UDP_GRO, &on, sizeof on); /* Linux 5.0; before that, each packet comes alone */
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

/* *segment: the size of the packets in a message that has several. */
static void read_control(struct msghdr *m, struct quic_datagram *d, size_t *segment)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = platform_next_control(m, c)) {
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
		} else if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) {
			memcpy(&number, CMSG_DATA(c), sizeof number);
			*segment = number > 0 ? (size_t)number : *segment;
		}
	}
}

/* Takes the packets of one message. Packets that are too long are not for us. Returns how many there were; an empty one counts.
 * */
static unsigned take_message(struct quic *q, struct mmsghdr *m, unsigned i,
			     void (*take)(struct quic *q, const struct quic_datagram *d))
{
	struct quic_datagram d = {.to = q->local, .from = scratch.from[i], .from_len = m->msg_hdr.msg_namelen};
	size_t all = m->msg_len, segment = all;
	unsigned count = 0;

	d.to_len = q->local.any.sa_family == AF_INET ? sizeof d.to.v4 : sizeof d.to.v6;
	read_control(&m->msg_hdr, &d, &segment);
	for (size_t at = 0; at < all; at += segment, count++) {
		d.bytes = scratch.in[i] + at;
		d.n = all - at < segment ? all - at : segment;
		if (d.n <= QUIC_PACKET_MAX)
			take(q, &d);
	}
	return count ? count : 1;
}

unsigned quic_socket_receive(struct quic *q, void (*take)(struct quic *q, const struct quic_datagram *d))
{
	struct mmsghdr messages[RECEIVE_MAX];
	struct iovec iov[RECEIVE_MAX];
	unsigned count = 0;
	int got;

	for (unsigned i = 0; i < RECEIVE_MAX; i++) {
		iov[i] = (struct iovec){scratch.in[i], MESSAGE_MAX};
		messages[i] = (struct mmsghdr){.msg_hdr = {
						       .msg_name = &scratch.from[i],
						       .msg_namelen = sizeof scratch.from[i],
						       .msg_iov = &iov[i],
						       .msg_iovlen = 1,
						       .msg_control = scratch.control[i],
						       .msg_controllen = CONTROL_IN,
					       }};
	}
	got = recvmmsg(loop_io_fd(&q->io), messages, RECEIVE_MAX, 0, NULL);
	q->readable = got == RECEIVE_MAX;
	for (int i = 0; i < got; i++)
		count += take_message(q, &messages[i], (unsigned)i, take);
	return count;
}

/* ---- sending ---- */

static struct cmsghdr *put_control(struct msghdr *m, int level, int type, const void *value, size_t n)
{
	struct cmsghdr *c = (struct cmsghdr *)(void *)((uint8_t *)m->msg_control + m->msg_controllen);

	c->cmsg_level = level;
	c->cmsg_type = type;
	c->cmsg_len = (__typeof__(c->cmsg_len))CMSG_LEN(n); /* glibc and musl give it different types */
	memcpy(CMSG_DATA(c), value, n);
	m->msg_controllen += (__typeof__(m->msg_controllen))CMSG_SPACE(n);
	return c;
}

/* Control data: the source address that the client knows, the ECN mark, and the segment size. */
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

/* One by one. *too_long: the device refuses packets of that size. */
static bool send_each(struct quic *q, const ngtcp2_path *path, uint8_t ecn, const uint8_t *bytes, size_t n, size_t segment,
		      size_t *sent, bool *too_long)
{
	for (*sent = 0, *too_long = false; *sent < n;) {
		size_t part = n - *sent < segment ? n - *sent : segment;
		bool well = send_one(q, path, ecn, bytes + *sent, part, part) >= 0;
		if (!well && would_wait())
			return false;
		*too_long = *too_long || (!well && errno == EMSGSIZE);
		*sent += part;
	}
	return true;
}

bool quic_socket_send(struct quic *q, const ngtcp2_path *path, uint8_t ecn, const uint8_t *bytes, size_t n, size_t segment,
		      size_t *sent)
{
	bool too_long, uncut = false;

	*sent = 0;
	if (q->segments && n > segment) {
		if (send_one(q, path, ecn, bytes, n, segment) >= 0) {
			*sent = n;
			return true;
		}
		if (would_wait())
			return false;
		uncut = errno == EIO || errno == EINVAL;
	}
	if (!send_each(q, path, ecn, bytes, n, segment, sent, &too_long))
		return false;
	if (too_long && segment > QUIC_PACKET)
		q->wide = false; /* probes of further connections would be in vain too */
	else if (uncut && !too_long)
		q->segments = false; /* it was not their size: the device does not support segmentation */
	return true;
}
