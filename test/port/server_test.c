/* SPDX-License-Identifier: Apache-2.0 */
/* The server over real local sockets; its loop turns only when the test says so. */
#include "server/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "support.h"

enum { CLIENTS = 5 };

static struct loop loop;
static struct server server, *const s = &server;
static struct config config;
static struct text events;
static int clients[CLIENTS];
static struct stream *asked[CLIENTS]; /* the requests, in their order */
static unsigned asked_count;

static void on_request(void *ctx, struct stream *stream, const struct request_head *head)
{
	(void)ctx;
	if (asked_count < CLIENTS)
		asked[asked_count++] = stream;
	text_add(&events, "request ");
	text_add_bytes(&events, head->path.at, head->path.len);
	text_add(&events, "\n");
}

static void on_hangup(void *ctx, struct stream *stream)
{
	(void)ctx;
	(void)stream;
}

static void on_reset(void *ctx, struct stream *stream, enum stream_end why)
{
	(void)ctx;
	(void)stream;
	text_add(&events, "reset %s\n", stream_end_name(why));
}

static struct conn *conn_of(struct list *l)
{
	return container_of(container_of(l, struct member, all), struct conn, member);
}

static const struct stream_sink sink = {.on_request = on_request, .on_hangup = on_hangup, .on_reset = on_reset};

static void on_drained(void *ctx, unsigned cut)
{
	(void)ctx;
	text_add(&events, "drained %u\n", cut);
}

static bool no_turn(void *ctx)
{
	(void)ctx;
	return false;
}

static void start(uint64_t max_connections)
{
	struct config_fault fault;

	config.max_connections = max_connections;
	assert_true(server_init(s, &loop, &config, &sink));
	s->on_drained = on_drained;
	assert_true(server_control.listen(s, &fault));
}

static int setup(void **state)
{
	(void)state;
	asked_count = 0;
	config_defaults(&config);
	config.listener_count = 1;
	config.listeners[0] = (struct listener_config){.address = "127.0.0.1", .backlog = 16};
	assert_true(loop_init(&loop, no_turn, NULL));
	for (unsigned i = 0; i < CLIENTS; i++)
		clients[i] = -1;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	server_free(s);
	loop_free(&loop);
	for (unsigned i = 0; i < CLIENTS; i++)
		if (clients[i] >= 0)
			close(clients[i]);
	text_free(&events);
	return 0;
}

static bool poll_for(int fd, int timeout)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, timeout) == 1;
}

/* A turn, with what epoll would have reported for the listener. */
static void turn(void)
{
	if (loop_io_fd(&s->listeners[0].io) >= 0 && loop_io_events(&s->listeners[0].io) &&
	    poll_for(loop_io_fd(&s->listeners[0].io), 0))
		s->listeners[0].ready = true;
	wheel_fire(&loop.wheel, loop.now);
	while (server_run(s))
		;
	server_reap(s);
}

static void connect_client(unsigned i)
{
	struct listener_name name;
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	server_control.name(s, 0, &name);
	assert_string_equal(name.address, "127.0.0.1");
	to.sin_port = htons(name.port);
	if (clients[i] < 0)
		clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(clients[i], (struct sockaddr *)&to, sizeof to), 0);
	if (loop_io_events(&s->listeners[0].io))
		assert_true(poll_for(loop_io_fd(&s->listeners[0].io), 1000));
	turn();
}

/* For the client that came last. */
static void arrives(unsigned i, const char *bytes, size_t n)
{
	struct conn *c = conn_of(s->pool.all.prev);

	assert_int_equal(write(clients[i], bytes, n), (ssize_t)n);
	assert_true(poll_for(loop_io_fd(&c->io), 1000));
	ev_cb (&c->io.io)(loop.ev, &c->io.io, LOOP_READ);
}

static void client_sends(unsigned i, const char *bytes, size_t n)
{
	arrives(i, bytes, n);
	turn();
}

static const char get[] = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

static void client_asks(unsigned i)
{
	client_sends(i, get, sizeof get - 1);
}

static bool client_was_closed(unsigned i)
{
	char byte;

	return poll_for(clients[i], 1000) && read(clients[i], &byte, 1) <= 0;
}

static void test_at_the_limit_the_longest_idle_connection_goes_first(void **state)
{
	(void)state;
	start(2);
	connect_client(0);
	connect_client(1);
	assert_int_equal(s->pool.open, 2);
	connect_client(2);
	assert_int_equal(s->pool.open, 2);
	assert_true(client_was_closed(0));
	assert_int_equal(s->accepted, 3);
	assert_false(s->accept_paused);
}

static void test_at_the_limit_a_head_that_is_longest_incomplete_goes_first(void **state)
{
	(void)state;
	start(2);
	connect_client(0);
	client_sends(0, "GET / HT", 8);
	assert_int_equal(s->pool.waiting[CONN_BEGUN].count, 1);
	loop.now++;
	connect_client(1);
	connect_client(2);
	assert_true(client_was_closed(0));
	assert_int_equal(s->pool.waiting[CONN_BEGUN].count, 0);
	assert_int_equal(s->pool.waiting[CONN_IDLE].count, 2);
	assert_false(s->accept_paused);
}

static void test_at_the_limit_a_refused_client_that_stays_goes_too(void **state)
{
	(void)state;
	start(2);
	connect_client(0);
	client_sends(0, "\0", 1);
	assert_int_equal(s->pool.waiting[CONN_LINGERS].count, 1);
	loop.now++;
	connect_client(1);
	client_sends(1, "GET / HT", 8);
	connect_client(2);
	assert_int_equal(s->pool.waiting[CONN_LINGERS].count, 0);
	assert_int_equal(s->pool.waiting[CONN_BEGUN].count, 1);
	assert_int_equal(s->pool.open, 2);
}

static void test_at_the_limit_a_request_that_has_just_come_is_not_lost(void **state)
{
	(void)state;
	start(1);
	connect_client(0);
	arrives(0, get, sizeof get - 1);
	assert_int_equal(s->pool.waiting[CONN_IDLE].count, 0);
	connect_client(1);
	EXPECT_TEXT(&events, "request /\n");
	assert_int_equal(s->accepted, 1);
	conn_close(conn_of(s->pool.all.next), true, END_RESET);
	EXPECT_TEXT(&events, "reset reset\n");
}

static void test_at_the_limit_without_idle_ones_new_connections_wait(void **state)
{
	(void)state;
	start(1);
	connect_client(0);
	client_asks(0);
	EXPECT_TEXT(&events, "request /\n");
	connect_client(1);
	assert_int_equal(s->pool.open, 1);
	assert_true(s->accept_paused);
	assert_int_equal(loop_io_events(&s->listeners[0].io), 0); /* no spinning */
	conn_close(conn_of(s->pool.all.next), true, END_RESET);
	EXPECT_TEXT(&events, "reset reset\n");
	loop.now += 1000;
	turn();
	assert_false(s->accept_paused);
	turn();
	assert_int_equal(s->pool.open, 1);
	assert_int_equal(s->accepted, 2);
}

/* Until the limit is lifted, this process gets no further descriptor. */
static void no_descriptors_left(struct rlimit *before)
{
	struct rlimit none;
	int highest;

	if (under_valgrind())
		skip_because("valgrind accepts a connection, and closes it, where the kernel would refuse to");
	highest = dup(0);
	assert_true(highest >= 0);
	close(highest); /* the lowest that is free: all below are in use */
	assert_int_equal(getrlimit(RLIMIT_NOFILE, before), 0);
	none = (struct rlimit){(rlim_t)highest, before->rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	assert_int_equal(dup(0), -1);
	assert_int_equal(errno, EMFILE);
}

static void test_without_descriptors_an_idle_connection_goes_first(void **state)
{
	struct rlimit before;

	(void)state;
	start(0);
	connect_client(0);
	connect_client(1);
	clients[2] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	no_descriptors_left(&before);
	connect_client(2);
	assert_true(client_was_closed(0));
	turn();
	setrlimit(RLIMIT_NOFILE, &before);
	assert_int_equal(s->accepted, 3);
	assert_int_equal(s->pool.open, 2); /* one was closed for one that came */
	assert_false(s->accept_paused);
}

static void test_without_descriptors_or_idle_connections_a_client_is_turned_away(void **state)
{
	struct rlimit before;

	(void)state;
	start(0);
	connect_client(0);
	client_asks(0);
	EXPECT_TEXT(&events, "request /\n");
	clients[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	no_descriptors_left(&before);
	connect_client(1);
	assert_true(client_was_closed(1)); /* rather than left in a queue that makes the loop spin */
	assert_true(s->accept_paused);
	assert_int_equal(loop_io_events(&s->listeners[0].io), 0);
	assert_true(s->reserve_fd >= 0); /* for the next one */
	setrlimit(RLIMIT_NOFILE, &before);
	assert_int_equal(s->pool.open, 1);
	loop.now += 1000;
	turn();
	connect_client(2);
	assert_int_equal(s->pool.open, 2);
	conn_close(conn_of(s->pool.all.next), true, END_RESET);
	EXPECT_TEXT(&events, "reset reset\n");
}

/* All that is in progress waits for clients, or some of it does not. */
static void test_at_the_limit_who_has_kept_us_waiting_for_longest_goes_last_of_all(void **state)
{
	static const char post[] = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9000\r\n\r\n";

	(void)state;
	start(3);
	for (unsigned i = 0; i < 3; i++) {
		connect_client(i);
		client_sends(i, post, sizeof post - 1);
	}
	assert_true(s->pool.env.crowded);
	for (unsigned i = 0; i < 2; i++) { /* the third waits for the host */
		asked[i]->wanted = 9000;
		asked[i]->ops->consume(asked[i]);
		turn();
		loop.now++;
	}
	assert_int_equal(s->pool.waiting[CONN_STALLED].count, 2);
	loop.now += STALL_GRACE - 3;
	connect_client(3);
	assert_int_equal(s->pool.waiting[CONN_STALLED].count, 2); /* too early */
	assert_true(s->accept_paused);
	loop.now += 100 + WHEEL_SLOT;
	turn();
	turn();
	assert_int_equal(s->pool.waiting[CONN_STALLED].count, 1);
	assert_true(client_was_closed(0));
	assert_int_equal(s->accepted, 4);
	text_clear(&events);
}

static void test_in_a_crowd_idle_connections_have_less_time(void **state)
{
	(void)state;
	config.idle_timeout = config.first_byte_timeout = 60000;
	config.busy_idle_timeout = 5000;
	start(5);
	connect_client(0);
	loop.now += 5000;
	connect_client(1);
	connect_client(2);
	connect_client(3);
	turn();
	assert_int_equal(s->pool.open, 4); /* 80 %: not yet a crowd */
	connect_client(4);
	turn();
	assert_true(client_was_closed(0));
	assert_int_equal(s->pool.open, 4); /* the others have not been idle as long */
}

static void test_what_is_in_force_is_told(void **state)
{
	struct control_figures figures;

	(void)state;
	start(0);
	assert_true(config.max_connections > 0);
	connect_client(0);
	server_control.stats(s, &figures);
	assert_int_equal(figures.connections, 1);
	assert_int_equal(figures.idle, 1);
	assert_int_equal(figures.lingering, 0);
	assert_int_equal(figures.accepted, 1);
	assert_int_equal(strlen(s->pool.env.date), DATE_LEN);
}

static void test_under_pressure_nothing_is_accepted(void **state)
{
	(void)state;
	start(10);
	server_control.pressure(s, true);
	assert_int_equal(loop_io_events(&s->listeners[0].io), 0);
	connect_client(0);
	assert_int_equal(s->pool.open, 0);
	server_control.pressure(s, false);
	assert_true(poll_for(loop_io_fd(&s->listeners[0].io), 1000));
	turn();
	assert_int_equal(s->pool.open, 1);
}

static void test_a_drain_closes_the_idle_and_cuts_the_others_at_its_deadline(void **state)
{
	(void)state;
	start(10);
	connect_client(0);
	connect_client(1);
	client_asks(1);
	server_control.drain(s, 500);
	turn();
	assert_int_equal(loop_io_fd(&s->listeners[0].io), -1);
	EXPECT_TEXT(&events, "request /\n");
	loop.now += 250 + WHEEL_SLOT; /* the time of a connection that was never served */
	turn();
	assert_true(client_was_closed(0));
	assert_int_equal(s->pool.open, 1);
	server_control.drain(s, 5000); /* does not put it off */
	loop.now += 250;
	turn();
	assert_true(client_was_closed(1));
	EXPECT_TEXT(&events, "reset drained\ndrained 1\n");
}

static void test_a_drain_with_nothing_open_is_over_at_once(void **state)
{
	(void)state;
	start(10);
	server_control.drain(s, 500);
	turn();
	EXPECT_TEXT(&events, "drained 0\n");
}

static void test_an_address_that_cannot_be_bound_is_told(void **state)
{
	struct config_fault fault = {{0}, {0}};

	(void)state;
	snprintf(config.listeners[0].address, sizeof config.listeners[0].address, "nowhere");
	assert_true(server_init(s, &loop, &config, &sink));
	assert_false(server_control.listen(s, &fault));
	assert_string_equal(fault.field, "listeners");
	assert_non_null(strstr(fault.rule, "must be an IPv4 or IPv6 address"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_at_the_limit_the_longest_idle_connection_goes_first),
		TEST(test_at_the_limit_a_head_that_is_longest_incomplete_goes_first),
		TEST(test_at_the_limit_a_refused_client_that_stays_goes_too),
		TEST(test_at_the_limit_a_request_that_has_just_come_is_not_lost),
		TEST(test_at_the_limit_without_idle_ones_new_connections_wait),
		TEST(test_without_descriptors_an_idle_connection_goes_first),
		TEST(test_without_descriptors_or_idle_connections_a_client_is_turned_away),
		TEST(test_at_the_limit_who_has_kept_us_waiting_for_longest_goes_last_of_all),
		TEST(test_in_a_crowd_idle_connections_have_less_time),
		TEST(test_what_is_in_force_is_told),
		TEST(test_under_pressure_nothing_is_accepted),
		TEST(test_a_drain_closes_the_idle_and_cuts_the_others_at_its_deadline),
		TEST(test_a_drain_with_nothing_open_is_over_at_once),
		TEST(test_an_address_that_cannot_be_bound_is_told),
	};

	return cmocka_run_group_tests_name("server", tests, NULL, NULL);
}
