/* SPDX-License-Identifier: Apache-2.0 */
#include "server/listener.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "platform/platform.h"
#include "transport/transport.h"

union any_address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
	struct sockaddr_un local;
};

/* The length of the address; 0 if the text is not an address. */
static socklen_t parse_address(const struct listener_config *config, union any_address *a)
{
	const char *path = listener_path(config);

	memset(a, 0, sizeof *a);
	if (path) {
		a->local.sun_family = AF_UNIX;
		if (*path == 0 || strlen(path) >= sizeof a->local.sun_path)
			return 0;
		memcpy(a->local.sun_path, path, strlen(path));
		if (*path != '@')
			return sizeof a->local;
		a->local.sun_path[0] = 0; /* an abstract socket, which is not in the file system (unix(7)) */
		return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
	}
	if (inet_pton(AF_INET, config->address, &a->v4.sin_addr) == 1) {
		a->v4.sin_family = AF_INET;
		a->v4.sin_port = htons(config->port);
		return sizeof a->v4;
	}
	if (inet_pton(AF_INET6, config->address, &a->v6.sin6_addr) == 1) {
		a->v6.sin6_family = AF_INET6;
		a->v6.sin6_port = htons(config->port);
		return sizeof a->v6;
	}
	return 0;
}

/* Accepted sockets inherit these. */
static void set_inherited(int fd, int family)
{
	int on = 1;

	if (family == AF_UNIX)
		return;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	platform_unsent_limit(fd, TRANSPORT_UNSENT);
}

static void set_options(int fd, const struct listener_config *config, int family)
{
	int on = 1, v6only = config->ipv6_only;

	set_inherited(fd, family);
	if (family == AF_UNIX)
		return;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (config->reuse_port)
		setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
	if (family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof v6only);
}

/* A socket file that nobody listens on any more was left by a process that died. */
static void remove_stale(const union any_address *a)
{
	struct stat st;
	int fd;

	if (a->any.sa_family != AF_UNIX || !a->local.sun_path[0] || stat(a->local.sun_path, &st) != 0 || !S_ISSOCK(st.st_mode))
		return;
	fd = platform_socket(AF_UNIX);
	if (fd < 0)
		return;
	if (connect(fd, &a->any, sizeof a->local) < 0 && errno == ECONNREFUSED)
		unlink(a->local.sun_path);
	close(fd);
}

/* Set before it listens, so that nobody can connect without permission. */
static bool set_file(const struct listener_config *config)
{
	const char *path = listener_file(config);

	if (!path)
		return true;
	if ((config->owner >= 0 || config->group >= 0) && chown(path, (uid_t)config->owner, (gid_t)config->group) != 0)
		return false;
	return !config->mode || chmod(path, (mode_t)config->mode) == 0;
}

static void on_ready(struct loop_io *io, int ready)
{
	struct listener *l = (struct listener *)(void *)((char *)io - offsetof(struct listener, io));

	(void)ready;
	l->ready = true;
}

static bool is_listening(int fd)
{
	int type = 0, listens = 0;
	socklen_t len = sizeof type;

	return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_STREAM &&
	       getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) == 0 && listens;
}

/*
 * The host has bound the socket and keeps it open, so it outlives this process. All copies share the non-blocking mode, and the
 * host may change it (OTP does when it closes a copy), so accept also has a timeout.
 */
static bool adopt(struct listener *l, const struct listener_config *config, char *rule, size_t size)
{
	static const struct timeval soon = {.tv_usec = 1};
	union any_address a = {.any.sa_family = AF_UNSPEC};
	socklen_t len = sizeof a;
	int family, watched;

	if (!is_listening(config->fd) || getsockname(config->fd, &a.any, &len) < 0 ||
	    fcntl(config->fd, F_SETFL, fcntl(config->fd, F_GETFL) | O_NONBLOCK) < 0) {
		snprintf(rule, size, "the descriptor must be a stream socket that listens");
		return false;
	}
	family = a.any.sa_family;
	if (family != AF_INET && family != AF_INET6 && family != AF_UNIX) {
		snprintf(rule, size, "the descriptor must be of IPv4, IPv6 or a unix socket");
		return false;
	}
	watched = platform_watchable(config->fd);
	if (watched < 0) {
		snprintf(rule, size, "the descriptor cannot be watched: %s", strerror(errno));
		return false;
	}
	set_inherited(config->fd, family);
	setsockopt(config->fd, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon);
	l->unix_socket = family == AF_UNIX;
	l->fd = config->fd;
	loop_io_init(&l->io, on_ready, NULL, watched);
	return true;
}

bool listener_open(struct listener *l, const struct listener_config *config, char *rule, size_t size)
{
	union any_address a;
	socklen_t len = parse_address(config, &a);
	bool bound;
	int fd;

	memset(l, 0, sizeof *l);
	if (config->descriptor)
		return adopt(l, config, rule, size);
	if (len == 0) {
		snprintf(rule, size, "must be an IPv4 or IPv6 address, or unix: and a path");
		return false;
	}
	fd = platform_socket(a.any.sa_family);
	if (fd < 0) {
		snprintf(rule, size, "%s", strerror(errno));
		return false;
	}
	set_options(fd, config, a.any.sa_family);
	remove_stale(&a);
	bound = bind(fd, &a.any, len) == 0;
	if (!bound || !set_file(config) || listen(fd, config->backlog) < 0) {
		snprintf(rule, size, "%s", strerror(errno));
		if (bound && listener_file(config))
			unlink(listener_file(config));
		close(fd);
		return false;
	}
	l->unix_socket = a.any.sa_family == AF_UNIX;
	if (l->unix_socket)
		memcpy(l->path, a.local.sun_path, strlen(a.local.sun_path) + 1);
	l->fd = fd;
	loop_io_init(&l->io, on_ready, NULL, fd);
	return true;
}

void listener_close(struct listener *l, struct loop *loop)
{
	int watched = loop_io_fd(&l->io);

	if (watched < 0)
		return;
	loop_io_watch(loop, &l->io, 0);
	if (l->path[0])
		unlink(l->path);
	if (watched != l->fd)
		close(watched);
	close(l->fd);
	loop_io_init(&l->io, on_ready, NULL, -1);
	l->ready = false;
}

static void name_local(const struct sockaddr_un *a, socklen_t len, struct listener_name *name)
{
	size_t size = len > offsetof(struct sockaddr_un, sun_path) ? len - offsetof(struct sockaddr_un, sun_path) : 0;
	bool is_abstract = size > 0 && !a->sun_path[0];

	snprintf(name->address, sizeof name->address, "unix:%s%.*s", is_abstract ? "@" : "", (int)size - is_abstract,
		 a->sun_path + is_abstract);
}

void listener_name(const struct listener *l, struct listener_name *name)
{
	union any_address a;
	socklen_t len = sizeof a;

	memset(name, 0, sizeof *name);
	memset(&a, 0, sizeof a);
	if (getsockname(l->fd, &a.any, &len) < 0)
		return;
	if (l->unix_socket) {
		name_local(&a.local, len, name);
		return;
	}
	name->port = ntohs(a.any.sa_family == AF_INET ? a.v4.sin_port : a.v6.sin6_port);
	inet_ntop(a.any.sa_family, a.any.sa_family == AF_INET ? (void *)&a.v4.sin_addr : (void *)&a.v6.sin6_addr, name->address,
		  sizeof name->address);
}

/* The octets of an address: 4, 16, or none for a unix socket. An IPv4 client of an IPv6 socket counts as IPv4. */
static struct slice octets(const union any_address *a)
{
	if (a->any.sa_family == AF_INET)
		return slice_of(&a->v4.sin_addr, 4);
	if (a->any.sa_family != AF_INET6)
		return slice_of(NULL, 0);
	if (IN6_IS_ADDR_V4MAPPED(&a->v6.sin6_addr))
		return slice_of(&a->v6.sin6_addr.s6_addr[12], 4);
	return slice_of(&a->v6.sin6_addr, 16);
}

static in_port_t port_of(const union any_address *a)
{
	return a->any.sa_family == AF_INET ? a->v4.sin_port : a->v6.sin6_port;
}

static void set_peer(struct peer *peer, const union any_address *a)
{
	struct slice address = octets(a);

	if (address.len == 0)
		return;
	peer->address_len = (uint8_t)address.len;
	memcpy(peer->address, address.at, address.len);
	peer->port = ntohs(port_of(a));
}

/* Both ends are of the same family. An unknown end is 0.0.0.0, port 0. */
static void set_local(struct peer *peer, int fd)
{
	union any_address a;
	socklen_t len = sizeof a;
	in_port_t port;

	memset(&a, 0, sizeof a);
	if (peer->address_len == 0 || getsockname(fd, &a.any, &len) < 0 || octets(&a).len != peer->address_len)
		return;
	port = port_of(&a);
	memcpy(peer->local, octets(&a).at, peer->address_len);
	memcpy(peer->local + peer->address_len, &port, sizeof port);
}

bool listener_waiting(const struct listener *l)
{
	struct pollfd p = {.fd = l->fd, .events = POLLIN};

	return poll(&p, 1, 0) == 1;
}

int listener_accept(struct listener *l, struct peer *peer)
{
	union any_address a;
	socklen_t len = sizeof a;
	int fd;

	memset(&a, 0, sizeof a);
	memset(peer, 0, sizeof *peer);
	fd = platform_accept(l->fd, &a.any, &len);
	if (fd >= 0) {
		set_peer(peer, &a);
		set_local(peer, fd);
		peer->listener = l->index;
	}
	return fd;
}
