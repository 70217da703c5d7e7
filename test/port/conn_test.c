/* SPDX-License-Identifier: Apache-2.0 */
/* A connection over a scripted transport. */
#include "conn/conn.h"

#include <errno.h>
#include <limits.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "support.h"

static struct {
	struct text inbox;            /* what the peer has sent */
	size_t taken;                 /* of it, read */
	size_t read_most, write_most; /* bytes in one call */
	size_t room;                  /* bytes that the socket takes before it says AGAIN */
	enum io_status then;          /* what a read returns after the inbox */
	bool write_fails, shut;
	enum io_direction reads_on, writes_on; /* the event that a read, or a write, waits for after AGAIN */
	unsigned shakes;                       /* steps of the handshake that are still to come */
	enum io_direction shakes_on;
	enum io_status shaken; /* what the last step returns */
	int error;
	unsigned shutdowns; /* calls that return AGAIN first */
	struct secure secure;
	int stalls; /* LOOP_READ, LOOP_WRITE: never reported for the socket */
	unsigned reads;
	bool brings_little; /* a read that returns less than it could still has more */
	const char *closed; /* "close" or "abort" */
	struct text outbox;
} peer;

static struct loop loop;
static struct conn_pool pool;
static struct config config;
static struct conn *c;
static struct text events;
static struct stream *newest;
static const char *answer; /* the answer to each request; NULL: none */

/* ---- the transport ---- */

static struct io_result peer_read(int fd, void *state, void *bytes, size_t n)
{
	size_t there = buf_len(&peer.inbox.buf) - peer.taken, room;

	(void)fd;
	(void)state;
	assert_true(n > 0);
	peer.reads++;
	if (there == 0)
		return (struct io_result){.status = peer.then, .until = (uint8_t)peer.reads_on, .error = peer.error};
	room = n;
	n = n < there ? n : there;
	n = n < peer.read_most ? n : peer.read_most;
	memcpy(bytes, buf_at(&peer.inbox.buf) + peer.taken, n);
	peer.taken += n;
	return (struct io_result){.status = IO_OK, .n = n, .more = n == room || peer.brings_little};
}

static struct io_result peer_writev(int fd, void *state, const struct iovec *iov, int count)
{
	size_t most = peer.write_most < peer.room ? peer.write_most : peer.room, n = 0, offered = 0;

	(void)fd;
	(void)state;
	if (peer.write_fails)
		return io_failed(peer.error);
	if (most == 0)
		return io_again(peer.writes_on);
	for (int i = 0; i < count; i++)
		offered += iov[i].iov_len;
	for (int i = 0; i < count && n < most; i++) {
		size_t part = iov[i].iov_len < most - n ? iov[i].iov_len : most - n;
		text_add_bytes(&peer.outbox, iov[i].iov_base, part);
		n += part;
	}
	peer.room -= n;
	return (struct io_result){.status = IO_OK, .n = n, .more = n == offered};
}

static struct io_result peer_shutdown(int fd, void *state)
{
	(void)fd;
	(void)state;
	if (peer.shutdowns > 0) {
		peer.shutdowns--;
		return io_again(IO_WRITE);
	}
	peer.shut = true;
	return (struct io_result){.status = IO_OK};
}

static struct io_result peer_handshake(int fd, void *state)
{
	(void)fd;
	(void)state;
	if (peer.shakes > 0) {
		peer.shakes--;
		return io_again(peer.shakes_on);
	}
	return (struct io_result){.status = peer.shaken, .error = peer.error};
}

static const struct secure *peer_secure(const void *state)
{
	(void)state;
	return &peer.secure;
}

static void peer_close(int fd, void *state, bool abort)
{
	(void)state;
	assert_null(peer.closed);
	peer.closed = abort ? "abort" : "close";
	close(fd);
}

static const struct transport_ops transport = {
	.read = peer_read,
	.writev = peer_writev,
	.shutdown = peer_shutdown,
	.close = peer_close,
};

static const struct transport_ops secure_transport = {
	.handshake = peer_handshake,
	.read = peer_read,
	.writev = peer_writev,
	.shutdown = peer_shutdown,
	.close = peer_close,
	.secure = peer_secure,
};

/* ---- the sink ---- */

static void respond(struct stream *s, const char *body)
{
	struct response_head head = {.status = 200, .length = (int64_t)strlen(body), .has_date = true};

	stream_response_moves(s, RESPONSE_STREAMING);
	assert_true(s->ops->send_head(s, &head));
	assert_true(s->ops->send_data(s, slice_str(body)));
	stream_response_moves(s, RESPONSE_ENDED);
	assert_true(s->ops->send_end(s, NULL, 0));
}

static void on_request(void *ctx, struct stream *s, const struct request_head *head)
{
	(void)ctx;
	text_add(&events, head->https ? "secure request " : "request ");
	text_add_bytes(&events, head->path.at, head->path.len);
	text_add(&events, "\n");
	newest = s;
	if (head->body == BODY_NONE && answer)
		respond(s, answer);
}

/* Read credit of the newest stream, and the room that was reported to it. */
static uint64_t chunks, room_total;

static void grant(struct stream *s, uint64_t count, uint64_t max)
{
	chunks = count;
	s->wanted = count ? max : 0;
}

static void on_body(void *ctx, struct stream *s, struct slice data)
{
	(void)ctx;
	grant(s, chunks - 1, s->wanted);
	text_add(&events, "body ");
	text_add_quoted(&events, data);
	text_add(&events, "\n");
}

static void on_end(void *ctx, struct stream *s, const struct field *trailers, unsigned count)
{
	(void)ctx;
	(void)trailers;
	assert_int_equal(count, 0);
	text_add(&events, "end\n");
	if (answer)
		respond(s, answer);
}

static void on_room(void *ctx, struct stream *s, uint64_t bytes)
{
	(void)ctx;
	(void)s;
	room_total += bytes;
}

static void on_hangup(void *ctx, struct stream *s)
{
	(void)ctx;
	(void)s;
	text_add(&events, "hangup\n");
}

static void on_done(void *ctx, struct stream *s)
{
	(void)ctx;
	(void)s;
	text_add(&events, "done\n");
}

static void on_reset(void *ctx, struct stream *s, enum stream_end why)
{
	(void)ctx;
	(void)s;
	text_add(&events, "reset %s\n", stream_end_name(why));
}

static const struct stream_sink sink = {.on_request = on_request,
					.on_body = on_body,
					.on_end = on_end,
					.on_room = on_room,
					.on_hangup = on_hangup,
					.on_done = on_done,
					.on_reset = on_reset};

/* ---- the loop, by hand ---- */

static bool no_turn(void *ctx)
{
	(void)ctx;
	return false;
}

/* What epoll would report for the connection. */
static bool tell_ready(void)
{
	int events_wanted = loop_io_events(&c->io), ready = 0;

	if (buf_len(&peer.inbox.buf) > peer.taken || peer.then != IO_AGAIN)
		ready |= events_wanted & LOOP_READ;
	if (peer.room > 0)
		ready |= events_wanted & LOOP_WRITE;
	ready &= ~peer.stalls;
	if (ready)
		ev_cb (&c->io.io)(loop.ev, &c->io.io, ready);
	return ready != 0;
}

/* Turns, until nothing changes. */
static void run(void)
{
	bool more = true;

	for (unsigned i = 0; more; i++) {
		assert_true(i < 20000);
		more = conn_pool_run(&pool);
		if (peer.closed)
			c = NULL;
		conn_pool_reap(&pool);
		if (c)
			more |= tell_ready();
	}
}

static const struct peer address = {.address_len = 4};

static int setup_with(const struct transport_ops *ops)
{
	memset(&peer, 0, sizeof peer);
	peer.reads_on = peer.shakes_on = IO_READ;
	peer.writes_on = IO_WRITE;
	peer.read_most = peer.write_most = peer.room = SIZE_MAX;
	peer.then = IO_AGAIN;
	answer = "ok";
	newest = NULL;
	config_defaults(&config);
	config.server[0] = 0;
	assert_true(loop_init(&loop, no_turn, NULL));
	loop.now = 1000;
	loop.now_us = 1000000;
	wheel_init(&loop.wheel, loop.now);
	assert_true(conn_pool_init(&pool, &loop, &config, &sink));
	c = conn_open(&pool, eventfd(0, EFD_CLOEXEC), ops, NULL, &address);
	assert_non_null(c);
	return 0;
}

static int setup(void **state)
{
	(void)state;
	return setup_with(&transport);
}

static int setup_secure(void **state)
{
	(void)state;
	return setup_with(&secure_transport);
}

static int teardown(void **state)
{
	(void)state;
	if (c)
		conn_close(c, true, END_CLOSED);
	conn_pool_free(&pool);
	loop_free(&loop);
	text_free(&peer.inbox);
	text_free(&peer.outbox);
	text_free(&events);
	assert_int_equal(pool.open, 0);
	assert_int_equal(pool.waiting[CONN_IDLE].count, 0);
	assert_int_equal(pool.waiting[CONN_LINGERS].count, 0);
	return 0;
}

static void peer_sends(const char *text)
{
	text_add_bytes(&peer.inbox, text, strlen(text));
	run();
}

static void pass_time(uint64_t ms)
{
	loop.now += ms;
	loop.now_us = loop.now * 1000;
	wheel_fire(&loop.wheel, loop.now);
	run();
}

#define GET "GET / HTTP/1.1\r\nHost: h\r\n\r\n"
#define OK "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
#define POST_OF(length) "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: " length "\r\n\r\n"

/* ---- tests ---- */

static void test_a_request_is_answered_and_the_connection_idle_without_memory(void **state)
{
	(void)state;
	peer_sends(GET);
	EXPECT_TEXT(&peer.outbox, OK);
	EXPECT_TEXT(&events, "request /\ndone\n");
	assert_int_equal(pool.waiting[CONN_IDLE].count, 1);
	assert_null(c->tail.data);
	assert_int_equal(loop_io_events(&c->io), LOOP_READ);
	assert_true(wheel_pending(&c->timer));
	assert_true(c->timer.deadline == loop.now + config.idle_timeout);
}

static void test_bytes_one_at_a_time_are_as_good_as_all(void **state)
{
	(void)state;
	peer.read_most = peer.write_most = 1;
	peer_sends(GET GET);
	EXPECT_TEXT(&peer.outbox, OK OK);
	EXPECT_TEXT(&events, "request /\nrequest /\ndone\ndone\n");
	assert_null(c->tail.data);
	assert_true(pool.bytes_in == 2 * strlen(GET) && pool.bytes_out == 2 * strlen(OK));
}

static void test_a_socket_that_takes_little_is_waited_for(void **state)
{
	(void)state;
	peer.room = 10;
	peer_sends(GET);
	assert_int_equal(buf_len(&peer.outbox.buf), 10);
	assert_int_equal(loop_io_events(&c->io) & LOOP_WRITE, LOOP_WRITE);
	EXPECT_TEXT(&events, "request /\n");
	peer.room = SIZE_MAX;
	tell_ready();
	run();
	EXPECT_TEXT(&peer.outbox, OK);
	EXPECT_TEXT(&events, "done\n");
	assert_int_equal(loop_io_events(&c->io), LOOP_READ);
}

static void test_a_socket_that_takes_nothing_is_cut_at_its_time(void **state)
{
	(void)state;
	peer.room = 0;
	peer_sends(GET);
	pass_time(config.write_timeout - 1);
	assert_null(peer.closed);
	pass_time(1 + WHEEL_SLOT);
	assert_string_equal(peer.closed, "abort");
	EXPECT_TEXT(&events, "request /\nreset timeout\n");
}

static void test_a_body_without_credit_is_not_read(void **state)
{
	(void)state;
	peer_sends(POST_OF("500000"));
	assert_int_equal(loop_io_events(&c->io), 0);
	for (unsigned i = 0; i < 5000; i++)
		text_add(&peer.inbox, "%099d\n", i);
	run();
	assert_true(peer.taken < 500000 / 2);
	grant(newest, 2, 100);
	newest->ops->consume(newest);
	run();
	assert_true(peer.taken < 500000 / 2);
	assert_int_equal(chunks, 0);
	grant(newest, 100000, 65000);
	newest->ops->consume(newest);
	run();
	assert_int_equal(peer.taken, buf_len(&peer.inbox.buf));
	EXPECT_TEXT(&peer.outbox, OK);
	text_clear(&events);
}

static void test_one_connection_does_not_hold_up_a_turn(void **state)
{
	unsigned turns = 0;

	(void)state;
	peer_sends(POST_OF("2000000"));
	grant(newest, 100000, 65000);
	newest->ops->consume(newest);
	for (unsigned i = 0; i < 20000; i++)
		text_add(&peer.inbox, "%099d\n", i);
	tell_ready();
	for (; peer.taken < buf_len(&peer.inbox.buf); turns++) {
		size_t before = peer.taken;
		assert_true(turns < 100);
		conn_pool_run(&pool);
		assert_true(peer.taken - before <= CONN_TURN_BUDGET + CONN_READ_SIZE);
		tell_ready();
	}
	assert_true(turns >= 5);
	run();
	EXPECT_TEXT(&peer.outbox, OK);
	text_clear(&events);
}

static void test_nor_does_one_whose_reads_bring_little(void **state)
{
	(void)state;
	peer_sends(POST_OF("1000"));
	grant(newest, 100000, 65000);
	newest->ops->consume(newest);
	run();
	text_add(&peer.inbox, "%01000d", 7);
	peer.brings_little = true;
	peer.read_most = 1;
	peer.reads = 0;
	tell_ready();
	assert_true(conn_pool_run(&pool));
	assert_in_range(peer.reads, 1, 20);
	run();
	assert_int_equal(peer.taken, buf_len(&peer.inbox.buf));
	EXPECT_TEXT(&peer.outbox, OK);
	text_clear(&events);
}

static void test_while_reading_is_paused_nothing_is_read_and_all_is_read_afterwards(void **state)
{
	(void)state;
	run();
	conn_pool_pause(&pool, true);
	peer_sends(GET);
	assert_int_equal(peer.taken, 0);
	assert_int_equal(loop_io_events(&c->io), 0);
	conn_pool_pause(&pool, false);
	run();
	EXPECT_TEXT(&peer.outbox, OK);
	text_clear(&events);
}

/* Bytes that the peer sent while this process did not run: the loop has not reported them. */
static void peer_has_sent(const char *text)
{
	text_add_bytes(&peer.inbox, text, strlen(text));
}

static void test_what_came_in_time_is_read_before_the_time_is_up(void **state)
{
	(void)state;
	run();
	peer_has_sent(GET "GET /head HT");
	pass_time(config.first_byte_timeout + WHEEL_SLOT);
	peer_has_sent("TP/1.1\r\nHost: h\r\n\r\n");
	pass_time(config.header_timeout + WHEEL_SLOT);
	peer_has_sent(GET);
	pass_time(config.idle_timeout + WHEEL_SLOT);
	EXPECT_TEXT(&peer.outbox, OK OK OK);
	EXPECT_TEXT(&events, "request /\ndone\nrequest /head\ndone\nrequest /\ndone\n");
	peer_sends(POST_OF("4"));
	grant(newest, 100, 100);
	newest->ops->consume(newest);
	run();
	peer_has_sent("body");
	pass_time(config.body_grace + WHEEL_SLOT);
	EXPECT_TEXT(&peer.outbox, OK);
	text_clear(&events);
}

static void test_while_reading_is_paused_nobody_is_late(void **state)
{
	(void)state;
	run();
	conn_pool_pause(&pool, true);
	pass_time(config.idle_timeout + WHEEL_SLOT);
	conn_pool_pause(&pool, false);
	peer_sends("GET / HT");
	conn_pool_pause(&pool, true);
	pass_time(config.header_timeout + WHEEL_SLOT);
	peer_has_sent("TP/1.1\r\nHost: h\r\n\r\n" POST_OF("4"));
	conn_pool_pause(&pool, false);
	run();
	EXPECT_TEXT(&peer.outbox, OK);
	EXPECT_TEXT(&events, "request /\ndone\nrequest /\n");
	grant(newest, 100, 100);
	newest->ops->consume(newest);
	conn_pool_pause(&pool, true);
	run();
	pass_time(config.body_grace + WHEEL_SLOT);
	peer_has_sent("body");
	conn_pool_pause(&pool, false);
	run();
	EXPECT_TEXT(&peer.outbox, OK);
	pass_time(config.idle_timeout + WHEEL_SLOT);
	assert_string_equal(peer.closed, "close");
	text_clear(&events);
}

static void test_while_reading_is_paused_nobody_is_stalled(void **state)
{
	(void)state;
	pool.env.crowded = true;
	peer_sends(POST_OF("4"));
	grant(newest, 100, 100);
	newest->ops->consume(newest);
	run();
	assert_int_equal(pool.waiting[CONN_STALLED].count, 1);
	conn_pool_pause(&pool, true);
	peer_sends("body");
	assert_int_equal(peer.taken, strlen(POST_OF("4")));
	assert_int_equal(pool.waiting[CONN_STALLED].count, 0);
	conn_pool_pause(&pool, false);
	run();
	EXPECT_TEXT(&peer.outbox, OK);
	text_clear(&events);
}

static void test_while_requests_are_held_none_is_begun_and_all_are_afterwards(void **state)
{
	(void)state;
	answer = NULL;
	peer_sends(GET "GET /2 HTTP/1.1\r\n");
	conn_pool_hold(&pool, true);
	respond(newest, "ok");
	peer_sends("Host: h\r\n\r\n" GET GET); /* the second one has begun */
	EXPECT_TEXT(&events, "request /\ndone\nrequest /2\n");
	answer = "ok";
	respond(newest, "ok");
	run();
	EXPECT_TEXT(&events, "done\n");
	conn_pool_hold(&pool, false);
	run();
	EXPECT_TEXT(&events, "request /\nrequest /\ndone\ndone\n");
	EXPECT_TEXT(&peer.outbox, OK OK OK OK);
}

static void test_the_end_of_an_idle_client_closes(void **state)
{
	(void)state;
	peer_sends(GET);
	peer.then = IO_EOF;
	run();
	assert_string_equal(peer.closed, "close");
}

static void test_a_half_closed_client_gets_its_answers(void **state)
{
	(void)state;
	answer = NULL;
	peer.then = IO_EOF;
	peer_sends(GET);
	EXPECT_TEXT(&events, "request /\nhangup\n");
	assert_null(peer.closed);
	respond(newest, "ok");
	run();
	EXPECT_TEXT(&peer.outbox, OK);
	EXPECT_TEXT(&events, "done\n");
	assert_string_equal(peer.closed, "close");
}

static void test_requests_kept_beyond_the_end_are_served(void **state)
{
	(void)state;
	config.max_pipeline = 1;
	peer.then = IO_EOF;
	peer_sends(GET GET GET);
	EXPECT_TEXT(&peer.outbox, OK OK OK);
	assert_string_equal(peer.closed, "close");
	text_clear(&events);
}

static void test_a_reset_ends_streams_as_reset(void **state)
{
	(void)state;
	answer = NULL;
	peer.then = IO_ERROR;
	peer_sends(GET);
	EXPECT_TEXT(&events, "request /\nreset reset\n");
	assert_string_equal(peer.closed, "abort");
}

static void test_a_write_that_fails_ends_streams_as_reset(void **state)
{
	(void)state;
	peer.write_fails = true;
	peer_sends(GET);
	EXPECT_TEXT(&events, "request /\nreset reset\n");
	assert_string_equal(peer.closed, "abort");
}

static void test_an_error_answer_lingers_until_the_peer_closes(void **state)
{
	(void)state;
	peer_sends("BAD\r\n\r\n and more of it");
	assert_non_null(strstr(text_str(&peer.outbox), "HTTP/1.1 400 "));
	assert_true(peer.shut);
	assert_null(peer.closed);
	assert_int_equal(pool.waiting[CONN_LINGERS].count, 1);
	peer_sends("what is sent now is read and dropped");
	assert_int_equal(peer.taken, buf_len(&peer.inbox.buf));
	peer.then = IO_EOF;
	tell_ready();
	run();
	assert_string_equal(peer.closed, "close");
	text_clear(&peer.outbox);
}

static void test_lingering_ends_at_its_time(void **state)
{
	(void)state;
	peer_sends("BAD\r\n\r\n");
	assert_true(peer.shut);
	pass_time(config.linger_timeout - 1);
	assert_null(peer.closed);
	pass_time(1 + WHEEL_SLOT);
	assert_string_equal(peer.closed, "close");
	text_clear(&peer.outbox);
}

static void test_a_cut_response_is_seen_as_cut(void **state)
{
	struct response_head head = {.status = 200, .length = LENGTH_UNKNOWN, .has_date = true};

	(void)state;
	answer = NULL;
	peer_sends(GET);
	stream_response_moves(newest, RESPONSE_STREAMING);
	newest->ops->send_head(newest, &head);
	run();
	stream_detach(newest);
	newest->ops->reset(newest, 500, 0);
	run();
	assert_string_equal(peer.closed, "abort");
	EXPECT_TEXT(&peer.outbox, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
	EXPECT_TEXT(&events, "request /\n");
}

static void test_idle_connections_end_at_their_time(void **state)
{
	(void)state;
	run();
	pass_time(config.first_byte_timeout - 1);
	assert_null(peer.closed);
	pass_time(1 + WHEEL_SLOT);
	assert_string_equal(peer.closed, "close");
}

static void test_a_drain_closes_idle_connections_and_lets_others_finish(void **state)
{
	(void)state;
	answer = NULL;
	peer_sends(GET);
	pool.env.draining = true;
	c->member.ops->drain(&c->member);
	run();
	assert_null(peer.closed);
	respond(newest, "ok");
	run();
	EXPECT_TEXT(&peer.outbox, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
	assert_true(peer.shut);
	text_clear(&events);
}

static void test_a_request_that_is_in_the_socket_is_answered_during_a_drain(void **state)
{
	(void)state;
	peer_sends(GET);
	peer_has_sent(GET GET);
	pool.env.draining = true;
	c->member.ops->drain(&c->member);
	run();
	EXPECT_TEXT(&peer.outbox, OK "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
	EXPECT_TEXT(&events, "request /\ndone\nrequest /\ndone\n");
	assert_true(peer.shut);
}

/* ---- a transport that reads and writes when it wants ---- */

static void test_a_read_may_wait_for_a_write(void **state)
{
	(void)state;
	peer.reads_on = IO_WRITE;
	peer.stalls = LOOP_WRITE;
	run();
	assert_int_equal(loop_io_events(&c->io), LOOP_WRITE);
	text_add(&peer.inbox, GET);
	run();
	assert_int_equal(peer.taken, 0); /* a readable event means nothing */
	peer.stalls = 0;
	run();
	EXPECT_TEXT(&peer.outbox, OK);
	text_clear(&events);
}

static void test_a_write_may_wait_for_a_read(void **state)
{
	(void)state;
	peer.room = 0;
	peer.writes_on = IO_READ;
	answer = NULL;
	peer_sends(POST_OF("5"));
	respond(newest, "ok");
	run();
	assert_int_equal(loop_io_events(&c->io), LOOP_READ); /* although nobody reads the body */
	peer.room = SIZE_MAX;
	text_add(&peer.inbox, "hello");
	run();
	assert_non_null(strstr(text_str(&peer.outbox), "ok"));
	text_clear(&peer.outbox);
	text_clear(&events);
}

static void test_what_ends_a_connection_is_flushed_while_it_lingers(void **state)
{
	(void)state;
	peer.shutdowns = 2;
	peer.stalls = LOOP_WRITE;
	peer_sends("BAD\r\n\r\n");
	assert_int_equal(loop_io_events(&c->io), LOOP_READ | LOOP_WRITE);
	assert_false(peer.shut);
	peer.stalls = 0;
	run();
	assert_true(peer.shut);
	assert_int_equal(loop_io_events(&c->io), LOOP_READ);
	text_clear(&peer.outbox);
}

static void test_a_peer_that_breaks_the_transports_rules_may_read_why(void **state)
{
	(void)state;
	answer = NULL;
	peer_sends(GET);
	peer.then = IO_ERROR;
	peer.error = EPROTO;
	tell_ready();
	run();
	EXPECT_TEXT(&events, "request /\nreset error\n");
	assert_true(peer.shut);
	assert_string_equal(peer.closed, "close"); /* the script says EPROTO once more */
}

/* ---- a handshake ---- */

static void test_a_handshake_comes_before_the_first_byte(void **state)
{
	(void)state;
	peer.shakes = 2;
	peer.shakes_on = IO_WRITE;
	peer.stalls = LOOP_WRITE;
	text_add(&peer.inbox, GET);
	run();
	assert_int_equal(c->state, CONN_HANDSHAKE);
	assert_null(c->session);
	assert_int_equal(pool.waiting[CONN_SHAKES].count, 1);
	assert_int_equal(loop_io_events(&c->io), LOOP_WRITE);
	assert_int_equal(peer.taken, 0);
	peer.stalls = 0;
	run();
	EXPECT_TEXT(&peer.outbox, OK);
	EXPECT_TEXT(&events, "secure request /\ndone\n");
	assert_int_equal(pool.waiting[CONN_SHAKES].count, 0);
	assert_int_equal(pool.waiting[CONN_IDLE].count, 1);
}

static void test_a_handshake_has_its_own_time(void **state)
{
	(void)state;
	peer.shakes = UINT_MAX;
	run();
	pass_time(config.handshake_timeout - 1);
	assert_null(peer.closed);
	pass_time(1 + WHEEL_SLOT);
	assert_string_equal(peer.closed, "abort");
}

static void test_a_handshake_that_came_in_time_is_read_before_the_time_is_up(void **state)
{
	(void)state;
	peer.shakes = 1;
	peer.stalls = LOOP_READ;
	run();
	peer_has_sent(GET);
	pass_time(config.handshake_timeout + WHEEL_SLOT);
	EXPECT_TEXT(&peer.outbox, OK);
	EXPECT_TEXT(&events, "secure request /\ndone\n");
}

static void test_a_first_byte_has_its_time_from_the_end_of_the_handshake(void **state)
{
	(void)state;
	peer.shakes = 1;
	peer.stalls = LOOP_READ;
	run();
	pass_time(config.handshake_timeout - 100);
	peer.stalls = 0;
	peer.then = IO_EOF; /* so that the script reports the socket as readable */
	tell_ready();
	peer.then = IO_AGAIN;
	run();
	assert_int_equal(c->state, CONN_OPEN);
	pass_time(config.first_byte_timeout - 1);
	assert_null(peer.closed);
	pass_time(1 + WHEEL_SLOT);
	assert_string_equal(peer.closed, "close");
}

static void test_a_handshake_that_fails_is_explained(void **state)
{
	(void)state;
	peer.shaken = IO_ERROR;
	peer.error = EPROTO;
	run();
	assert_int_equal(c->state, CONN_LINGER);
	assert_true(peer.shut);
	peer.then = IO_EOF;
	tell_ready();
	run();
	assert_string_equal(peer.closed, "close");
}

static void test_a_peer_that_is_gone_gets_nothing(void **state)
{
	(void)state;
	peer.shaken = IO_ERROR;
	peer.error = ECONNRESET;
	run();
	assert_string_equal(peer.closed, "abort");
	assert_false(peer.shut);
}

static void test_http_2_that_was_agreed_on_must_come(void **state)
{
	(void)state;
	peer.secure.alpn = SLICE_LIT("h2");
	peer_sends(GET);
	assert_string_equal(peer.closed, "close");
	assert_int_equal(buf_len(&peer.outbox.buf), 0);
}

static void test_http_2_that_was_not_agreed_on_is_refused(void **state)
{
	(void)state;
	peer_sends("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
	assert_non_null(strstr(text_str(&peer.outbox), "HTTP/1.1 505 "));
	text_clear(&peer.outbox);
}

static void test_http_2_that_was_agreed_on_is_spoken(void **state)
{
	(void)state;
	peer.secure.alpn = SLICE_LIT("h2");
	peer_sends("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
	assert_int_equal(peer.outbox.buf.data[3], 4); /* SETTINGS */
	text_clear(&peer.outbox);
}

static void test_a_drain_lets_a_handshake_and_one_request_pass(void **state)
{
	(void)state;
	peer.shakes = 1;
	conn_pool_run(&pool);
	conn_pool_drain(&pool);
	peer_sends(GET);
	EXPECT_TEXT(&peer.outbox, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
	text_clear(&events);
}

static struct conn *another(void)
{
	struct conn *one = conn_open(&pool, eventfd(0, EFD_CLOEXEC), &secure_transport, NULL, &address);

	assert_non_null(one);
	return one;
}

static void close_all(void)
{
	for (c = NULL; pool.open > 0; peer.closed = NULL)
		conn_pool_spare(&pool);
}

static void test_a_turn_goes_on_with_some_handshakes_only(void **state)
{
	enum { MANY = HANDSHAKES_A_TURN + 10 };

	(void)state;
	for (unsigned i = 1; i < MANY; i++)
		another();
	peer.stalls = LOOP_READ;
	assert_true(conn_pool_run(&pool));
	assert_int_equal(pool.waiting[CONN_SHAKES].count, MANY - HANDSHAKES_A_TURN);
	assert_false(conn_pool_run(&pool) && conn_pool_run(&pool));
	assert_int_equal(pool.waiting[CONN_SHAKES].count, 0);
	close_all();
}

static void test_half_open_connections_are_bounded(void **state)
{
	struct conn *second, *third;

	(void)state;
	peer.shakes = UINT_MAX;
	pool.max_handshakes = 2;
	second = another();
	third = another();
	assert_int_equal(c->state, CONN_CLOSED);
	assert_string_equal(peer.closed, "abort");
	assert_int_equal(second->state, CONN_HANDSHAKE);
	assert_int_equal(third->state, CONN_HANDSHAKE);
	assert_int_equal(pool.waiting[CONN_SHAKES].count, 2);
	peer.closed = NULL;
	close_all();
}

static void test_half_open_connections_go_first_unless_they_are_new(void **state)
{
	struct conn *idle = c, *half;

	(void)state;
	run();
	assert_int_equal(idle->state, CONN_OPEN);
	peer.shakes = UINT_MAX;
	loop.now += 10;
	half = another();
	conn_pool_run(&pool);
	assert_int_equal(half->member.wait, CONN_SHAKES);
	loop.now += HANDSHAKE_GRACE;
	assert_true(conn_pool_spare(&pool));
	assert_int_equal(half->state, CONN_CLOSED); /* although the other one has waited longer */
	peer.closed = NULL;
	half = another();
	assert_true(conn_pool_spare(&pool));
	assert_int_equal(idle->state, CONN_CLOSED);
	assert_int_equal(half->state, CONN_HANDSHAKE);
	peer.closed = NULL;
	close_all();
}

/* ---- members of another kind ---- */

static struct {
	struct member member;
	unsigned runs, drains, released;
} other;

static bool other_run(struct member *m)
{
	(void)m;
	return ++other.runs == 1;
}

static void other_close(struct member *m, bool abort, enum stream_end why)
{
	text_add(&events, "other %s %s\n", abort ? "abort" : "close", stream_end_name(why));
	member_leave(m);
}

static void other_drain(struct member *m)
{
	(void)m;
	other.drains++;
}

static void other_release(struct member *m)
{
	(void)m;
	other.released++;
}

static const struct member_ops other_ops = {.run = other_run, .close = other_close, .drain = other_drain, .release = other_release};

static void test_the_limits_hold_for_members_of_any_make(void **state)
{
	(void)state;
	run();
	memset(&other, 0, sizeof other);
	member_join(&other.member, &pool, &other_ops);
	assert_int_equal(pool.open, 2);
	member_is_dirty(&other.member);
	assert_true(conn_pool_run(&pool));
	assert_int_equal(other.runs, 1);
	loop.now -= 100;
	member_waits(&other.member, CONN_BEGUN); /* for longer than the other one */
	loop.now += 100;
	conn_pool_drain(&pool);
	assert_int_equal(other.drains, 1);
	assert_true(conn_pool_spare(&pool));
	EXPECT_TEXT(&events, "other close closed\n");
	member_is_dirty(&other.member); /* in vain */
	assert_int_equal(pool.open, 1);
	conn_pool_run(&pool);
	conn_pool_reap(&pool);
	assert_int_equal(other.runs, 1);
	assert_int_equal(other.released, 1);
}

static void test_newcomers_go_after_those_who_keep_us_waiting(void **state)
{
	enum { OPEN = 2 * NEW_SHARE };
	static struct member all[OPEN];
	struct member *first = &all[OPEN - 2], *second = &all[OPEN - 1];

	(void)state;
	run();
	close_all();
	text_clear(&events);
	for (unsigned i = 0; i < OPEN; i++) {
		member_join(&all[i], &pool, &other_ops);
		member_waits(&all[i], CONN_STALLED);
	}
	loop.now += STALL_GRACE;
	member_waits(first, CONN_IDLE);
	member_waits(second, CONN_BEGUN);
	assert_true(conn_pool_spare(&pool));
	EXPECT_TEXT(&events, "other abort timeout\n"); /* these two may be about to send */
	assert_true(conn_pool_spare(&pool));
	EXPECT_TEXT(&events, "other close closed\n"); /* of fewer connections, two are too many */
	assert_true(second->left);
	assert_true(conn_pool_spare(&pool));
	EXPECT_TEXT(&events, "other abort timeout\n");
	loop.now += NEW_GRACE;
	assert_true(conn_pool_spare(&pool));
	EXPECT_TEXT(&events, "other close closed\n");
	assert_true(first->left);
	while (pool.open > 0)
		assert_true(conn_pool_spare(&pool));
	text_clear(&events);
	conn_pool_reap(&pool);
}

/* ---- behind a proxy: the header comes from a socket, the rest from the script ---- */

static int proxy_end;

/* Replaces the connection that the setup opened. */
static void open_behind(enum proxy_mode mode, const struct transport_ops *ops, uint8_t from)
{
	struct peer proxy = {.address = {10, 0, 0, from}, .address_len = 4};
	int ends[2];

	if (c)
		conn_close(c, true, END_CLOSED);
	peer.closed = NULL;
	assert_null(cidr_parse(SLICE_LIT("10.0.0.9"), &config.trusted_proxies.at[0]));
	config.trusted_proxies.count = 1;
	config.listeners[0].proxy_protocol = (uint8_t)mode;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
	proxy_end = ends[1];
	c = conn_open(&pool, ends[0], ops, NULL, &proxy);
	run();
}

static void proxy_sends(const char *text)
{
	assert_int_equal(write(proxy_end, text, strlen(text)), (ssize_t)strlen(text));
	ev_cb (&c->io.io)(loop.ev, &c->io.io, LOOP_READ);
	run();
}

static void test_a_header_comes_before_the_handshake_and_names_the_peer(void **state)
{
	(void)state;
	peer.shakes = 1;
	open_behind(PROXY_REQUIRED, &secure_transport, 9);
	assert_int_equal(c->state, CONN_GREETS);
	assert_int_equal(pool.waiting[CONN_SHAKES].count, 1);
	proxy_sends("PROXY TCP4 192.0.2.7 198.51.100.1 47");
	assert_int_equal(c->state, CONN_GREETS);
	assert_int_equal(loop_io_events(&c->io), LOOP_READ);
	proxy_sends("11 443\r\n");
	assert_int_equal(c->state, CONN_HANDSHAKE);
	assert_true(c->timer.deadline == loop.now + config.handshake_timeout);
	assert_memory_equal(c->owner.peer.address, ((uint8_t[]){192, 0, 2, 7}), 4);
	assert_false(c->owner.peer.trusted);
	assert_int_equal(pool.misproxied, 0);
	close(proxy_end);
}

static void test_a_header_has_its_time(void **state)
{
	(void)state;
	open_behind(PROXY_REQUIRED, &transport, 9);
	proxy_sends("PROXY TCP4 192.0.2.7 ");
	pass_time(config.header_timeout - 1);
	assert_null(peer.closed);
	pass_time(1 + WHEEL_SLOT);
	assert_string_equal(peer.closed, "abort");
	close(proxy_end);
}

static void test_a_header_that_came_in_time_is_read_before_the_time_is_up(void **state)
{
	static const char rest[] = "198.51.100.1 4711 443\r\n";

	(void)state;
	open_behind(PROXY_REQUIRED, &transport, 9);
	proxy_sends("PROXY TCP4 192.0.2.7 ");
	assert_int_equal(write(proxy_end, rest, strlen(rest)), (ssize_t)strlen(rest));
	pass_time(config.header_timeout + WHEEL_SLOT);
	assert_null(peer.closed);
	peer_sends(GET);
	EXPECT_TEXT(&peer.outbox, OK);
	text_clear(&events);
	close(proxy_end);
}

static void test_a_header_that_is_wrong_or_missing_ends_the_connection(void **state)
{
	static const char *const wrong[] = {"PROXY TCP4 192.0.2.7 198.51.100.1 4711 99999\r\n", GET, "\x16\x03"};

	(void)state;
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		open_behind(PROXY_REQUIRED, &transport, 9);
		proxy_sends(wrong[i]);
		assert_string_equal(peer.closed, "abort");
		assert_int_equal(pool.misproxied, i + 1);
		close(proxy_end);
	}
	EXPECT_TEXT(&peer.outbox, "");
}

static void test_a_header_of_others_is_not_waited_for(void **state)
{
	(void)state;
	open_behind(PROXY_REQUIRED, &transport, 8);
	assert_string_equal(peer.closed, "abort");
	assert_int_equal(pool.misproxied, 1);
	close(proxy_end);
	open_behind(PROXY_OPTIONAL, &transport, 8);
	assert_int_equal(c->state, CONN_OPEN); /* an ordinary client */
	assert_false(c->owner.peer.trusted);
	close(proxy_end);
}

static void test_without_an_optional_header_no_byte_is_lost(void **state)
{
	(void)state;
	open_behind(PROXY_OPTIONAL, &transport, 9);
	proxy_sends("P");
	assert_int_equal(c->state, CONN_GREETS);
	proxy_sends("O");
	assert_int_equal(c->state, CONN_OPEN);
	assert_true(c->owner.peer.trusted);
	assert_null(c->owner.peer.proxied);
	peer_sends("OST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"); /* the script's; the O is still in the socket */
	EXPECT_TEXT(&peer.outbox, OK);
	EXPECT_TEXT(&events, "request /\ndone\n");
	close(proxy_end);
}

static void test_a_client_of_a_proxys_unix_socket_is_no_proxy(void **state)
{
	static const uint8_t header[16 + 216] = "\r\n\r\n\0\r\nQUIT\n\x21\x31\x00\xd8/client";
	static const uint8_t local[16] = "\r\n\r\n\0\r\nQUIT\n\x20\x00\x00";

	(void)state;
	open_behind(PROXY_REQUIRED, &transport, 9);
	assert_null(cidr_parse(SLICE_LIT("unix"), &config.trusted_proxies.at[1]));
	config.trusted_proxies.count = 2;
	assert_int_equal(write(proxy_end, header, sizeof header), sizeof header);
	proxy_sends("");
	assert_int_equal(c->state, CONN_OPEN);
	assert_int_equal(c->owner.peer.address_len, 0);
	assert_false(c->owner.peer.trusted);
	close(proxy_end);
	open_behind(PROXY_REQUIRED, &transport, 9);
	assert_int_equal(write(proxy_end, local, sizeof local), sizeof local);
	proxy_sends("");
	assert_true(c->owner.peer.trusted); /* the proxy itself */
	close(proxy_end);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define SECURE(name) cmocka_unit_test_setup_teardown(name, setup_secure, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_request_is_answered_and_the_connection_idle_without_memory),
		TEST(test_bytes_one_at_a_time_are_as_good_as_all),
		TEST(test_a_socket_that_takes_little_is_waited_for),
		TEST(test_a_socket_that_takes_nothing_is_cut_at_its_time),
		TEST(test_a_body_without_credit_is_not_read),
		TEST(test_one_connection_does_not_hold_up_a_turn),
		TEST(test_nor_does_one_whose_reads_bring_little),
		TEST(test_while_reading_is_paused_nothing_is_read_and_all_is_read_afterwards),
		TEST(test_what_came_in_time_is_read_before_the_time_is_up),
		TEST(test_while_reading_is_paused_nobody_is_late),
		TEST(test_while_reading_is_paused_nobody_is_stalled),
		TEST(test_while_requests_are_held_none_is_begun_and_all_are_afterwards),
		TEST(test_the_end_of_an_idle_client_closes),
		TEST(test_a_half_closed_client_gets_its_answers),
		TEST(test_requests_kept_beyond_the_end_are_served),
		TEST(test_a_reset_ends_streams_as_reset),
		TEST(test_a_write_that_fails_ends_streams_as_reset),
		TEST(test_an_error_answer_lingers_until_the_peer_closes),
		TEST(test_lingering_ends_at_its_time),
		TEST(test_a_cut_response_is_seen_as_cut),
		TEST(test_idle_connections_end_at_their_time),
		TEST(test_a_drain_closes_idle_connections_and_lets_others_finish),
		TEST(test_a_request_that_is_in_the_socket_is_answered_during_a_drain),
		TEST(test_a_read_may_wait_for_a_write),
		TEST(test_a_write_may_wait_for_a_read),
		TEST(test_what_ends_a_connection_is_flushed_while_it_lingers),
		TEST(test_a_peer_that_breaks_the_transports_rules_may_read_why),
		SECURE(test_a_handshake_comes_before_the_first_byte),
		SECURE(test_a_handshake_has_its_own_time),
		SECURE(test_a_handshake_that_came_in_time_is_read_before_the_time_is_up),
		SECURE(test_a_first_byte_has_its_time_from_the_end_of_the_handshake),
		SECURE(test_a_handshake_that_fails_is_explained),
		SECURE(test_a_peer_that_is_gone_gets_nothing),
		SECURE(test_http_2_that_was_agreed_on_must_come),
		SECURE(test_http_2_that_was_not_agreed_on_is_refused),
		SECURE(test_http_2_that_was_agreed_on_is_spoken),
		SECURE(test_a_drain_lets_a_handshake_and_one_request_pass),
		SECURE(test_a_turn_goes_on_with_some_handshakes_only),
		SECURE(test_half_open_connections_are_bounded),
		SECURE(test_half_open_connections_go_first_unless_they_are_new),
		TEST(test_the_limits_hold_for_members_of_any_make),
		TEST(test_newcomers_go_after_those_who_keep_us_waiting),
		TEST(test_a_header_comes_before_the_handshake_and_names_the_peer),
		TEST(test_a_header_has_its_time),
		TEST(test_a_header_that_came_in_time_is_read_before_the_time_is_up),
		TEST(test_a_header_that_is_wrong_or_missing_ends_the_connection),
		TEST(test_a_header_of_others_is_not_waited_for),
		TEST(test_without_an_optional_header_no_byte_is_lost),
		TEST(test_a_client_of_a_proxys_unix_socket_is_no_proxy),
	};

	return cmocka_run_group_tests_name("conn", tests, NULL, NULL);
}
