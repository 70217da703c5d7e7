/* SPDX-License-Identifier: Apache-2.0 */
/* QUIC under HTTP/3: a server on a real socket, and clients that follow the rules or break them. */
#include "quic_fixture.h"

#include <fcntl.h>
#include <malloc.h>
#include <sys/socket.h>

static struct quic_server server, *const s = &server;
static struct quic_client client, *const c = &client;
static struct h1_fixture *const host = &server.h1;

static int group_setup(void **state)
{
	(void)state;
	return tls_start() ? 0 : -1;
}

static int setup(void **state)
{
	(void)state;
	quic_server_start(s, NULL);
	quic_client_init(c, s);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	quic_client_free(c);
	quic_server_stop(s);
	return 0;
}

static void start_again(void (*options)(struct config *config))
{
	quic_client_free(c);
	quic_server_stop(s);
	quic_server_start(s, options);
	quic_client_init(c, s);
}

static void shake(void)
{
	quic_client_begin(c);
	QUIC_AWAIT(c, c->shaken && s->quic->figures.handshakes == 1);
}

static bool sees(const char *text)
{
	return strstr(text_str(&c->seen), text);
}

/* A request from its beginning to its end. */
static void get(const char *path)
{
	unsigned before = host->count;
	int64_t id;
	char end[32];

	text_clear(&c->seen);
	id = quic_client_gets(c, path);
	snprintf(end, sizeof end, "%d end\n", (int)id);
	QUIC_AWAIT(c, host->count > before && host->streams[host->count]); /* another may have come before, late */
	host_responds(host, host->count, 200, "ok");
	QUIC_AWAIT(c, sees(end) && !host->streams[host->count]);
}

/* Afterwards another client is served as usual. */
static void expect_all_well(void)
{
	unsigned before = (unsigned)s->quic->figures.handshakes;

	quic_client_free(c);
	quic_client_init(c, s);
	quic_client_begin(c);
	QUIC_AWAIT(c, c->shaken && s->quic->figures.handshakes == before + 1);
	get("/well");
}

/* ---- what works ---- */

static void test_a_request_is_answered(void **state)
{
	(void)state;
	shake();
	get("/a");
	EXPECT_TEXT(&c->seen, "0 200\n0 ok\n0 end\n");
	get("/b");
	EXPECT_TEXT(&c->seen, "4 200\n4 ok\n4 end\n");
	assert_int_equal(s->quic->half_open, 0);
	QUIC_AWAIT(c, s->pool.waiting[CONN_IDLE].count == 1);
	text_clear(&host->events);
}

/* A socket that accepts nothing: of TCP, with full buffers. */
static int full_socket(int fds[2])
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	static const uint8_t bytes[65536];
	socklen_t len = sizeof at;
	int listener = socket(AF_INET, SOCK_STREAM, 0);

	assert_true(bind(listener, (struct sockaddr *)&at, sizeof at) == 0 && listen(listener, 1) == 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &len), 0);
	fds[0] = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(fds[0], (struct sockaddr *)&at, sizeof at), 0);
	fds[1] = accept(listener, NULL, NULL);
	assert_true(fds[1] >= 0);
	close(listener);
	assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
	while (send(fds[0], bytes, sizeof bytes, MSG_DONTWAIT) > 0)
		;
	return fds[0];
}

static void test_packets_wait_until_the_socket_accepts_them(void **state)
{
	int fd = loop_io_fd(&s->quic->io), kept, full[2];

	(void)state;
	shake();
	quic_client_gets(c, "/");
	QUIC_AWAIT(c, host->count == 1);
	kept = dup(fd);
	dup2(full_socket(full), fd);
	host_responds(host, 1, 200, "ok");
	for (int i = 0; i < 3; i++) { /* others may have filled it again when it was the connection's turn */
		s->quic->writable = i > 0;
		quic_server_turn(s);
		assert_false(list_empty(&s->quic->blocked));
		assert_int_equal(loop_io_events(&s->quic->io), LOOP_READ | LOOP_WRITE);
	}
	dup2(kept, fd);
	s->quic->writable = true;
	quic_server_turn(s);
	assert_true(list_empty(&s->quic->blocked));
	QUIC_AWAIT(c, sees("0 end\n"));
	close(kept);
	close(full[0]);
	close(full[1]);
	text_clear(&host->events);
}

/* The shorter idle timeout of both sides counts (RFC 9000 10.1). */
static void test_a_request_in_progress_keeps_an_impatient_client(void **state)
{
	uint64_t until;

	(void)state;
	c->idle = 200 * NGTCP2_MILLISECONDS;
	shake();
	quic_client_gets(c, "/");
	QUIC_AWAIT(c, host->count == 1);
	until = quic_clock() + 3 * c->idle;
	QUIC_AWAIT(c, quic_clock() > until);
	EXPECT_EVENTS(host, "request 1 GET /\n");
	host_responds(host, 1, 200, "ok");
	QUIC_AWAIT(c, sees("0 end\n"));
	text_clear(&host->events);
}

static void idle_for_a_moment(struct config *config)
{
	config->idle_timeout = 200;
}

static void test_a_request_that_came_in_time_is_read_before_the_time_is_up(void **state)
{
	uint64_t then;

	(void)state;
	start_again(idle_for_a_moment);
	shake();
	get("/a");
	quic_client_gets(c, "/b");
	quic_client_goes_on(c);
	for (then = s->loop.now; quic_clock() / 1000000 < then + 200 + 2 * WHEEL_SLOT;) /* the server stands still */
		usleep(1000);
	QUIC_AWAIT(c, host->count == 2);
	text_clear(&host->events);
}

static void test_the_second_version_is_spoken_too(void **state)
{
	(void)state;
	c->version = NGTCP2_PROTO_VER_V2;
	shake();
	get("/");
	text_clear(&host->events);
}

static void test_other_versions_are_told_of_ours(void **state)
{
	(void)state;
	c->version = 0xfaceb00c;
	quic_client_begin(c);
	QUIC_AWAIT(c, c->over);
	EXPECT_TEXT(&c->seen, "versions\n");
	assert_int_equal(s->pool.open, 0);
}

static void test_a_client_may_change_its_keys(void **state)
{
	(void)state;
	shake();
	get("/");
	assert_int_equal(ngtcp2_conn_initiate_key_update(c->ng, quic_clock()), 0);
	get("/");
	text_clear(&host->events);
}

/* The client is the same one, at the address that was validated. */
static void test_a_client_may_move(void **state)
{
	struct quic_conn *conn;
	uint16_t before;

	(void)state;
	shake();
	get("/");
	conn = container_of(container_of(s->pool.all.next, struct member, all), struct quic_conn, member);
	before = conn->owner.peer.port;
	assert_int_equal(before, ntohs(c->local.sin_port));
	quic_client_moves(c);
	get("/");
	QUIC_AWAIT(c, conn->owner.peer.port == ntohs(c->local.sin_port));
	assert_int_not_equal(conn->owner.peer.port, before);
	text_clear(&host->events);
}

static void always(struct config *config)
{
	config->h3_retry = 0;
}

static void test_a_client_shows_that_its_address_is_real(void **state)
{
	uint8_t token[256];
	size_t n;

	(void)state;
	start_again(always);
	shake();
	assert_int_equal(s->quic->figures.retries, 1);
	QUIC_AWAIT(c, c->token_len > 0);
	n = c->token_len;
	memcpy(token, c->token, n);
	quic_client_free(c);
	quic_client_init(c, s);
	memcpy(c->token, token, n); /* it has been here before */
	c->token_len = n;
	quic_client_begin(c);
	QUIC_AWAIT(c, c->shaken && s->quic->figures.handshakes == 2);
	assert_int_equal(s->quic->figures.retries, 1);
	quic_client_free(c);
	quic_client_init(c, s);
	memcpy(c->token, token, n);
	c->token[n / 2] ^= 1;
	c->token_len = n;
	quic_client_begin(c);
	QUIC_AWAIT(c, c->shaken);
	assert_int_equal(s->quic->figures.retries, 2);
}

enum { SPOOFED = 1200, FLOOD = 2000, FLOOD_A_TURN = 50 };

/* An invented first packet, whose encrypted part cannot be decrypted. */
static void make_up(uint8_t packet[SPOOFED])
{
	static const uint8_t head[] = {0xc0, 0, 0, 0, 1, 8};

	assert_int_equal(gnutls_rnd(GNUTLS_RND_NONCE, packet, SPOOFED), 0);
	memcpy(packet, head, sizeof head);
	packet[14] = 8;                          /* bytes of its own connection id */
	packet[23] = 0;                          /* of the token */
	packet[24] = 0x40 | (SPOOFED - 26) >> 8; /* of the rest */
	packet[25] = (SPOOFED - 26) & 0xff;
}

/* Returns how many more bytes of memory the server uses afterwards. */
static long flood(void)
{
	struct mallinfo2 before = mallinfo2();

	for (unsigned i = 0; i < FLOOD; i++) {
		uint8_t packet[SPOOFED];
		make_up(packet);
		quic_client_throws(c, packet, sizeof packet);
		if (i % FLOOD_A_TURN == 0)
			quic_server_turn(s);
		while (recv(c->fd, packet, sizeof packet, MSG_DONTWAIT) > 0)
			c->got++; /* packets */
	}
	quic_server_turn(s);
	return (long)(mallinfo2().uordblks - before.uordblks);
}

static void expect_nothing_left(void)
{
	assert_int_equal(s->pool.open, 0);
	assert_int_equal(s->quic->half_open, 0);
	assert_int_equal(s->quic->routes.count, 0);
	assert_int_equal(s->quic->ghost_count, 0);
	assert_int_equal(s->loop.fine.count, 0);
	assert_int_equal(s->loop.wheel.count, 0);
}

static void test_a_flood_of_first_packets_takes_no_memory(void **state)
{
	(void)state;
	start_again(always);
	flood(); /* the libraries have allocated what they keep */
	assert_true(flood() < FLOOD);
	expect_nothing_left();
	assert_int_equal(s->quic->figures.retries, 2 * FLOOD);
	assert_int_equal(s->quic->figures.accepted, 0);
	expect_all_well();
	text_clear(&host->events);
}

/* The connections that they start end at once, without an answer. */
static void test_first_packets_that_are_noise_leave_nothing(void **state)
{
	(void)state;
	flood();
	assert_true(flood() < FLOOD);
	expect_nothing_left();
	assert_int_equal(s->quic->figures.accepted, 2 * FLOOD);
	assert_int_equal(c->got, 0);
	expect_all_well();
	text_clear(&host->events);
}

/* ---- the handshake ---- */

static void test_another_protocol_is_refused(void **state)
{
	(void)state;
	c->alpn = "h9";
	quic_client_begin(c);
	QUIC_AWAIT(c, c->over);
	EXPECT_TEXT(&c->seen, "close 0x178\n");
	assert_int_equal(s->quic->figures.failed, 1);
}

static void test_no_protocol_at_all_is_refused_too(void **state)
{
	(void)state;
	c->alpn = NULL;
	quic_client_begin(c);
	QUIC_AWAIT(c, c->over);
	EXPECT_TEXT(&c->seen, "close 0x178\n");
}

static void hasty(struct config *config)
{
	config->handshake_timeout = 50;
}

/* Only the client's first packet. */
static void say_hello(void)
{
	uint8_t packet[1452];
	ngtcp2_path_storage path;
	ngtcp2_pkt_info info;
	ngtcp2_ssize n;

	quic_client_begin(c);
	ngtcp2_path_storage_zero(&path);
	n = ngtcp2_conn_write_pkt(c->ng, &path.path, &info, packet, 1200, quic_clock());
	assert_true(n >= 1200);
	quic_client_throws(c, packet, (size_t)n);
	c->over = true;
}

static void test_half_a_handshake_ends_in_time(void **state)
{
	uint64_t until;

	(void)state;
	start_again(hasty);
	say_hello();
	quic_talk(c);
	assert_int_equal(s->quic->figures.accepted, 1);
	until = quic_clock() + 10 * NGTCP2_SECONDS;
	while (s->pool.open && quic_clock() < until)
		quic_talk(c);
	assert_int_equal(s->pool.open, 0);
	assert_int_equal(s->quic->half_open, 0);
}

/* Before the address is validated, the server sends at most three times as many bytes as it received. */
static void test_no_more_than_three_times_what_came(void **state)
{
	uint64_t until = quic_clock() + 300 * NGTCP2_MILLISECONDS;

	(void)state;
	say_hello();
	while (quic_clock() < until)
		quic_talk(c);
	assert_true(c->got > 0 && c->got <= 3 * c->sent);
	assert_int_equal(s->quic->half_open, 1);
}

static void test_short_first_packets_are_nothing(void **state)
{
	uint8_t packet[1452];
	ngtcp2_path_storage path;
	ngtcp2_pkt_info info;

	(void)state;
	quic_client_begin(c);
	ngtcp2_path_storage_zero(&path);
	assert_true(ngtcp2_conn_write_pkt(c->ng, &path.path, &info, packet, 1200, quic_clock()) >= 1200);
	quic_client_throws(c, packet, 1199);
	quic_client_throws(c, packet, 20);
	quic_client_throws(c, "\xc0", 1);
	quic_client_throws(c, "", 0);
	c->over = true;
	quic_talk(c);
	assert_int_equal(c->packets, 0);
	assert_int_equal(s->pool.open, 0);
	assert_true(s->quic->figures.dropped >= 3);
}

/* ---- reports about handshakes ---- */

static struct text heard;

static bool is_wanted(void *ctx)
{
	(void)ctx;
	return true;
}

static void on_opened(void *ctx, uint64_t connection, const struct peer *peer)
{
	(void)ctx;
	(void)connection;
	(void)peer;
	text_add(&heard, "opened\n");
}

static void on_secured(void *ctx, uint64_t connection, uint64_t time, const struct secure *secure, const char *fault)
{
	(void)ctx;
	(void)connection;
	(void)time;
	assert_int_equal(secure == NULL, *fault != 0);
	text_add(&heard, "secured %s\n", secure ? "" : fault);
}

static void on_ended(void *ctx, uint64_t connection, enum stream_end why, uint64_t in, uint64_t out, uint64_t time)
{
	(void)ctx;
	(void)connection;
	(void)why;
	(void)in;
	(void)out;
	(void)time;
	text_add(&heard, "ended\n");
}

static void watch(void)
{
	s->pool.watch = (struct connection_watch){
		.wanted = is_wanted, .opened = on_opened, .secured = on_secured, .ended = on_ended};
}

static void expect_heard(const char *text)
{
	EXPECT_TEXT(&heard, text);
	text_free(&heard);
}

static void expect_failure(unsigned alert)
{
	char text[200];

	snprintf(text, sizeof text, "opened\nsecured %s\nended\n", tls_alert_name(alert));
	expect_heard(text);
	assert_int_equal(s->quic->figures.failed, 1);
	assert_int_equal(s->quic->figures.handshakes, 0);
}

static void test_a_handshake_is_reported_once(void **state)
{
	(void)state;
	watch();
	shake();
	conn_pool_cut(&s->pool);
	conn_pool_reap(&s->pool);
	expect_heard("opened\nsecured \nended\n");
	assert_int_equal(s->quic->figures.failed, 0);
}

static void test_a_handshake_that_we_refuse_is_reported(void **state)
{
	(void)state;
	watch();
	c->alpn = "h9";
	quic_client_begin(c);
	QUIC_AWAIT(c, s->quic->figures.failed == 1 && s->pool.open == 0);
	expect_failure(120); /* no_application_protocol */
}

static void test_a_handshake_that_the_client_refuses_is_reported(void **state)
{
	(void)state;
	watch();
	c->doubtful = true;
	quic_client_begin(c);
	QUIC_AWAIT(c, c->over && s->pool.open == 0);
	expect_failure(42); /* bad_certificate */
}

/* As over TCP. */
static void test_a_client_that_only_leaves_has_not_failed(void **state)
{
	(void)state;
	start_again(hasty);
	watch();
	say_hello();
	QUIC_AWAIT(c, s->quic->figures.accepted == 1 && s->pool.open == 0);
	expect_heard("opened\nended\n");
	assert_int_equal(s->quic->figures.failed, 0);
}

/* ---- the size of packets ---- */

enum { LARGE = 300000 };

static char *large_text(void)
{
	char *text = malloc(LARGE + 1);

	assert_non_null(text);
	memset(text, 'x', LARGE);
	text[LARGE] = 0;
	return text;
}

/* A response of LARGE bytes arrives whole. */
static void get_large(void)
{
	char *text = large_text();
	int64_t id;
	char end[32];

	text_clear(&c->seen);
	c->body = 0;
	id = quic_client_gets(c, "/large");
	snprintf(end, sizeof end, "%d end\n", (int)id);
	QUIC_AWAIT(c, host->streams[host->count] != NULL);
	host_responds(host, host->count, 200, text);
	QUIC_AWAIT(c, sees(end) && !host->streams[host->count]);
	assert_int_equal(c->body, LARGE);
	free(text);
}

static struct quic_conn *only_connection(void)
{
	assert_int_equal(s->pool.open, 1);
	return container_of(container_of(s->pool.all.next, struct member, all), struct quic_conn, member);
}

static size_t packets_go_up_to(void)
{
	return ngtcp2_conn_get_path_max_tx_udp_payload_size(only_connection()->ng);
}

static void test_packets_grow_as_far_as_the_path_takes_them(void **state)
{
	static const struct {
		size_t path, packets;
	} paths[] = {{0, 8952}, {8951, 1452}, {1472, 1452}, {1451, 1406}, {1300, 1232}, {1200, 1200}};

	(void)state;
	for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
		c->path_max = paths[i].path;
		quic_client_begin(c);
		QUIC_AWAIT(c, c->shaken);
		assert_int_equal(packets_go_up_to(), 1200); /* a short connection tries nothing */
		get_large();
		QUIC_AWAIT(c, packets_go_up_to() == paths[i].packets);
		get_large();
		assert_int_equal(packets_go_up_to(), paths[i].packets);
		assert_int_equal(c->largest, paths[i].packets);
		quic_client_free(c);
		conn_pool_cut(&s->pool);
		conn_pool_reap(&s->pool);
		quic_client_init(c, s);
	}
	text_clear(&host->events);
}

/* After a change of the route, packets of the size that it carried before are lost without a report. */
static void test_packets_shrink_when_they_do_not_arrive_any_more(void **state)
{
	(void)state;
	shake();
	get_large();
	QUIC_AWAIT(c, packets_go_up_to() == 8952);
	get_large();
	c->path_max = 1300;
	get_large();
	get_large();
	text_clear(&host->events);
}

/* If the server's device refuses large packets, they are tried once, not for each connection. */
static void test_large_packets_are_not_tried_for_ever(void **state)
{
	(void)state;
	s->quic->wide = false;
	shake();
	get_large();
	assert_int_equal(packets_go_up_to(), 1452);
	text_clear(&host->events);
}

/* With a socket without checksums, the kernel cannot split messages into packets. */
static void test_where_the_kernel_does_not_cut_we_do(void **state)
{
	int on = 1;

	(void)state;
	shake();
	get_large();
	assert_true(s->quic->segments);
	assert_int_equal(setsockopt(loop_io_fd(&s->quic->io), SOL_SOCKET, SO_NO_CHECK, &on, sizeof on), 0);
	get_large();
	assert_false(s->quic->segments);
	get_large();
	text_clear(&host->events);
}

enum { TOGETHER = 50, LAST = 1100 };

/* TOGETHER first packets of noise, and a shorter one, in one message. */
static void throw_together(void)
{
	static uint8_t packets[TOGETHER * SPOOFED + LAST];
	uint16_t size = SPOOFED;
	_Alignas(struct cmsghdr) uint8_t room[CMSG_SPACE(sizeof size)] = {0};
	struct iovec iov = {packets, sizeof packets};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
	struct cmsghdr *control = CMSG_FIRSTHDR(&m);

	control->cmsg_level = IPPROTO_UDP;
	control->cmsg_type = 103; /* UDP_SEGMENT */
	control->cmsg_len = CMSG_LEN(sizeof size);
	memcpy(CMSG_DATA(control), &size, sizeof size);
	for (size_t i = 0; i < TOGETHER; i++)
		make_up(packets + i * SPOOFED);
	if (sendmsg(c->fd, &m, 0) < 0)
		skip(); /* the kernel cuts no packets */
}

static void test_packets_of_one_message_are_all_taken(void **state)
{
	(void)state;
	start_again(always);
	throw_together();
	quic_server_turn(s);
	assert_int_equal(s->quic->figures.retries, TOGETHER);
	assert_int_equal(s->quic->figures.dropped, 1); /* the last is too short */
}

/* However many come at once. */
static void test_a_turn_has_so_many_handshakes(void **state)
{
	(void)state;
	throw_together();
	throw_together();
	quic_server_turn(s);
	assert_int_equal(s->quic->figures.accepted, HANDSHAKES_A_TURN);
	assert_int_equal(s->quic->figures.retries, 2 * TOGETHER - HANDSHAKES_A_TURN);
}

/* ---- acknowledgements ---- */

static bool has_come(void)
{
	uint8_t byte;

	return recv(c->fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) >= 0;
}

/* The client sends a request, which the server reads; its clock stands still from now on. */
static void ask_and_stop_the_clock(uint64_t *us)
{
	shake();
	get("/first");
	for (int i = 0; i < 5; i++)
		quic_talk(c);
	*us = quic_clock() / 1000;
	s->quic->by_hand = us;
	quic_client_gets(c, "/");
	while (has_come() || !host->streams[host->count]) {
		quic_client_goes_on(c);
		quic_server_turn(s);
	}
}

static void test_a_response_acknowledges_its_request(void **state)
{
	unsigned before;
	uint64_t us;

	(void)state;
	ask_and_stop_the_clock(&us);
	us += 9000;
	quic_server_turn(s);
	assert_false(has_come());
	before = c->packets;
	host_responds(host, host->count, 200, "ok");
	quic_server_turn(s);
	quic_client_goes_on(c);
	assert_true(sees("4 end"));
	assert_int_equal(c->packets, before + 1);
	text_clear(&host->events);
}

static void test_a_request_is_acknowledged_soon_without_a_response(void **state)
{
	ngtcp2_conn_info info;
	uint64_t us, until;

	(void)state;
	ask_and_stop_the_clock(&us);
	ngtcp2_conn_get_conn_info(c->ng, &info);
	assert_true(info.bytes_in_flight > 0);
	s->quic->by_hand = NULL;
	until = quic_clock() + 10 * NGTCP2_SECONDS;
	while (!has_come() && quic_clock() < until)
		quic_server_turn(s);
	assert_true(has_come());
	quic_client_goes_on(c);
	ngtcp2_conn_get_conn_info(c->ng, &info);
	assert_int_equal(info.bytes_in_flight, 0);
	host_responds(host, host->count, 200, "ok");
	text_clear(&host->events);
}

/* ---- packets that kill ---- */

/* KeyUpdate is forbidden (RFC 9001 6): GnuTLS would answer it, and ngtcp2 (at least up to 1.11) ends the process with a failed
 * assertion. */
static void test_a_key_update_of_tls_is_refused(void **state)
{
	static const uint8_t frames[] = {0x06, 0, 5, 24, 0, 0, 1, 0};

	(void)state;
	shake();
	quic_client_plants(c, frames, sizeof frames);
	QUIC_AWAIT(c, c->over);
	EXPECT_TEXT(&c->seen, "close 0x10a\n");
	expect_all_well();
	text_clear(&host->events);
}

static void test_no_message_of_tls_is_wanted_after_the_handshake(void **state)
{
	static const uint8_t messages[] = {0, 1, 2, 4, 5, 8, 11, 13, 15, 20, 24, 254, 255};

	(void)state;
	for (size_t i = 0; i < sizeof messages; i++) {
		uint8_t frames[] = {0x06, 0, 5, messages[i], 0, 0, 1, 0};
		quic_client_begin(c);
		QUIC_AWAIT(c, c->shaken);
		quic_client_plants(c, frames, sizeof frames);
		QUIC_AWAIT(c, c->over);
		EXPECT_TEXT(&c->seen, "close 0x10a\n");
		quic_client_free(c);
		quic_client_init(c, s);
	}
	expect_all_well();
	text_clear(&host->events);
}

static size_t put_new_id(uint8_t *at, uint8_t sequence, uint8_t retire)
{
	uint8_t frame[4 + 8 + 16] = {0x18, sequence, retire, 8};

	memset(frame + 4, sequence, 8);
	memset(frame + 12, 0xee, 16);
	memcpy(at, frame, sizeof frame);
	return sizeof frame;
}

/* This ended ngtcp2 0.12: ids that must be retired as they arrive. */
static void test_connection_ids_that_are_over_as_they_come(void **state)
{
	uint8_t frames[100];
	size_t n = put_new_id(frames, 50, 50);

	(void)state;
	shake();
	n += put_new_id(frames + n, 49, 0);
	n += put_new_id(frames + n, 49, 0);
	quic_client_plants(c, frames, n);
	quic_talk(c);
	expect_all_well();
	text_clear(&host->events);
}

/* ---- other rules that are broken ---- */

static void test_frames_that_are_wrong(void **state)
{
	static const struct {
		const char *frames;
		size_t n;
		const char *seen;
	} wrong[] = {
		{"\x21\x22", 2, "close 0x7\n"},                             /* an unknown type: FRAME_ENCODING_ERROR */
		{"\x1e", 1, "close 0xa\n"},                                 /* HANDSHAKE_DONE, which only servers send */
		{"\x07\x01\x61", 3, "close 0xa\n"},                         /* NEW_TOKEN, the same */
		{"\x0a\x03\x01\x61", 4, "close 0x5\n"},                     /* STREAM: on a stream that only the server writes to */
		{"\x0a\x01\x01\x61", 4, "close 0x5\n"},                     /* on a server's stream that does not exist */
		{"\x0a\x80\xff\xff\x00\x01\x61", 7, "close 0x4\n"},         /* beyond the limit of streams */
		{"\x11\x00\x40\xff", 4, NULL},                              /* MAX_STREAM_DATA: fine */
		{"\x19\x3f", 2, "close 0xa\n"},                             /* RETIRE_CONNECTION_ID: one that was never issued */
		{"\x02\x40\xff\x00\x00\x00", 6, "close 0xa\n"},             /* ACK of a packet that was never sent */
		{"\x12\xd0\x00\x00\x00\x00\x00\x00\x01", 9, "close 0x7\n"}, /* MAX_STREAMS beyond 2^60 */
	};

	(void)state;
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		quic_client_begin(c);
		QUIC_AWAIT(c, c->shaken);
		quic_client_plants(c, wrong[i].frames, wrong[i].n);
		if (wrong[i].seen) {
			QUIC_AWAIT(c, c->over);
			EXPECT_TEXT(&c->seen, wrong[i].seen);
		} else {
			quic_talk(c);
			assert_false(c->over);
		}
		quic_client_free(c);
		quic_client_init(c, s);
	}
	expect_all_well();
	text_clear(&host->events);
}

static void test_more_than_a_window_is_an_error(void **state)
{
	static const uint8_t frames[] = {0x0e, 0x00, 0x80, 0x10, 0x00, 0x00, 0x01, 0x61}; /* STREAM 0 at 1 MiB */

	(void)state;
	shake();
	quic_client_plants(c, frames, sizeof frames);
	QUIC_AWAIT(c, c->over);
	EXPECT_TEXT(&c->seen, "close 0x3\n");
	text_clear(&host->events);
}

static void few_packets(struct config *config)
{
	config->h3_packets = 100;
	config->h3_packet_rate = 10;
}

static void test_packets_that_bring_nothing_are_counted(void **state)
{
	static const uint8_t ping[] = {0x01};

	(void)state;
	start_again(few_packets);
	shake();
	for (int i = 0; i < 200 && !c->over; i++) {
		memcpy(c->plant, ping, sizeof ping);
		if (ngtcp2_conn_get_streams_bidi_left(c->ng) > 0)
			quic_client_plants(c, ping, sizeof ping);
		else
			break;
		quic_talk(c);
	}
	while (!c->over) {
		uint8_t junk[60] = {0x40}; /* a short header: not a packet, but it must be examined */
		const ngtcp2_cid *dcid = ngtcp2_conn_get_dcid(c->ng);
		memcpy(junk + 1, dcid->data, dcid->datalen);
		for (int i = 0; i < 20; i++)
			quic_client_throws(c, junk, sizeof junk);
		quic_talk(c);
	}
	EXPECT_TEXT(&c->seen, "close h3 0x107\n");
	text_clear(&host->events);
}

static void little_memory(struct config *config)
{
	config->h3_memory = 262144;
}

/* STREAM frames of one byte each, with gaps between them: each gap is stored. */
static size_t put_gaps(uint8_t *at, size_t room, uint32_t *offset)
{
	size_t n = 0;

	for (; n + 8 <= room; n += 8, *offset += 2)
		memcpy(at + n,
		       (uint8_t[]){0x0e, 0, 0x80, (uint8_t)(*offset >> 16), (uint8_t)(*offset >> 8), (uint8_t)*offset, 1, 'x'}, 8);
	return n;
}

static void test_what_a_connection_makes_us_store_is_bounded(void **state)
{
	const struct quic_conn *conn;
	uint32_t offset = 1;

	(void)state;
	start_again(little_memory);
	shake();
	get("/"); /* stream 0 */
	conn = container_of(container_of(s->pool.all.next, struct member, all), struct quic_conn, member);
	for (int i = 0; i < 90 && !c->over; i++) {
		uint8_t frames[1100];
		size_t n = put_gaps(frames, sizeof frames, &offset);
		for (size_t k = 1; k < n; k += 8)
			frames[k] = 8; /* the third */
		quic_client_plants(c, frames, n);
		assert_true(conn->memory <= 262144 + 65536);
		quic_talk(c);
	}
	assert_true(c->over);
	assert_true(sees("close ")); /* INTERNAL_ERROR, unless another limit was reached first */
	expect_all_well();
	text_clear(&host->events);
}

/* Wherever ngtcp2 gets no memory, the connection fails or never begins, and the next one is served. */
static void test_memory_may_end_anywhere(void **state)
{
	unsigned served = 0, failed = 0;

	(void)state;
	for (uint64_t most = 100; most < 60000; most += most < 20000 ? 400 : 1500) {
		uint64_t until;
		host->config.h3_memory = most;
		quic_client_begin(c);
		until = quic_clock() + 60 * NGTCP2_MILLISECONDS;
		while (!c->over && !c->shaken && quic_clock() < until)
			quic_talk(c);
		served += c->shaken && !c->over;
		failed += !c->shaken || c->over;
		quic_client_free(c);
		conn_pool_cut(&s->pool);
		conn_pool_reap(&s->pool);
		quic_client_init(c, s);
	}
	assert_true(served > 0 && failed > 0);
	host->config.h3_memory = 4194304;
	expect_all_well();
	text_clear(&host->events);
}

/* ---- packets without a connection ---- */

static void test_an_unknown_connection_is_reset(void **state)
{
	(void)state;
	shake();
	get("/");
	text_clear(&c->seen);
	conn_pool_cut(&s->pool);
	conn_pool_reap(&s->pool);
	quic_ghosts_free(s->quic); /* as after a restart with the same key */
	while (recv(c->fd, (uint8_t[2048]){0}, 2048, MSG_DONTWAIT) > 0)
		;
	quic_client_gets(c, "/lost");
	QUIC_AWAIT(c, c->over);
	EXPECT_TEXT(&c->seen, "close 0x0\n");
	text_clear(&host->events);
}

/* No answer is longer than the packet that it answers, and their number per second is bounded. */
static void test_strays_are_answered_with_less_and_not_for_ever(void **state)
{
	(void)state;
	c->over = true;
	for (size_t n = 22; n < 400; n++) {
		uint8_t stray[400] = {0x40};
		size_t before = c->got;
		memset(stray + 1, (int)n, sizeof stray - 1);
		quic_client_throws(c, stray, n);
		quic_talk(c);
		assert_true(c->got - before < n);
	}
	assert_true(c->packets > 10);
	for (int i = 0; i < 2000; i++) {
		uint8_t stray[100] = {0x40};
		quic_client_throws(c, stray, sizeof stray);
		if (i % 50 == 0)
			quic_talk(c);
	}
	quic_talk(c);
	assert_true(c->packets < 1500);
	assert_int_equal(s->pool.open, 0);
}

static void test_what_was_closed_says_so_again(void **state)
{
	unsigned before;
	const ngtcp2_cid *dcid;
	uint8_t late[1100] = {0x40};

	(void)state;
	shake();
	get("/");
	dcid = ngtcp2_conn_get_dcid(c->ng);
	memcpy(late + 1, dcid->data, dcid->datalen);
	conn_pool_cut(&s->pool);
	conn_pool_reap(&s->pool);
	assert_int_equal(s->quic->ghost_count, 1);
	c->over = true;
	before = c->packets;
	for (int i = 0; i < 64; i++)
		quic_client_throws(c, late, sizeof late);
	for (int i = 0; i < 10; i++) { /* without a look at the clock, which would end it */
		s->quic->readable = true;
		quic_run(s->quic);
	}
	quic_talk(c);
	assert_in_range(c->packets - before, 2, 8); /* when it was closed; of later ones the first, the second, the fourth... */
	text_clear(&host->events);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_a_request_is_answered),
		TEST(test_packets_wait_until_the_socket_accepts_them),
		TEST(test_a_request_in_progress_keeps_an_impatient_client),
		TEST(test_a_request_that_came_in_time_is_read_before_the_time_is_up),
		TEST(test_the_second_version_is_spoken_too),
		TEST(test_other_versions_are_told_of_ours),
		TEST(test_a_client_may_change_its_keys),
		TEST(test_a_client_may_move),
		TEST(test_a_client_shows_that_its_address_is_real),
		TEST(test_a_flood_of_first_packets_takes_no_memory),
		TEST(test_first_packets_that_are_noise_leave_nothing),
		TEST(test_another_protocol_is_refused),
		TEST(test_no_protocol_at_all_is_refused_too),
		TEST(test_half_a_handshake_ends_in_time),
		TEST(test_no_more_than_three_times_what_came),
		TEST(test_short_first_packets_are_nothing),
		TEST(test_a_handshake_is_reported_once),
		TEST(test_a_handshake_that_we_refuse_is_reported),
		TEST(test_a_handshake_that_the_client_refuses_is_reported),
		TEST(test_a_client_that_only_leaves_has_not_failed),
		TEST(test_packets_grow_as_far_as_the_path_takes_them),
		TEST(test_packets_shrink_when_they_do_not_arrive_any_more),
		TEST(test_large_packets_are_not_tried_for_ever),
		TEST(test_packets_of_one_message_are_all_taken),
		TEST(test_a_turn_has_so_many_handshakes),
		TEST(test_where_the_kernel_does_not_cut_we_do),
		TEST(test_a_response_acknowledges_its_request),
		TEST(test_a_request_is_acknowledged_soon_without_a_response),
		TEST(test_a_key_update_of_tls_is_refused),
		TEST(test_no_message_of_tls_is_wanted_after_the_handshake),
		TEST(test_connection_ids_that_are_over_as_they_come),
		TEST(test_frames_that_are_wrong),
		TEST(test_more_than_a_window_is_an_error),
		TEST(test_packets_that_bring_nothing_are_counted),
		TEST(test_what_a_connection_makes_us_store_is_bounded),
		TEST(test_memory_may_end_anywhere),
		TEST(test_an_unknown_connection_is_reset),
		TEST(test_strays_are_answered_with_less_and_not_for_ever),
		TEST(test_what_was_closed_says_so_again),
	};

	return cmocka_run_group_tests_name("quic", tests, group_setup, NULL);
}
