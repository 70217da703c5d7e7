/* SPDX-License-Identifier: Apache-2.0 */
#include "rig.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "frames/mp.h"
#include "platform/platform.h"

enum { FIRST_FD = 500, TURNS_MAX = 64, START_MS = 1000, STREAM_LIVE = 1, STREAM_OVER = 2 };

struct rig_sockets rig_sockets;
struct slice rig_tls;
bool rig_http3;
uint64_t rig_clock_us;

static struct loop loop; /* without sockets: one for all inputs, never run */
static bool had_more;    /* events of the loop's last turn */

void rig_must(bool holds, const char *what, const char *file, int line)
{
	if (holds)
		return;
	fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, what);
	abort();
}

/* ---- the clients' transport ---- */

static struct io_result client_read(int fd, void *state, void *bytes, size_t n)
{
	struct rig_client *k = state;
	size_t room = n;

	(void)fd;
	if (k->reset)
		return io_failed(ECONNRESET);
	if (buf_len(&k->inbox) == 0)
		return k->eof ? (struct io_result){.status = IO_EOF} : io_again(IO_READ);
	n = n < buf_len(&k->inbox) ? n : buf_len(&k->inbox);
	n = n < k->read_most ? n : k->read_most;
	memcpy(bytes, buf_at(&k->inbox), n);
	buf_consume(&k->inbox, n);
	return (struct io_result){.status = IO_OK, .n = n, .more = n == room};
}

static void take(struct rig_client *k, const void *bytes, size_t n)
{
	k->got += n;
	if (buf_len(&k->outbox) + n <= RIG_KEPT)
		buf_append(&k->outbox, bytes, n);
}

static struct io_result client_writev(int fd, void *state, const struct iovec *iov, int count)
{
	struct rig_client *k = state;
	size_t n = 0, offered = 0;

	(void)fd;
	if (k->reset)
		return io_failed(EPIPE);
	if (k->room == 0)
		return io_again(IO_WRITE);
	for (int i = 0; i < count; i++)
		offered += iov[i].iov_len;
	for (int i = 0; i < count && n < k->room; i++) {
		size_t part = iov[i].iov_len < k->room - n ? iov[i].iov_len : k->room - n;
		MUST(iov[i].iov_len > 0);
		take(k, iov[i].iov_base, part);
		n += part;
	}
	k->room -= n;
	return (struct io_result){.status = IO_OK, .n = n, .more = n == offered};
}

static struct io_result client_shutdown(int fd, void *state)
{
	(void)fd;
	((struct rig_client *)state)->shut = true;
	return (struct io_result){.status = IO_OK};
}

static void client_close(int fd, void *state, bool abort)
{
	struct rig_client *k = state;

	(void)fd;
	(void)abort;
	MUST(k->c);
	k->c = NULL;
}

static struct io_result client_send_file(int fd, void *state, int file, uint64_t offset, size_t n)
{
	static uint8_t bytes[1 << 16];
	struct rig_client *k = state;
	size_t room = n < sizeof bytes ? n : sizeof bytes;
	ssize_t got;

	(void)fd;
	if (k->reset)
		return io_failed(EPIPE);
	got = k->room ? pread(file, bytes, room < k->room ? room : k->room, (off_t)offset) : 0;
	if (got <= 0)
		return io_again(IO_WRITE);
	take(k, bytes, (size_t)got);
	k->room -= (size_t)got;
	return (struct io_result){.status = IO_OK, .n = (size_t)got, .more = (size_t)got == n};
}

static const struct transport_ops transport = {
	.read = client_read,
	.writev = client_writev,
	.send_file = client_send_file,
	.shutdown = client_shutdown,
	.close = client_close,
};

/* ---- or their sockets ---- */

static void socket_connect(struct rig_client *k)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};

	snprintf(to.sun_path, sizeof to.sun_path, "%s", rig_sockets.address + strlen("unix:"));
	k->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	MUST(k->fd >= 0 && connect(k->fd, (struct sockaddr *)&to, sizeof to) == 0);
}

/* Moves the bytes that can move; true if there were any. */
static bool socket_moves(struct rig_client *k)
{
	static uint8_t bytes[1 << 16];
	ssize_t n = 0;
	bool moved = false;

	if (buf_len(&k->inbox) && (n = send(k->fd, buf_at(&k->inbox), buf_len(&k->inbox), MSG_NOSIGNAL)) > 0) {
		buf_consume(&k->inbox, (size_t)n);
		moved = true;
	}
	if (k->eof && buf_len(&k->inbox) == 0 && !k->told) {
		k->told = true;
		shutdown(k->fd, SHUT_WR);
	}
	while (!k->shut && !k->cut && (n = recv(k->fd, bytes, sizeof bytes, 0)) > 0) {
		take(k, bytes, (size_t)n);
		moved = true;
	}
	k->shut = k->shut || n == 0;
	k->cut = k->cut || (n < 0 && errno != EAGAIN);
	return moved;
}

struct rig_client *rig_connect(struct rig *r)
{
	struct server *s = &r->server;
	struct rig_client *k = &r->clients[r->client_count];
	struct peer peer = {.address = {127, 0, 0, (uint8_t)(1 + r->client_count % 3)}, .address_len = 4, .port = 4711};

	if (r->client_count == RIG_CLIENTS || s->state != SERVER_SERVING || s->accept_paused || s->pool.env.paused)
		return NULL;
	*k = (struct rig_client){.read_most = SIZE_MAX, .room = SIZE_MAX};
	r->client_count++;
	if (rig_sockets.address) {
		socket_connect(k);
		return k;
	}
	k->c = conn_open(&s->pool, FIRST_FD + (int)r->client_count, &transport, k, &peer);
	MUST(k->c);
	return k;
}

void rig_client(struct rig_client *client, const void *bytes, size_t n)
{
	if ((client->c || rig_sockets.address) && n)
		MUST(buf_append(&client->inbox, bytes, n));
}

/* ---- the host ---- */

/* Which messages may come for a stream, and when. */
static void judge(struct rig *r, const struct message *m)
{
	uint64_t id = m->stream;

	if (m->def->format[0] != 's' || id >= RIG_STREAMS)
		return;
	if (m->kind == MSG_REQUEST || m->kind == MSG_COMPLETE) {
		MUST(r->streams[id] == 0);
		r->streams[id] = STREAM_LIVE;
	}
	MUST(r->streams[id] == STREAM_LIVE);
	if (m->kind == MSG_DONE || m->kind == MSG_GONE)
		r->streams[id] = STREAM_OVER;
}

static void hear_frame(struct rig *r, struct slice payload)
{
	struct message_fault fault;
	struct message m;

	MUST(payload.len > 0 && payload.len <= FRAME_PAYLOAD_MAX);
	while (payload.len) {
		MUST(message_read(&payload, FROM_PORT, &m, &fault));
		judge(r, &m);
		if (r->on_message)
			r->on_message(r, &m);
	}
}

static void hear(struct rig *r)
{
	static uint8_t bytes[1 << 16];
	ssize_t n;

	while ((n = read(r->from_port[0], bytes, sizeof bytes)) > 0)
		MUST(buf_append(&r->heard, bytes, (size_t)n));
	while (buf_len(&r->heard) >= FRAME_HEAD) {
		const uint8_t *at = buf_at(&r->heard);
		size_t len = (size_t)at[0] << 24 | (size_t)at[1] << 16 | (size_t)at[2] << 8 | at[3];
		uint8_t *frame;
		if (buf_len(&r->heard) < FRAME_HEAD + len)
			return;
		frame = malloc(len ? len : 1); /* a copy: its reader may make the port send more */
		MUST(frame);
		memcpy(frame, at + FRAME_HEAD, len);
		buf_consume(&r->heard, FRAME_HEAD + len);
		hear_frame(r, slice_of(frame, len));
		free(frame);
	}
}

/* ---- turns ---- */

/* The events, among those that the port waits for, that have happened. */
static int client_ready(const struct rig_client *k)
{
	int events = k->c ? loop_io_events(&k->c->io) : 0, ready = 0;

	if ((events & LOOP_READ) && (buf_len(&k->inbox) || k->eof || k->reset))
		ready |= LOOP_READ;
	if ((events & LOOP_WRITE) && (k->room || k->reset))
		ready |= LOOP_WRITE;
	return ready;
}

/* What libev would report. */
static void poll_clients(struct rig *r)
{
	for (unsigned i = 0; i < r->client_count; i++) {
		struct rig_client *k = &r->clients[i];
		int ready = client_ready(k);
		if (ready)
			((loop_ready_fn *)k->c->io.io.data)(&k->c->io, ready);
		else if (k->c && k->c->hup_watched && (k->reset || (k->eof && !k->told))) {
			k->told = true;
			k->c->io.hup(&k->c->io, k->reset);
		}
	}
}

/* A turn may end with waiting for an event that has already happened. */
static bool some_client_ready(const struct rig *r)
{
	for (unsigned i = 0; i < r->client_count; i++)
		if (client_ready(&r->clients[i]))
			return true;
	return false;
}

/* ---- files ---- */

uint8_t rig_octet(size_t i)
{
	return (uint8_t)('a' + ('f' + i / 7) % 26);
}

static int make_file(void)
{
	char path[] = "/tmp/sparx-rig-XXXXXX";
	static uint8_t bytes[RIG_FILE];
	int out = mkstemp(path), in = open(path, O_RDONLY | O_CLOEXEC);

	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = rig_octet(i);
	MUST(out >= 0 && in >= 0 && write(out, bytes, sizeof bytes) == (ssize_t)sizeof bytes);
	close(out);
	unlink(path);
	return in;
}

static int file = -1; /* which is passed repeatedly */

static void close_file(void)
{
	close(file);
}

void rig_hand(struct rig *r, uint64_t token, uint64_t stream)
{
	uint8_t bytes[64], *at = mp_uint(mp_uint(mp_uint(mp_array(bytes, 3), 0), token), stream);
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {.head = {.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))}};
	struct iovec iov = {bytes, (size_t)(at - bytes)};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control.room};

	if (file < 0) {
		file = make_file();
		atexit(close_file);
	}
	memcpy(CMSG_DATA(&control.head), &file, sizeof file);
	sendmsg(r->channel, &m, MSG_NOSIGNAL | MSG_DONTWAIT); /* bytes that do not fit are lost, as always */
	r->bridge.channel.ready = r->bridge.channel.open;
}

/* A channel from the beginning, if the system supports it. */
static void open_channel(struct rig *r)
{
	struct received none = {0};
	int ends[2], fds[1];
	uint8_t byte;

	none.fds = fds;
	MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
	r->channel = ends[0];
	if (!platform_receive(ends[1], &byte, 1, 1, &none) && errno == EAGAIN)
		channel_use(&r->bridge.channel, &loop, ends[1]);
	else
		close(ends[1]);
}

/* The bridge's sums equal those of its streams. */
static void judge_sums(struct bridge *b)
{
	uint64_t chunks = 0, unsent = 0, held = 0, files = 0;
	struct idmap_walk walk = {0};
	const struct exchange *x;

	while ((x = idmap_next(&b->exchanges, &walk))) {
		chunks += x->chunks;
		unsent += x->unsent;
		held += x->head != NULL;
		for (const struct list *l = x->files.next; l != &x->files; l = l->next)
			files++;
		MUST(exchange_of(x->s) == x && x->b == b);
		MUST(x->ws ? x->unsent == x->ws->unsent : x->unsent <= x->body_out * FILE_COST);
		MUST(x->known == !x->head);
	}
	MUST(b->n.read_credit == chunks && b->n.body_queued == unsent && b->shares.unsent >= unsent && b->queued == held &&
	     b->handed.count == files);
	MUST(!shares_next(&b->shares, b->demand, b->config->share)); /* no request waits while there is demand for it */
}

/* As main.c does it. */
static bool turn_of_port(void *ctx)
{
	struct rig *r = ctx;
	bool more = bridge_receive(&r->bridge);

	more |= link_read(&r->link);
	bridge_run(&r->bridge);
	wheel_fire(&loop.wheel, loop.now);
	wheel_fire(&loop.fine, loop.now_us / LOOP_FINE_US);
	more |= server_run(&r->server);
	link_flush(&r->link);
	conn_pool_pause(&r->server.pool, link_full(&r->link));
	server_reap(&r->server);
	more = more || bridge_has_work(&r->bridge);
	had_more = more;
	return more;
}

static bool turn_once(struct rig *r)
{
	bool more;

	r->link.in_ready = true;
	if (!r->deaf)
		r->link.out_blocked = false;
	poll_clients(r);
	more = turn_of_port(r);
	if (!r->deaf)
		hear(r);
	return more || (r->link.out_blocked && !r->deaf);
}

static uint64_t progress(const struct rig *r)
{
	const struct conn_pool *pool = &r->server.pool;

	return r->link.bytes_in + r->link.bytes_out + r->server.accepted + pool->bytes_in + pool->bytes_out + pool->open;
}

/* The real loop: a turn, and everything that is ready after it. */
static bool run_once(struct rig *r)
{
	uint64_t before = progress(r);
	bool moved = false;

	rig_sockets.around(true);
	ev_run(loop.ev, EVRUN_NOWAIT);
	rig_sockets.around(false);
	hear(r);
	for (unsigned i = 0; i < r->client_count; i++)
		moved |= socket_moves(&r->clients[i]);
	return moved || had_more || progress(r) != before;
}

static void run_loop(struct rig *r)
{
	enum { QUIET = 3 };

	for (unsigned i = 0, quiet = 0; i < 100 * TURNS_MAX && quiet < QUIET && r->server.state != SERVER_STOPPED; i++)
		quiet = run_once(r) ? 0 : quiet + 1;
	if (r->server.state != SERVER_STOPPED)
		judge_sums(&r->bridge);
}

static void turn_by_hand(struct rig *r)
{
	for (unsigned i = 0; i < TURNS_MAX && r->server.state != SERVER_STOPPED; i++) {
		bool more = turn_once(r);
		judge_sums(&r->bridge);
		if (!more && !some_client_ready(r))
			return;
	}
}

void rig_turn(struct rig *r)
{
	if (rig_sockets.address)
		run_loop(r);
	else
		turn_by_hand(r);
}

void rig_pass_time(struct rig *r, uint64_t ms)
{
	loop.now += ms;
	loop.now_us += ms * 1000;
	loop.unix_sec = loop.now / 1000;
	rig_clock_us = loop.now_us;
	rig_turn(r);
}

void rig_host(struct rig *r, const void *bytes, size_t n)
{
	const uint8_t *at = bytes;

	while (n > 0 && r->server.state != SERVER_STOPPED && !r->link.in_ended) {
		ssize_t written = write(r->to_port[1], at, n);
		MUST(written > 0 || errno == EAGAIN);
		if (written > 0) {
			at += written;
			n -= (size_t)written;
		}
		rig_turn(r);
	}
}

void rig_frame(struct rig *r, const void *payload, size_t n)
{
	struct buf frame = {0};
	uint8_t head[FRAME_HEAD] = {(uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n};

	MUST(buf_append(&frame, head, sizeof head) && buf_append(&frame, payload, n));
	rig_host(r, buf_at(&frame), buf_len(&frame));
	buf_free(&frame);
}

void rig_hello(struct rig *r, unsigned options, struct slice more, uint32_t demand)
{
	uint8_t *bytes = malloc(512 + rig_tls.len), *at = bytes;

	MUST(bytes && more.len < 256);
	at = mp_array(at, 3);
	at = mp_uint(at, MSG_HELLO);
	at = mp_uint(at, 1);
	at = mp_map(at, options + 1);
	at = mp_str(at, SLICE_LIT("listeners"));
	at = mp_array(at, 1);
	at = mp_map(at, 1u + (rig_tls.len > 0) + rig_http3);
	if (rig_http3) {
		at = mp_str(at, SLICE_LIT("http3"));
		at = mp_bool(at, true);
	}
	if (rig_tls.len) {
		at = mp_str(at, SLICE_LIT("tls"));
		memcpy(at, rig_tls.at, rig_tls.len);
		at += rig_tls.len;
	}
	at = mp_str(at, SLICE_LIT("address"));
	at = mp_str(at, rig_sockets.address ? slice_str(rig_sockets.address) : SLICE_LIT("127.0.0.1"));
	if (more.len)
		memcpy(at, more.at, more.len);
	at += more.len;
	if (demand) {
		at = mp_array(at, 2);
		at = mp_uint(at, MSG_DEMAND);
		at = mp_uint(at, demand);
	}
	rig_frame(r, bytes, (size_t)(at - bytes));
	free(bytes);
	r->config.max_files = 8; /* there was no channel when the port listened */
}

/* ---- orders: no socket is opened ---- */

static bool listen_nowhere(void *ctx, struct config_fault *fault)
{
	struct server *s = ctx;

	(void)fault;
	s->max_connections = RIG_CLIENTS;
	s->config->max_connections = RIG_CLIENTS;
	s->state = SERVER_SERVING;
	return true;
}

static void name_nothing(void *ctx, unsigned i, struct listener_name *name)
{
	(void)ctx;
	(void)i;
	*name = (struct listener_name){.address = "127.0.0.1", .port = 1};
}

/* ---- beginning and end ---- */

static void end_loop(void)
{
	loop_free(&loop);
}

static void start_loop(struct rig *r)
{
	static bool started;

	rig_clock_us = START_MS * 1000;
	if (!started || rig_sockets.address) {
		MUST(loop_init(&loop, turn_of_port, r));
		for (unsigned i = 0; i < 2; i++)
			ev_signal_stop(loop.ev, &loop.signals[i]);
		if (!rig_sockets.address)
			atexit(end_loop);
		started = true;
	}
	loop.now = START_MS;
	loop.now_us = START_MS * 1000;
	loop.unix_sec = 1;
	wheel_init(&loop.wheel, loop.now);
	wheel_init(&loop.fine, loop.now_us / LOOP_FINE_US);
}

void rig_start(struct rig *r)
{
	static struct control_ops control;

	memset(r, 0, sizeof *r);
	start_loop(r);
	control = server_control;
	if (!rig_sockets.address) {
		control.listen = listen_nowhere;
		control.name = name_nothing;
	}
	MUST(pipe2(r->to_port, O_NONBLOCK | O_CLOEXEC) == 0 && pipe2(r->from_port, O_NONBLOCK | O_CLOEXEC) == 0);
	config_defaults(&r->config);
	link_init(&r->link, &loop, r->to_port[0], r->from_port[1], &bridge_link_handler, &r->bridge);
	r->link.part_min = MESSAGE_DATA_HEAD_MAX; /* inputs are short */
	bridge_init(&r->bridge, &loop, &r->link, &r->config, (const uint8_t[SHARES_SECRET]){1});
	open_channel(r);
	MUST(server_init(&r->server, &loop, &r->config, &r->bridge.sink));
	r->server.on_drained = bridge_drained;
	r->server.ctx = &r->bridge;
	r->server.pool.watch = bridge_watch(&r->bridge);
	r->server.pool.env.shares = &r->bridge.shares;
	bridge_control(&r->bridge, (struct control){&control, &r->server});
	log_to(bridge_log, &r->bridge);
}

/* No stream and no connection may remain. */
static void judge_end(const struct rig *r)
{
	const struct bridge *b = &r->bridge;
	const struct conn_pool *pool = &r->server.pool;

	MUST(b->exchanges.count == 0);
	MUST(b->queued == 0 && list_empty(&b->queue));
	MUST(b->n.body_queued == 0);
	MUST(b->n.read_credit == 0);
	MUST(pool->open == 0);
	for (unsigned i = 0; i < CONN_WAITS; i++)
		MUST(pool->waiting[i].count == 0);
	for (unsigned i = 0; i < r->client_count; i++)
		MUST(!r->clients[i].c);
}

/* Sends what the host has not received yet, as main.c does; then each stream has had its end, if nothing was lost. */
static void hear_the_rest(struct rig *r)
{
	hear(r); /* this makes room in the pipe */
	for (size_t before = SIZE_MAX; r->link.queued < before && !r->link.out_broken;) {
		before = r->link.queued;
		r->link.urgent = true;
		r->link.out_blocked = false;
		link_flush(&r->link);
		hear(r);
	}
	for (unsigned i = 0; i < RIG_STREAMS && !r->link.out_broken && r->server.exit_status == 0; i++)
		MUST(r->streams[i] != STREAM_LIVE);
}

static void leave(struct rig *r)
{
	enum { STEPS = 100, STEP_MS = 1000 };

	r->deaf = false;
	close(r->to_port[1]);
	rig_turn(r);
	for (unsigned i = 0; i < STEPS && r->server.state != SERVER_STOPPED; i++)
		rig_pass_time(r, STEP_MS);
	MUST(r->server.state == SERVER_STOPPED);
	hear_the_rest(r);
}

void rig_stop(struct rig *r)
{
	leave(r);
	log_to(NULL, NULL);
	server_free(&r->server);
	judge_end(r);
	bridge_free(&r->bridge);
	link_free(&r->link);
	MUST(loop.wheel.count == 0 && loop.fine.count == 0);
	for (unsigned i = 0; i < r->client_count; i++) {
		buf_free(&r->clients[i].inbox);
		buf_free(&r->clients[i].outbox);
		if (rig_sockets.address)
			close(r->clients[i].fd);
	}
	buf_free(&r->heard);
	close(r->channel);
	close(r->to_port[0]);
	close(r->from_port[0]);
	close(r->from_port[1]);
	if (rig_sockets.address)
		loop_free(&loop);
}
