/* A connection over a transport that is a script. */
#include "conn/conn.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include "support.h"

static struct {
	struct text inbox;            /* what the peer has sent */
	size_t taken;                 /* of it, read */
	size_t read_most, write_most; /* bytes in one call */
	size_t room;                  /* bytes that the socket takes before it says AGAIN */
	enum io_status then;          /* what a read gives behind the inbox */
	bool write_fails, shut;
	unsigned reads;
	const char *closed; /* "close" or "abort" */
	struct text outbox;
} peer;

static struct loop loop;
static struct conn_pool pool;
static struct config config;
static struct conn *c;
static struct text events;
static struct stream *newest;
static const char *answer; /* what each request is answered with; NULL: nothing */

/* ---- the transport ---- */

static struct io_result peer_read(int fd, void *state, void *bytes, size_t n)
{
	size_t there = buf_len(&peer.inbox.buf) - peer.taken;

	(void)fd;
	(void)state;
	assert_true(n > 0);
	peer.reads++;
	if (there == 0)
		return (struct io_result){.status = peer.then};
	n = n < there ? n : there;
	n = n < peer.read_most ? n : peer.read_most;
	memcpy(bytes, buf_at(&peer.inbox.buf) + peer.taken, n);
	peer.taken += n;
	return (struct io_result){.status = IO_OK, .n = n};
}

static struct io_result peer_writev(int fd, void *state, const struct iovec *iov, int count)
{
	size_t most = peer.write_most < peer.room ? peer.write_most : peer.room, n = 0;

	(void)fd;
	(void)state;
	if (peer.write_fails)
		return (struct io_result){.status = IO_ERROR};
	if (most == 0)
		return (struct io_result){.status = IO_AGAIN};
	for (int i = 0; i < count && n < most; i++) {
		size_t part = iov[i].iov_len < most - n ? iov[i].iov_len : most - n;
		text_add_bytes(&peer.outbox, iov[i].iov_base, part);
		n += part;
	}
	peer.room -= n;
	return (struct io_result){.status = IO_OK, .n = n};
}

static void peer_shutdown(int fd, void *state)
{
	(void)fd;
	(void)state;
	peer.shut = true;
}

static void peer_close(int fd, void *state, bool abort)
{
	(void)state;
	assert_null(peer.closed);
	peer.closed = abort ? "abort" : "close";
	close(fd);
}

static int peer_wants(const void *state)
{
	(void)state;
	return 0;
}

static bool peer_pending(const void *state)
{
	(void)state;
	return false;
}

static const struct transport_ops transport = {
	.scheme = "http",
	.read = peer_read,
	.writev = peer_writev,
	.shutdown = peer_shutdown,
	.close = peer_close,
	.wants = peer_wants,
	.pending = peer_pending,
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
	text_add(&events, "request ");
	text_add_bytes(&events, head->path.at, head->path.len);
	text_add(&events, "\n");
	newest = s;
	if (head->body == BODY_NONE && answer)
		respond(s, answer);
}

static void on_body(void *ctx, struct stream *s, struct slice data)
{
	(void)ctx;
	s->chunks--;
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
	s->room_total += bytes;
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

/* What epoll would say of the connection. */
static bool tell_ready(void)
{
	int events_wanted = loop_io_events(&c->io), ready = 0;

	if (buf_len(&peer.inbox.buf) > peer.taken || peer.then != IO_AGAIN)
		ready |= events_wanted & LOOP_READ;
	if (peer.room > 0)
		ready |= events_wanted & LOOP_WRITE;
	if (ready)
		ev_cb (&c->io.io)(loop.ev, &c->io.io, ready);
	return ready != 0;
}

/* Turns, until nothing moves any more. */
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

static int setup(void **state)
{
	struct peer address = {.address_len = 4};

	(void)state;
	memset(&peer, 0, sizeof peer);
	peer.read_most = peer.write_most = peer.room = SIZE_MAX;
	peer.then = IO_AGAIN;
	answer = "ok";
	newest = NULL;
	config_defaults(&config);
	config.server[0] = 0;
	assert_true(loop_init(&loop, no_turn, NULL));
	loop.now = 1000;
	wheel_init(&loop.wheel, loop.now);
	assert_true(conn_pool_init(&pool, &loop, &config, &sink));
	c = conn_open(&pool, eventfd(0, EFD_CLOEXEC), &transport, &address);
	assert_non_null(c);
	return 0;
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
	newest->chunks = 2;
	newest->chunk = 100;
	newest->ops->consume(newest);
	run();
	assert_true(peer.taken < 500000 / 2);
	assert_int_equal(newest->chunks, 0);
	newest->chunks = 100000;
	newest->chunk = 65000;
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
	newest->chunks = 100000;
	newest->chunk = 65000;
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
	conn_drain(c);
	run();
	assert_null(peer.closed);
	respond(newest, "ok");
	run();
	EXPECT_TEXT(&peer.outbox, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
	assert_true(peer.shut);
	text_clear(&events);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_request_is_answered_and_the_connection_idle_without_memory),
		TEST(test_bytes_one_at_a_time_are_as_good_as_all),
		TEST(test_a_socket_that_takes_little_is_waited_for),
		TEST(test_a_socket_that_takes_nothing_is_cut_at_its_time),
		TEST(test_a_body_without_credit_is_not_read),
		TEST(test_one_connection_does_not_hold_up_a_turn),
		TEST(test_while_reading_is_paused_nothing_is_read_and_all_is_read_afterwards),
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
	};

	return cmocka_run_group_tests_name("conn", tests, NULL, NULL);
}
