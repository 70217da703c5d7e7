/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1 sessions: the client's bytes become events, the host's calls become bytes. */
#include "h1_fixture.h"

static struct h1_fixture fixture, *const f = &fixture;

static int setup(void **state)
{
	(void)state;
	fixture_start(f);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fixture_end(f);
	return 0;
}

#define DATE "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
#define OK_HEAD "HTTP/1.1 200 OK\r\n" DATE
#define OK(length, body) OK_HEAD "Content-Length: " length "\r\n\r\n" body
#define OK_CLOSE(length, body) OK_HEAD "Content-Length: " length "\r\nConnection: close\r\n\r\n" body
#define ERROR(status, length, more, body) \
	"HTTP/1.1 " status "\r\n" DATE "Content-Type: text/plain\r\n" more "Content-Length: " length \
	"\r\nConnection: close\r\n\r\n" body
#define BAD_REQUEST ERROR("400 Bad Request", "16", "", "400 Bad Request\n")
#define TIMED_OUT ERROR("408 Request Timeout", "20", "", "408 Request Timeout\n")
#define GO_ON "HTTP/1.1 100 Continue\r\n\r\n"

#define GET(path) "GET " path " HTTP/1.1\r\nHost: h\r\n\r\n"
#define GET_CLOSE(path) "GET " path " HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
#define POST(path, length) "POST " path " HTTP/1.1\r\nHost: h\r\nContent-Length: " length "\r\n\r\n"
#define POST_CHUNKED(path) "POST " path " HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
#define POST_EXPECTS(path, length) "POST " path " HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: " length "\r\n\r\n"

/* ---- one after the other ---- */

static void test_a_connection_is_kept_for_the_next_request(void **state)
{
	(void)state;
	assert_true(wants(f).idle && wants(f).read);
	for (unsigned i = 1; i <= 3; i++) {
		client_sends(f, GET("/a"));
		assert_false(wants(f).idle);
		host_responds(f, i, 200, "Hello");
		EXPECT_WIRE(f, OK("5", "Hello"));
		assert_true(wants(f).idle && wants(f).read);
		assert_int_equal(wants(f).close, CLOSE_NOT);
	}
	EXPECT_EVENTS(f, "request 1 GET /a\ndone 1\nrequest 2 GET /a\ndone 2\nrequest 3 GET /a\ndone 3\n");
}

static void test_an_empty_line_before_a_request_is_skipped_and_more_are_refused(void **state)
{
	(void)state;
	client_sends(f, "\r");
	client_sends(f, "\n");
	client_sends(f, GET("/"));
	host_responds(f, 1, 200, "");
	EXPECT_WIRE(f, OK("0", ""));
	client_sends(f, "\r\n\r\n" GET("/"));
	EXPECT_WIRE(f, BAD_REQUEST);
	assert_int_equal(wants(f).close, CLOSE_LINGER);
	EXPECT_EVENTS(f, "request 1 GET /\ndone 1\n");
}

static void test_connection_close_ends_it_after_the_response(void **state)
{
	(void)state;
	client_sends(f, GET_CLOSE("/") GET("/never"));
	host_responds(f, 1, 200, "Hello");
	assert_int_equal(wants(f).close, CLOSE_NOT);
	EXPECT_WIRE(f, OK_CLOSE("5", "Hello"));
	assert_int_equal(wants(f).close, CLOSE_LINGER);
	EXPECT_EVENTS(f, "request 1 GET /\ndone 1\n");
}

static void test_the_host_may_close_with_a_response(void **state)
{
	(void)state;
	client_sends(f, GET("/"));
	host_head(f, 1, 200, "Connection: close\nX-A: b", 0);
	host_end(f, 1, NULL);
	EXPECT_WIRE(f, OK_HEAD "X-A: b\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
	assert_int_equal(wants(f).close, CLOSE_LINGER);
}

static void test_max_requests_closes_after_the_last(void **state)
{
	(void)state;
	f->config.max_requests = 2;
	client_sends(f, GET("/"));
	host_responds(f, 1, 200, "");
	EXPECT_WIRE(f, OK("0", ""));
	client_sends(f, GET("/") GET("/never"));
	host_responds(f, 2, 200, "");
	EXPECT_WIRE(f, OK_CLOSE("0", ""));
	assert_int_equal(wants(f).close, CLOSE_LINGER);
	EXPECT_EVENTS(f, "request 1 GET /\ndone 1\nrequest 2 GET /\ndone 2\n");
}

/* ---- HTTP/1.0 ---- */

static void test_http_1_0_closes_unless_it_asked_to_keep(void **state)
{
	(void)state;
	client_sends(f, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
	host_responds(f, 1, 200, "Hello");
	EXPECT_WIRE(f, OK_HEAD "Content-Length: 5\r\nConnection: keep-alive\r\n\r\nHello");
	client_sends(f, "GET / HTTP/1.0\r\n\r\n");
	host_responds(f, 2, 200, "Hello");
	EXPECT_WIRE(f, OK_CLOSE("5", "Hello"));
	assert_int_equal(wants(f).close, CLOSE_LINGER);
}

static void test_http_1_0_gets_a_body_of_unknown_length_until_close_and_no_interim_response(void **state)
{
	(void)state;
	client_sends(f, "GET / HTTP/1.0\r\nConnection: keep-alive\r\nTE: trailers\r\n\r\n");
	host_informs(f, 1, 103, "Link: x");
	host_head(f, 1, 200, NULL, -1);
	host_data(f, 1, "Hel");
	host_data(f, 1, "lo");
	host_end(f, 1, "X-Sum: 1");
	EXPECT_WIRE(f, OK_HEAD "Connection: close\r\n\r\nHello");
	assert_int_equal(wants(f).close, CLOSE_LINGER);
}

/* ---- framing of responses ---- */

static void test_a_body_of_unknown_length_is_chunked(void **state)
{
	(void)state;
	client_sends(f, GET("/"));
	host_head(f, 1, 200, NULL, -1);
	EXPECT_WIRE(f, OK_HEAD "Transfer-Encoding: chunked\r\n\r\n");
	host_data(f, 1, "Hello");
	host_data(f, 1, "");
	host_data(f, 1, "0123456789abcdef!");
	EXPECT_WIRE(f, "5\r\nHello\r\n11\r\n0123456789abcdef!\r\n");
	host_end(f, 1, "X-Sum: 1");
	EXPECT_WIRE(f, "0\r\n\r\n"); /* the client did not say TE: trailers */
	EXPECT_EVENTS(f, "request 1 GET /\ndone 1\n");
}

static void test_trailers_go_to_a_client_that_takes_them(void **state)
{
	(void)state;
	client_sends(f, "GET / HTTP/1.1\r\nHost: h\r\nTE: trailers\r\n\r\n");
	host_head(f, 1, 200, NULL, -1);
	host_end(f, 1, "X-Sum: 1\nX-B: 2");
	EXPECT_WIRE(f, OK_HEAD "Transfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: 1\r\nX-B: 2\r\n\r\n");
}

static void test_a_body_of_known_length_is_sent_as_it_is(void **state)
{
	(void)state;
	client_sends(f, GET("/"));
	host_head(f, 1, 200, "Content-Length: 5", -1);
	host_data(f, 1, "Hel");
	host_data(f, 1, "lo");
	host_end(f, 1, "X-Sum: 1");
	EXPECT_WIRE(f, OK("5", "Hello"));
	assert_true(wants(f).idle);
}

static void test_responses_that_have_no_body_get_none(void **state)
{
	(void)state;
	client_sends(f, "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n");
	host_responds(f, 1, 200, "Hello");
	EXPECT_WIRE(f, OK("5", ""));
	client_sends(f, "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n");
	host_head(f, 2, 200, NULL, -1);
	host_data(f, 2, "Hello");
	EXPECT_WIRE(f, OK_HEAD "\r\n"); /* complete: nothing is waited for */
	client_sends(f, GET("/"));
	host_head(f, 3, 304, "Content-Length: 1000\nETag: x", -1);
	host_end(f, 3, NULL);
	EXPECT_WIRE(f, "HTTP/1.1 304 Not Modified\r\n" DATE "ETag: x\r\nContent-Length: 1000\r\n\r\n");
	client_sends(f, GET("/"));
	host_responds(f, 4, 204, "ignored");
	EXPECT_WIRE(f, "HTTP/1.1 204 No Content\r\n" DATE "\r\n");
	client_sends(f, GET("/"));
	host_responds(f, 5, 205, "ignored");
	EXPECT_WIRE(f, "HTTP/1.1 205 Reset Content\r\n" DATE "Content-Length: 0\r\n\r\n");
	assert_true(wants(f).idle);
}

static void test_interim_responses_precede_the_response(void **state)
{
	(void)state;
	client_sends(f, GET("/"));
	host_informs(f, 1, 103, "Link: </a>");
	EXPECT_WIRE(f, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
	host_informs(f, 1, 102, NULL);
	host_responds(f, 1, 200, "");
	EXPECT_WIRE(f, "HTTP/1.1 102 Processing\r\n\r\n" OK("0", ""));
}

static void test_room_is_told_for_what_left_and_not_before(void **state)
{
	(void)state;
	client_sends(f, GET("/"));
	host_head(f, 1, 200, NULL, 10);
	socket_takes(f, SIZE_MAX);
	host_data(f, 1, "0123456789");
	assert_int_equal(f->known[1].room, 0);
	socket_takes(f, 4);
	assert_int_equal(f->known[1].room, 4);
	socket_takes(f, 5);
	assert_int_equal(f->known[1].room, 9);
	host_end(f, 1, NULL);
	EXPECT_EVENTS(f, "request 1 GET /\n");
	socket_takes(f, 1);
	EXPECT_EVENTS(f, "done 1\n");
	text_clear(&f->wire);
}

/* ---- pipelining ---- */

static void test_pipelined_responses_leave_in_the_order_of_their_requests(void **state)
{
	(void)state;
	client_sends(f, GET("/1") GET("/2") GET("/3"));
	EXPECT_EVENTS(f, "request 1 GET /1\nrequest 2 GET /2\nrequest 3 GET /3\n");
	host_responds(f, 3, 200, "three");
	host_responds(f, 2, 200, "two");
	EXPECT_WIRE(f, "");
	host_head(f, 1, 200, NULL, -1);
	host_data(f, 1, "one");
	EXPECT_WIRE(f, OK_HEAD "Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n");
	EXPECT_EVENTS(f, "");
	host_end(f, 1, NULL);
	EXPECT_WIRE(f, "0\r\n\r\n" OK("3", "two") OK("5", "three"));
	EXPECT_EVENTS(f, "done 1\ndone 2\ndone 3\n");
}

static void test_only_safe_requests_are_looked_ahead_for(void **state)
{
	(void)state;
	client_sends(f, GET("/1") "HEAD /2 HTTP/1.1\r\nHost: h\r\n\r\n" POST("/3", "2") "hi" GET("/4"));
	f->auto_read = true;
	EXPECT_EVENTS(f, "request 1 GET /1\nrequest 2 HEAD /2\n");
	assert_false(wants(f).read);
	host_responds(f, 1, 200, "");
	EXPECT_WIRE(f, OK("0", ""));
	EXPECT_EVENTS(f, "done 1\n");
	host_responds(f, 2, 200, "");
	EXPECT_WIRE(f, OK("0", ""));
	EXPECT_EVENTS(f, "done 2\nrequest 3 POST /3 body=2\nbody 3 hi\nend 3\n");
	host_responds(f, 3, 200, "");
	EXPECT_WIRE(f, OK("0", ""));
	EXPECT_EVENTS(f, "done 3\nrequest 4 GET /4\n");
	host_responds(f, 4, 200, "");
	EXPECT_WIRE(f, OK("0", ""));
}

static void test_nothing_overtakes_an_unsafe_request_without_a_body(void **state)
{
	(void)state;
	client_sends(f, "DELETE /1 HTTP/1.1\r\nHost: h\r\n\r\n" GET("/2"));
	EXPECT_EVENTS(f, "request 1 DELETE /1\n");
	host_responds(f, 1, 204, "");
	EXPECT_WIRE(f, "HTTP/1.1 204 No Content\r\n" DATE "\r\n");
	EXPECT_EVENTS(f, "done 1\nrequest 2 GET /2\n");
	host_responds(f, 2, 200, "");
	EXPECT_WIRE(f, OK("0", ""));
}

static void test_a_get_with_a_body_counts_as_unsafe(void **state)
{
	(void)state;
	f->auto_read = true;
	client_sends(f, GET("/1") "GET /2 HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx");
	EXPECT_EVENTS(f, "request 1 GET /1\n");
	host_responds(f, 1, 200, "");
	EXPECT_WIRE(f, OK("0", ""));
	EXPECT_EVENTS(f, "done 1\nrequest 2 GET /2 body=1\nbody 2 x\nend 2\n");
	host_responds(f, 2, 200, "");
	EXPECT_WIRE(f, OK("0", ""));
}

static void test_max_pipeline_bounds_what_is_in_work(void **state)
{
	(void)state;
	f->config.max_pipeline = 2;
	client_sends(f, GET("/1") GET("/2") GET("/3") GET("/4"));
	EXPECT_EVENTS(f, "request 1 GET /1\nrequest 2 GET /2\n");
	assert_false(wants(f).read);
	assert_true(wants(f).peek);
	host_responds(f, 2, 200, "");
	EXPECT_WIRE(f, "");
	host_responds(f, 1, 200, "");
	EXPECT_WIRE(f, OK("0", "") OK("0", ""));
	EXPECT_EVENTS(f, "done 1\ndone 2\nrequest 3 GET /3\nrequest 4 GET /4\n");
}

static void test_a_bad_request_behind_good_ones_is_answered_in_its_turn(void **state)
{
	(void)state;
	client_sends(f, GET("/1") "BAD\r\n\r\n" GET("/3"));
	EXPECT_EVENTS(f, "request 1 GET /1\n");
	EXPECT_WIRE(f, "");
	assert_int_equal(wants(f).close, CLOSE_NOT);
	host_responds(f, 1, 200, "one");
	EXPECT_WIRE(f, OK("3", "one") BAD_REQUEST);
	EXPECT_EVENTS(f, "done 1\n");
	assert_int_equal(wants(f).close, CLOSE_LINGER);
	assert_int_equal(f->env.rejected, 1);
}

static void test_a_response_that_closes_ends_those_behind_it(void **state)
{
	(void)state;
	client_sends(f, GET("/1") GET("/2"));
	host_responds(f, 2, 200, "never seen");
	host_head(f, 1, 200, "Connection: close", 0);
	host_end(f, 1, NULL);
	EXPECT_WIRE(f, OK_CLOSE("0", ""));
	EXPECT_EVENTS(f, "request 1 GET /1\nrequest 2 GET /2\ndone 1\nreset 2 closed\n");
	assert_int_equal(wants(f).close, CLOSE_LINGER);
}

static void test_no_request_is_begun_while_paused(void **state)
{
	(void)state;
	f->env.paused = true;
	client_sends(f, GET("/1"));
	assert_false(wants(f).read);
	EXPECT_EVENTS(f, "");
	f->env.paused = false;
	assert_true(wants(f).read);
	offer_again(f);
	EXPECT_EVENTS(f, "request 1 GET /1\n");
}

/* ---- bodies of requests ---- */

static void test_a_body_is_given_as_it_is_asked_for(void **state)
{
	(void)state;
	client_sends(f, POST("/", "10") "0123456789");
	EXPECT_EVENTS(f, "request 1 POST / body=10\n");
	assert_false(wants(f).read);
	assert_int_equal(buf_len(&f->tail), 10);
	host_reads(f, 1, 2, 3);
	assert_true(wants(f).read);
	offer_again(f);
	EXPECT_EVENTS(f, "body 1 012345\n");
	assert_int_equal(buf_len(&f->tail), 4);
	assert_false(wants(f).read);
	host_reads(f, 1, 1, 100);
	offer_again(f);
	EXPECT_EVENTS(f, "body 1 6789\nend 1\n");
	host_responds(f, 1, 200, "");
	EXPECT_WIRE(f, OK("0", ""));
	assert_true(wants(f).idle);
}

static void test_a_chunked_body_ends_with_its_trailers(void **state)
{
	(void)state;
	f->auto_read = true;
	client_sends(f, POST_CHUNKED("/") "5\r\nHello\r\n0\r\nX-Sum: 1\r\n\r\n");
	EXPECT_EVENTS(f, "request 1 POST / body=-1\nbody 1 Hello\nend 1 x-sum=1\n");
	host_responds(f, 1, 200, "");
	EXPECT_WIRE(f, OK("0", ""));
}

static void test_framing_costs_no_read_credit(void **state)
{
	(void)state;
	client_sends(f, POST_CHUNKED("/") "000005\r\nHello\r\n0\r\n\r\n");
	host_reads(f, 1, 6, 1);
	offer_again(f);
	EXPECT_EVENTS(f, "request 1 POST / body=-1\nbody 1 Hello\nend 1\n");
}

static void test_a_malformed_body_gets_400_and_ends_the_stream(void **state)
{
	(void)state;
	f->auto_read = true;
	client_sends(f, POST_CHUNKED("/") "5\r\nHello\r\n");
	client_sends(f, "x\r\n");
	EXPECT_EVENTS(f, "request 1 POST / body=-1\nbody 1 Hello\nreset 1 error\n");
	EXPECT_WIRE(f, BAD_REQUEST);
	assert_int_equal(wants(f).close, CLOSE_LINGER);
}

static void test_a_malformed_body_behind_a_response_head_cuts_the_connection(void **state)
{
	(void)state;
	f->auto_read = true;
	client_sends(f, POST_CHUNKED("/"));
	host_head(f, 1, 200, NULL, -1);
	client_sends(f, "x\r\n");
	EXPECT_EVENTS(f, "request 1 POST / body=-1\nreset 1 error\n");
	socket_takes(f, SIZE_MAX);
	assert_int_equal(wants(f).close, CLOSE_CUT);
}

static void test_refused_trailers_end_the_stream(void **state)
{
	(void)state;
	f->auto_read = true;
	client_sends(f, POST_CHUNKED("/") "0\r\nContent-Length: 5\r\n\r\n");
	EXPECT_EVENTS(f, "request 1 POST / body=-1\nreset 1 error\n");
	EXPECT_WIRE(f, BAD_REQUEST);
}

static void test_max_body_is_413(void **state)
{
	(void)state;
	f->config.max_body = 4;
	f->auto_read = true;
	client_sends(f, POST_CHUNKED("/") "5\r\nHello\r\n");
	EXPECT_EVENTS(f, "request 1 POST / body=-1\nreset 1 error\n");
	EXPECT_WIRE(f, ERROR("413 Content Too Large", "22", "", "413 Content Too Large\n"));
}

static void test_the_first_read_sends_100_continue(void **state)
{
	(void)state;
	client_sends(f, POST_EXPECTS("/", "5"));
	EXPECT_WIRE(f, "");
	host_reads(f, 1, 1, 100);
	EXPECT_WIRE(f, GO_ON);
	host_reads(f, 1, 1, 100);
	EXPECT_WIRE(f, "");
	client_sends(f, "Hello");
	EXPECT_EVENTS(f, "request 1 POST / body=5\nbody 1 Hello\nend 1\n");
	host_responds(f, 1, 200, "");
	EXPECT_WIRE(f, OK("0", ""));
}

static void test_a_body_that_has_begun_to_come_needs_no_100(void **state)
{
	(void)state;
	client_sends(f, POST_EXPECTS("/", "5") "H");
	host_reads(f, 1, 2, 100);
	EXPECT_WIRE(f, "");
	client_sends(f, "ello");
	host_responds(f, 1, 200, "");
	EXPECT_WIRE(f, OK("0", ""));
	EXPECT_EVENTS(f, "request 1 POST / body=5\nbody 1 Hello\nend 1\ndone 1\n");
}

static void test_an_answer_without_a_read_closes_where_100_was_expected(void **state)
{
	(void)state;
	client_sends(f, POST_EXPECTS("/", "5"));
	host_responds(f, 1, 403, "");
	EXPECT_WIRE(f, "HTTP/1.1 403 Forbidden\r\n" DATE "Content-Length: 0\r\nConnection: close\r\n\r\n");
	assert_int_equal(wants(f).close, CLOSE_LINGER);
	EXPECT_EVENTS(f, "request 1 POST / body=5\ndone 1\n");
}

static void test_a_100_of_the_host_is_not_sent_twice(void **state)
{
	(void)state;
	client_sends(f, POST_EXPECTS("/", "5"));
	host_informs(f, 1, 100, NULL);
	host_reads(f, 1, 1, 100);
	EXPECT_WIRE(f, GO_ON);
}

static void test_a_read_behind_a_response_head_sends_no_100(void **state)
{
	(void)state;
	client_sends(f, POST_EXPECTS("/", "5"));
	host_head(f, 1, 200, NULL, 0);
	host_reads(f, 1, 1, 100);
	EXPECT_WIRE(f, OK_CLOSE("0", ""));
}

/* A coding keeps the head until the end of the turn. */
static void test_a_head_that_was_kept_while_the_host_read_closes_where_100_was_expected(void **state)
{
	struct response_head head = {.status = 200};
	struct stream *s;

	(void)state;
	client_sends(f, POST_EXPECTS("/", "5"));
	s = stream_at(f, 1);
	stream_response_moves(s, RESPONSE_STREAMING);
	host_reads(f, 1, 1, 100);
	EXPECT_WIRE(f, "");
	assert_true(s->ops->send_head(s, &head));
	host_end(f, 1, NULL);
	EXPECT_WIRE(f, OK_CLOSE("0", ""));
}

/* ---- bodies that nobody reads ---- */

static void test_a_discarded_body_is_dropped_and_the_connection_kept(void **state)
{
	(void)state;
	client_sends(f, POST("/", "10") "01234");
	host_discards(f, 1);
	offer_again(f);
	client_sends(f, "56789" GET("/2"));
	EXPECT_EVENTS(f, "request 1 POST / body=10\n");
	host_responds(f, 1, 200, "");
	EXPECT_WIRE(f, OK("0", ""));
	EXPECT_EVENTS(f, "done 1\nrequest 2 GET /2\n");
	host_responds(f, 2, 200, "");
	EXPECT_WIRE(f, OK("0", ""));
}

static void test_a_discard_is_not_bounded_while_the_response_goes_on(void **state)
{
	(void)state;
	f->config.skip_body = 3;
	client_sends(f, POST_CHUNKED("/"));
	host_discards(f, 1);
	client_sends(f, "a\r\n0123456789\r\n0\r\n\r\n");
	host_responds(f, 1, 200, "");
	EXPECT_WIRE(f, OK("0", ""));
	assert_true(wants(f).idle);
}

static void test_an_unread_rest_is_skipped_after_the_response(void **state)
{
	(void)state;
	client_sends(f, POST_CHUNKED("/") "5\r\nHello\r\n");
	host_responds(f, 1, 200, "");
	EXPECT_WIRE(f, OK("0", ""));
	EXPECT_EVENTS(f, "request 1 POST / body=-1\ndone 1\n");
	assert_true(wants(f).read);
	assert_false(wants(f).idle);
	client_sends(f, "0\r\n\r\n" GET("/2"));
	EXPECT_EVENTS(f, "request 2 GET /2\n");
}

static void test_more_than_skip_body_closes(void **state)
{
	(void)state;
	f->config.skip_body = 4;
	client_sends(f, POST_CHUNKED("/"));
	host_responds(f, 1, 200, "");
	EXPECT_WIRE(f, OK("0", ""));
	client_sends(f, "4\r\n0123\r\n");
	assert_int_equal(wants(f).close, CLOSE_NOT);
	client_sends(f, "1\r\n4\r\n");
	assert_int_equal(wants(f).close, CLOSE_LINGER);
}

static void test_a_rest_that_is_known_to_be_too_long_is_said_to_close(void **state)
{
	(void)state;
	f->config.skip_body = 4;
	client_sends(f, POST("/", "5"));
	host_responds(f, 1, 200, "");
	EXPECT_WIRE(f, OK_CLOSE("0", ""));
	assert_int_equal(wants(f).close, CLOSE_LINGER);
	EXPECT_EVENTS(f, "request 1 POST / body=5\ndone 1\n");
}

static void test_a_rest_of_exactly_skip_body_is_skipped(void **state)
{
	(void)state;
	f->config.skip_body = 5;
	client_sends(f, POST("/", "5"));
	host_responds(f, 1, 200, "");
	EXPECT_WIRE(f, OK("0", ""));
	client_sends(f, "01234");
	assert_true(wants(f).idle);
}

static void test_skipping_ends_at_skip_timeout(void **state)
{
	(void)state;
	client_sends(f, POST_CHUNKED("/"));
	pass_time(f, 100);
	host_responds(f, 1, 200, "");
	EXPECT_WIRE(f, OK("0", ""));
	EXPECT_DEADLINE(f, f->config.skip_timeout);
	assert_int_equal(wants(f).close, CLOSE_LINGER);
}

static void test_a_malformed_skipped_body_closes_without_an_answer(void **state)
{
	(void)state;
	client_sends(f, POST_CHUNKED("/"));
	host_responds(f, 1, 200, "");
	EXPECT_WIRE(f, OK("0", ""));
	client_sends(f, "x\r\n");
	EXPECT_WIRE(f, "");
	assert_int_equal(wants(f).close, CLOSE_LINGER);
}

/* ---- the client closes its side ---- */

static void test_an_idle_client_that_closes_is_closed(void **state)
{
	(void)state;
	client_sends(f, NULL);
	assert_int_equal(wants(f).close, CLOSE_NOW);
	EXPECT_EVENTS(f, "");
}

static void test_half_closed_clients_are_told_of_and_get_their_answers(void **state)
{
	(void)state;
	client_sends(f, GET("/1") GET("/2"));
	client_sends(f, NULL);
	EXPECT_EVENTS(f, "request 1 GET /1\nrequest 2 GET /2\nhangup 1\nhangup 2\n");
	assert_int_equal(wants(f).close, CLOSE_NOT);
	host_responds(f, 1, 200, "1");
	host_responds(f, 2, 200, "2");
	EXPECT_WIRE(f, OK("1", "1") OK("1", "2"));
	EXPECT_EVENTS(f, "done 1\ndone 2\n");
	assert_int_equal(wants(f).close, CLOSE_NOW);
}

static void test_requests_that_wait_are_served_though_the_client_has_closed(void **state)
{
	(void)state;
	f->config.max_pipeline = 1;
	client_sends(f, GET("/1") GET("/2"));
	client_sends(f, NULL);
	EXPECT_EVENTS(f, "request 1 GET /1\nhangup 1\n");
	host_responds(f, 1, 200, "1");
	EXPECT_WIRE(f, OK("1", "1"));
	EXPECT_EVENTS(f, "done 1\nrequest 2 GET /2\nhangup 2\n");
	host_responds(f, 2, 200, "2");
	EXPECT_WIRE(f, OK("1", "2"));
	assert_int_equal(wants(f).close, CLOSE_NOW);
}

static void test_a_body_cut_short_ends_the_stream(void **state)
{
	(void)state;
	f->auto_read = true;
	client_sends(f, POST("/", "10") "01234");
	client_sends(f, NULL);
	EXPECT_EVENTS(f, "request 1 POST / body=10\nbody 1 01234\nreset 1 closed\n");
	socket_takes(f, SIZE_MAX);
	assert_int_equal(wants(f).close, CLOSE_CUT);
}

static void test_a_body_that_waits_for_credit_is_whole_though_the_client_has_closed(void **state)
{
	(void)state;
	client_sends(f, POST("/", "5") "Hello");
	client_sends(f, NULL);
	host_reads(f, 1, 2, 3);
	offer_again(f);
	host_responds(f, 1, 200, "");
	EXPECT_WIRE(f, OK("0", ""));
	assert_non_null(strstr(text_str(&f->events), "body 1 Hello\nend 1\n"));
	assert_non_null(strstr(text_str(&f->events), "hangup 1\n"));
	assert_non_null(strstr(text_str(&f->events), "done 1\n"));
	assert_int_equal(wants(f).close, CLOSE_NOW);
}

static void test_a_head_cut_short_is_dropped(void **state)
{
	(void)state;
	client_sends(f, "GET / HTTP/1.1\r\nHost:");
	client_sends(f, NULL);
	EXPECT_WIRE(f, "");
	assert_int_equal(wants(f).close, CLOSE_NOW);
	EXPECT_EVENTS(f, "");
}

/* ---- time ---- */

static void test_the_first_byte_is_waited_for_and_then_the_head_and_then_the_next_request(void **state)
{
	(void)state;
	pass_time(f, 10);
	assert_int_equal(wants(f).deadline, f->now - 10 + f->config.first_byte_timeout);
	client_sends(f, "G");
	assert_int_equal(wants(f).deadline, f->now + f->config.header_timeout);
	pass_time(f, 10);
	client_sends(f, "ET / HTTP/1.1\r\nHost: h\r\n"); /* progress does not move it */
	assert_int_equal(wants(f).deadline, f->now - 10 + f->config.header_timeout);
	client_sends(f, "\r\n");
	assert_int_equal(wants(f).deadline, 0);
	pass_time(f, 10);
	host_responds(f, 1, 200, "");
	assert_int_equal(wants(f).deadline, f->now + f->config.write_timeout);
	EXPECT_WIRE(f, OK("0", ""));
	f->env.crowded = true;
	assert_int_equal(wants(f).deadline, f->now + f->config.busy_idle_timeout);
	f->env.crowded = false;
	EXPECT_DEADLINE(f, f->config.idle_timeout);
	assert_int_equal(wants(f).close, CLOSE_NOW);
	EXPECT_WIRE(f, "");
}

static void test_a_connection_that_sends_nothing_is_closed(void **state)
{
	(void)state;
	EXPECT_DEADLINE(f, f->config.first_byte_timeout);
	assert_int_equal(wants(f).close, CLOSE_NOW);
}

static void test_a_head_that_takes_too_long_gets_408(void **state)
{
	(void)state;
	client_sends(f, "GET / HT");
	EXPECT_DEADLINE(f, f->config.header_timeout);
	EXPECT_WIRE(f, TIMED_OUT);
	assert_int_equal(wants(f).close, CLOSE_LINGER);
}

static void test_a_head_that_waits_for_its_turn_is_not_too_slow(void **state)
{
	(void)state;
	client_sends(f, GET("/1") POST("/2", "1") "x");
	assert_int_equal(wants(f).deadline, 0);
	pass_time(f, 100000);
	host_responds(f, 1, 200, "");
	EXPECT_WIRE(f, OK("0", ""));
	EXPECT_EVENTS(f, "request 1 GET /1\ndone 1\nrequest 2 POST /2 body=1\n");
}

static void test_a_body_slower_than_its_least_rate_gets_408(void **state)
{
	(void)state;
	f->config.body_rate = 100;
	f->config.body_grace = 2000;
	f->auto_read = true;
	client_sends(f, POST("/", "1000"));
	pass_time(f, 1000);
	client_sends(f, "0123456789");
	EXPECT_DEADLINE(f, 1000 + 100);
	EXPECT_EVENTS(f, "request 1 POST / body=1000\nbody 1 0123456789\nreset 1 timeout\n");
	EXPECT_WIRE(f, TIMED_OUT);
}

static void test_much_of_a_body_at_once_does_not_pay_for_a_silence(void **state)
{
	struct text much = {0};

	(void)state;
	f->config.body_rate = 100;
	f->config.body_grace = 2000;
	f->auto_read = true;
	text_add(&much, POST("/", "1000000"));
	text_add_run(&much, 60000);
	client_sends(f, text_str(&much));
	pass_time(f, 1999);
	client_sends(f, "x");
	EXPECT_DEADLINE(f, 1 + 10);
	text_clear(&f->events);
	EXPECT_WIRE(f, TIMED_OUT);
	text_free(&much);
}

static void test_a_body_that_is_skipped_has_a_least_rate_too(void **state)
{
	(void)state;
	f->config.body_rate = 100;
	f->config.body_grace = 2000;
	client_sends(f, POST("/", "1000"));
	pass_time(f, 60000);
	host_discards(f, 1);
	assert_int_equal(wants(f).deadline, f->now + 2000);
	pass_time(f, 1000);
	client_sends(f, "0123456789");
	EXPECT_DEADLINE(f, 1000 + 100);
	EXPECT_EVENTS(f, "request 1 POST / body=1000\nreset 1 timeout\n");
	EXPECT_WIRE(f, TIMED_OUT);
}

static void test_time_without_credit_does_not_count_against_a_body(void **state)
{
	(void)state;
	f->config.body_rate = 100;
	f->config.body_grace = 2000;
	client_sends(f, POST("/", "1000"));
	assert_int_equal(wants(f).deadline, 0);
	pass_time(f, 60000);
	host_reads(f, 1, 1, 100);
	assert_int_equal(wants(f).deadline, f->now + 2000);
	pass_time(f, 1000);
	client_sends(f, "0123456789");
	assert_int_equal(wants(f).deadline, 0);
	pass_time(f, 60000);
	host_reads(f, 1, 1, 100);
	assert_int_equal(wants(f).deadline, f->now + 1000 + 100);
}

static void test_any_rate_is_well_when_the_option_is_0(void **state)
{
	(void)state;
	f->config.body_rate = 0;
	f->auto_read = true;
	client_sends(f, POST("/", "1000"));
	assert_int_equal(wants(f).deadline, 0);
}

static void test_a_discarded_body_that_is_never_sent_does_not_fail_the_response(void **state)
{
	(void)state;
	client_sends(f, POST_EXPECTS("/", "1000"));
	host_discards(f, 1);
	pass_time(f, 59000); /* the client waits for 100 Continue, and the handler is slow */
	host_responds(f, 1, 200, "Hello");
	EXPECT_WIRE(f, OK_CLOSE("5", "Hello"));
	EXPECT_EVENTS(f, "request 1 POST / body=1000\ndone 1\n");
}

static void test_a_client_that_takes_nothing_is_cut(void **state)
{
	(void)state;
	client_sends(f, GET("/"));
	host_head(f, 1, 200, NULL, -1);
	pass_time(f, 10000);
	socket_takes(f, 5);
	assert_int_equal(wants(f).deadline, f->now + f->config.write_timeout - 10000 + 21); /* the time that 5 bytes earn */
	pass_time(f, 10000);
	host_data(f, 1, "more"); /* earns no more time */
	EXPECT_DEADLINE(f, f->config.write_timeout - 20000 + 21);
	assert_int_equal(wants(f).close, CLOSE_CUT);
	EXPECT_EVENTS(f, "request 1 GET /\nreset 1 timeout\n");
}

static void expect_cut_within(uint64_t ms, unsigned bytes, uint64_t each)
{
	uint64_t began = f->now;

	while (wants(f).close == CLOSE_NOT && f->now < began + 10 * ms) {
		pass_time(f, each);
		if (f->now >= wants(f).deadline)
			f->session->ops->tick(f->session);
		else
			socket_takes(f, bytes);
	}
	assert_int_equal(wants(f).close, CLOSE_CUT);
	assert_true(f->now - began <= ms);
	text_clear(&f->events);
	text_clear(&f->wire);
}

static void test_a_byte_now_and_then_is_no_progress(void **state)
{
	(void)state;
	client_sends(f, GET("/"));
	host_head(f, 1, 200, NULL, -1);
	host_data(f, 1, "much that is to be said");
	expect_cut_within(f->config.write_timeout + 3000, 1, 2000);
}

static void test_who_takes_the_least_rate_is_not_cut(void **state)
{
	struct text much = {0};

	(void)state;
	f->config.write_timeout = 3000;
	text_add_run(&much, 50000);
	client_sends(f, GET("/") GET("/2"));
	host_head(f, 1, 200, NULL, -1);
	host_data(f, 1, text_str(&much));
	for (unsigned i = 0; i < 100; i++) {
		pass_time(f, 1000);
		assert_true(f->now < wants(f).deadline);
		socket_takes(f, 240);
	}
	host_responds(f, 2, 200, "two that wait must both be worth it");
	expect_cut_within(3000 + 4000, 240, 1000);
	text_free(&much);
}

static void test_a_response_that_waited_for_an_earlier_one_has_all_its_time(void **state)
{
	struct iovec iov;

	(void)state;
	client_sends(f, GET("/1") GET("/2"));
	host_head(f, 1, 200, NULL, 2);
	host_data(f, 1, "ok");
	EXPECT_WIRE(f, OK_HEAD "Content-Length: 2\r\n\r\nok");
	host_responds(f, 2, 200, "0123456789");
	pass_time(f, 2 * f->config.write_timeout);
	host_end(f, 1, NULL);
	f->session->ops->output(f->session, &iov, 1); /* which the socket does not accept */
	EXPECT_DEADLINE(f, f->config.write_timeout);
	assert_int_equal(wants(f).close, CLOSE_CUT);
	EXPECT_EVENTS(f, "request 1 GET /1\nrequest 2 GET /2\ndone 1\nreset 2 timeout\n");
	text_clear(&f->wire);
}

/* ---- bodies that must not leave at once ---- */

static void allow(unsigned id, uint64_t bytes)
{
	struct stream *s = f->streams[id];

	s->allowance = bytes;
	s->ops->go_on(s);
}

static void test_no_more_of_a_body_leaves_than_is_allowed(void **state)
{
	(void)state;
	client_sends(f, GET("/"));
	f->streams[1]->allowance = 0;
	host_responds(f, 1, 200, "0123456789");
	EXPECT_WIRE(f, "HTTP/1.1 200 OK\r\n" DATE "Content-Length: 10\r\n\r\n");
	allow(1, 3);
	EXPECT_WIRE(f, "012");
	assert_int_equal(f->streams[1]->allowance, 0);
	allow(1, 4);
	socket_takes(f, 1); /* nor more than the socket accepts */
	assert_int_equal(f->streams[1]->allowance, 3);
	EXPECT_WIRE(f, "3456");
	allow(1, 100);
	EXPECT_WIRE(f, "789");
	EXPECT_EVENTS(f, "request 1 GET /\ndone 1\n");
}

static void test_what_is_not_allowed_to_leave_is_not_the_clients_fault(void **state)
{
	struct iovec iov;

	(void)state;
	client_sends(f, GET("/"));
	f->streams[1]->allowance = 0;
	host_responds(f, 1, 200, "0123456789");
	socket_takes_all(f);
	assert_int_equal(wants(f).deadline, 0);
	assert_false(f->session->ops->stalled(f->session));
	pass_time(f, 100 * f->config.write_timeout);
	allow(1, 5);
	f->session->ops->output(f->session, &iov, 1); /* which the socket does not accept */
	EXPECT_DEADLINE(f, f->config.write_timeout);
	assert_int_equal(wants(f).close, CLOSE_CUT);
	text_clear(&f->wire);
	text_clear(&f->events);
}

static void test_what_a_body_is_cut_into_leaves_in_its_order(void **state)
{
	(void)state;
	client_sends(f, GET("/a") GET("/b"));
	f->streams[1]->allowance = 4;
	host_head(f, 1, 200, NULL, -1);
	host_data(f, 1, "hello");
	host_data(f, 1, "world");
	host_end(f, 1, NULL);
	host_responds(f, 2, 200, "second");
	socket_takes_all(f);
	assert_null(strstr(text_str(&f->wire), "second"));
	while (f->streams[1])
		allow(1, 1), socket_takes_all(f);
	EXPECT_TEXT(&f->wire, "HTTP/1.1 200 OK\r\n" DATE "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n"
			      "HTTP/1.1 200 OK\r\n" DATE "Content-Length: 6\r\n\r\nsecond");
	text_clear(&f->events);
}

static void test_interim_answers_that_wait_are_told(void **state)
{
	struct stream *s;

	(void)state;
	client_sends(f, GET("/"));
	s = f->streams[1];
	assert_true(s->ops->send_info(s, 103, NULL, 0));
	assert_true(s->ops->send_info(s, 103, NULL, 0));
	assert_int_equal(s->interim, 2 * strlen("HTTP/1.1 103 Early Hints\r\n\r\n"));
	socket_takes(f, 40);
	assert_int_equal(s->interim, 2 * strlen("HTTP/1.1 103 Early Hints\r\n\r\n") - 40);
	host_responds(f, 1, 200, "");
	EXPECT_WIRE(f, "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n" OK("0", ""));
	text_clear(&f->events);
}

static void test_a_turn_takes_so_many_heads_and_no_more(void **state)
{
	(void)state;
	f->owner.max_steps = 5;
	client_sends(f, GET("/1") GET("/2") GET("/3"));
	EXPECT_EVENTS(f, "request 1 GET /1\nrequest 2 GET /2\n");
	assert_true(session_is_tired(&f->owner));
	f->eof = true; /* is behind them, and so must wait */
	f->owner.steps = 0;
	offer_again(f);
	EXPECT_EVENTS(f, "request 3 GET /3\nhangup 1\nhangup 2\nhangup 3\n");
	for (unsigned i = 1; i <= 3; i++)
		host_responds(f, i, 200, "");
	text_clear(&f->wire);
	text_clear(&f->events);
}

/* ---- resets ---- */

static void test_a_reset_before_the_head_answers_and_closes(void **state)
{
	(void)state;
	client_sends(f, GET("/"));
	host_resets(f, 1, 500, 0);
	EXPECT_WIRE(f, ERROR("500 Internal Server Error", "26", "", "500 Internal Server Error\n"));
	assert_int_equal(wants(f).close, CLOSE_LINGER);
	EXPECT_EVENTS(f, "request 1 GET /\n");
}

static void test_a_reset_of_head_has_no_body(void **state)
{
	(void)state;
	client_sends(f, "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n");
	host_resets(f, 1, 500, 0);
	EXPECT_WIRE(f, ERROR("500 Internal Server Error", "26", "", ""));
}

static void test_a_503_with_retry_after_keeps_the_connection(void **state)
{
	(void)state;
	client_sends(f, GET("/"));
	host_resets(f, 1, 503, 7);
	EXPECT_WIRE(f, "HTTP/1.1 503 Service Unavailable\r\n" DATE
		       "Content-Type: text/plain\r\nRetry-After: 7\r\nContent-Length: 24\r\n\r\n503 Service Unavailable\n");
	assert_true(wants(f).idle);
	client_sends(f, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
	host_resets(f, 2, 503, 7);
	EXPECT_WIRE(f, "HTTP/1.1 503 Service Unavailable\r\n" DATE
		       "Content-Type: text/plain\r\nRetry-After: 7\r\nContent-Length: 24\r\nConnection: keep-alive\r\n\r\n"
		       "503 Service Unavailable\n");
	client_sends(f, GET_CLOSE("/"));
	host_resets(f, 3, 503, 7);
	EXPECT_WIRE(f, ERROR("503 Service Unavailable", "24", "Retry-After: 7\r\n", "503 Service Unavailable\n"));
	assert_int_equal(wants(f).close, CLOSE_LINGER);
}

static void test_a_reset_with_a_body_on_its_way_closes(void **state)
{
	(void)state;
	client_sends(f, POST("/", "5") "He");
	host_resets(f, 1, 503, 7);
	offer_again(f);
	client_sends(f, "llo");
	EXPECT_WIRE(f, ERROR("503 Service Unavailable", "24", "Retry-After: 7\r\n", "503 Service Unavailable\n"));
	assert_int_equal(wants(f).close, CLOSE_LINGER);
	EXPECT_EVENTS(f, "request 1 POST / body=5\n");
}

static void test_a_reset_behind_the_head_cuts(void **state)
{
	(void)state;
	client_sends(f, GET("/1") GET("/2"));
	host_head(f, 1, 200, NULL, -1);
	host_data(f, 1, "Hello");
	socket_takes(f, SIZE_MAX);
	host_resets(f, 1, 500, 0);
	assert_true(wants(f).write);
	socket_takes(f, SIZE_MAX);
	assert_int_equal(wants(f).close, CLOSE_CUT);
	EXPECT_EVENTS(f, "request 1 GET /1\nrequest 2 GET /2\n");
	assert_non_null(f->streams[2]); /* ended when the connection is closed */
}

static void test_a_reset_of_a_later_request_waits_for_its_turn(void **state)
{
	(void)state;
	client_sends(f, GET("/1") GET("/2") GET("/3"));
	host_resets(f, 2, 500, 0);
	EXPECT_WIRE(f, "");
	host_responds(f, 1, 200, "one");
	EXPECT_WIRE(f, OK("3", "one") ERROR("500 Internal Server Error", "26", "", "500 Internal Server Error\n"));
	EXPECT_EVENTS(f, "request 1 GET /1\nrequest 2 GET /2\nrequest 3 GET /3\ndone 1\nreset 3 closed\n");
}

static void test_a_reset_behind_the_whole_response_lets_it_out(void **state)
{
	(void)state;
	client_sends(f, GET("/"));
	host_responds(f, 1, 200, "Hello");
	host_resets(f, 1, 500, 0);
	EXPECT_WIRE(f, OK("5", "Hello"));
}

static void test_a_reset_with_status_0_cuts_without_an_answer(void **state)
{
	(void)state;
	client_sends(f, GET("/"));
	host_resets(f, 1, 0, 0);
	EXPECT_WIRE(f, "");
	assert_int_equal(wants(f).close, CLOSE_CUT);
}

/* ---- the end ---- */

static void drain(void)
{
	f->env.draining = true;
	f->session->ops->drain(f->session);
}

static void test_a_drain_closes_an_idle_connection_at_once(void **state)
{
	(void)state;
	client_sends(f, GET("/1"));
	host_responds(f, 1, 200, "");
	EXPECT_WIRE(f, OK("0", ""));
	drain();
	assert_int_equal(wants(f).close, CLOSE_NOW);
}

/* its client could not tell whether its first request was processed: RFC 9112 9.3.1 */
static void test_a_drain_serves_a_new_connection_once(void **state)
{
	(void)state;
	drain();
	assert_int_equal(wants(f).close, CLOSE_NOT);
	client_sends(f, GET("/1"));
	host_responds(f, 1, 200, "");
	EXPECT_WIRE(f, OK_CLOSE("0", ""));
	assert_int_equal(wants(f).close, CLOSE_LINGER);
}

static void test_a_drain_waits_a_moment_only_for_a_new_connection(void **state)
{
	(void)state;
	drain();
	pass_time(f, 249);
	assert_int_equal(wants(f).close, CLOSE_NOT);
	pass_time(f, 1);
	assert_int_equal(wants(f).close, CLOSE_NOW);
}

static void test_a_drain_lets_what_is_in_work_finish_and_says_close(void **state)
{
	(void)state;
	client_sends(f, GET("/1"));
	drain();
	assert_int_equal(wants(f).close, CLOSE_NOT);
	client_sends(f, GET("/never"));
	host_responds(f, 1, 200, "");
	EXPECT_WIRE(f, OK_CLOSE("0", ""));
	assert_int_equal(wants(f).close, CLOSE_LINGER);
	EXPECT_EVENTS(f, "request 1 GET /1\ndone 1\n");
}

static void test_a_drain_behind_a_response_head_closes_when_the_response_is_out(void **state)
{
	(void)state;
	client_sends(f, GET("/1"));
	host_head(f, 1, 200, NULL, -1);
	drain();
	host_end(f, 1, NULL);
	EXPECT_WIRE(f, OK_HEAD "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
	assert_int_equal(wants(f).close, CLOSE_LINGER);
}

static void test_a_drain_closes_when_the_rest_of_a_body_is_skipped(void **state)
{
	(void)state;
	client_sends(f, POST_CHUNKED("/"));
	host_responds(f, 1, 200, "");
	EXPECT_WIRE(f, OK("0", ""));
	drain();
	client_sends(f, "0\r\n\r\n");
	assert_int_equal(wants(f).close, CLOSE_LINGER);
}

static void test_a_request_whose_head_was_begun_is_served_during_a_drain(void **state)
{
	(void)state;
	client_sends(f, "GET / HTTP/1.1\r\n");
	drain();
	client_sends(f, "Host: h\r\n\r\n");
	host_responds(f, 1, 200, "");
	EXPECT_WIRE(f, OK_CLOSE("0", ""));
	EXPECT_EVENTS(f, "request 1 GET /\ndone 1\n");
}

static void test_closing_ends_each_stream_once_for_the_reason_given(void **state)
{
	(void)state;
	client_sends(f, GET("/1") GET("/2") GET("/3"));
	host_responds(f, 1, 200, "");
	socket_takes(f, SIZE_MAX);
	text_clear(&f->wire);
	host_resets(f, 2, 500, 0);
	f->session->ops->close(f->session, END_RESET);
	f->session = NULL;
	EXPECT_EVENTS(f, "request 1 GET /1\nrequest 2 GET /2\nrequest 3 GET /3\ndone 1\nreset 3 reset\n");
}

/* ---- errors ---- */

static void expect_error(const char *request, const char *status)
{
	fixture_end(f);
	fixture_start(f);
	client_sends(f, request);
	socket_takes_all(f);
	if (strncmp(text_str(&f->wire), "HTTP/1.1 ", 9) != 0 || strncmp(text_str(&f->wire) + 9, status, 3) != 0)
		fail_msg("%s got %s", request, text_str(&f->wire));
	assert_non_null(strstr(text_str(&f->wire), "Connection: close\r\n"));
	assert_int_equal(wants(f).close, CLOSE_LINGER);
	assert_int_equal(f->env.rejected, 1);
	EXPECT_EVENTS(f, "");
	text_clear(&f->wire);
}

static void test_what_cannot_be_taken_is_answered_and_closed(void **state)
{
	(void)state;
	expect_error("\n", "400");
	expect_error("\rX", "400");
	expect_error("GET / HTTP/1.1\r\n\r\n", "400");
	expect_error("GET / HTTP/3.0\r\nHost: h\r\n\r\n", "505");
	expect_error("GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n", "501");
	expect_error("GET / HTTP/1.1\r\nHost: h\r\nExpect: x\r\n\r\n", "417");
	expect_error("\x16\x03\x01\x02\x03\x04\x05\x06", "400");
}

static void test_an_error_for_head_has_no_body(void **state)
{
	(void)state;
	client_sends(f, "HEAD / HTTP/1.1\r\n\r\n");
	EXPECT_WIRE(f, ERROR("400 Bad Request", "16", "", ""));
}

/* ---- the property ---- */

/* The bytes in two pieces; the host answers each request as it arrives. */
static void play(const char *bytes, size_t cut, struct text *events, struct text *wire)
{
	fixture_end(f);
	fixture_start(f);
	f->auto_read = true;
	for (unsigned piece = 0; piece < 3; piece++) {
		if (piece < 2)
			client_sends_bytes(f, piece ? bytes + cut : bytes, piece ? strlen(bytes) - cut : cut);
		else
			client_sends(f, NULL);
		for (unsigned answered = 0; answered != f->count;) {
			answered = f->count;
			for (unsigned id = 1; id <= f->count; id++)
				if (f->streams[id] && f->streams[id]->request == REQUEST_ENDED &&
				    f->streams[id]->response == RESPONSE_WAITING)
					host_responds(f, id, 200, "ok");
			socket_takes_all(f);
		}
	}
	text_add(&f->events, "close %d\n", wants(f).close);
	text_add_bytes(events, text_str(&f->events), strlen(text_str(&f->events)));
	text_add_bytes(wire, text_str(&f->wire), strlen(text_str(&f->wire)));
}

/* The requests, bodies and trailers, without anything that depends on when an answer left. */
static void sort_lines(struct text *t)
{
	struct text parts[FIXTURE_STREAMS] = {0};
	char *line = strtok((char *)buf_at(&t->buf), "\n");
	struct text sorted = {0};

	for (; line; line = strtok(NULL, "\n")) {
		unsigned id = 0;
		char what[16];
		sscanf(line, "%15s %u", what, &id);
		text_add(&parts[strcmp(what, "close") ? id : 0], "%s\n", line);
	}
	for (unsigned i = 0; i < FIXTURE_STREAMS; i++) {
		text_add_bytes(&sorted, text_str(&parts[i]), strlen(text_str(&parts[i])));
		text_free(&parts[i]);
	}
	text_free(t);
	*t = sorted;
}

static void same_wherever_cut(const char *bytes)
{
	struct text whole = {0}, whole_wire = {0};

	play(bytes, strlen(bytes), &whole, &whole_wire);
	sort_lines(&whole);
	for (size_t cut = 0; cut < strlen(bytes); cut++) {
		struct text events = {0}, wire = {0};
		play(bytes, cut, &events, &wire);
		sort_lines(&events);
		if (strcmp(text_str(&events), text_str(&whole)) != 0 || strcmp(text_str(&wire), text_str(&whole_wire)) != 0)
			print_error("cut at %zu of %s\n", cut, bytes);
		assert_string_equal(text_str(&events), text_str(&whole));
		assert_string_equal(text_str(&wire), text_str(&whole_wire));
		text_free(&events);
		text_free(&wire);
	}
	text_free(&whole);
	text_free(&whole_wire);
}

static void test_the_same_bytes_cut_anywhere_give_the_same_events(void **state)
{
	(void)state;
	same_wherever_cut(GET("/1") GET("/2?x=y") GET_CLOSE("/3"));
	same_wherever_cut("\r\n" POST("/1", "11") "Hello world" GET("/2"));
	same_wherever_cut(POST_CHUNKED("/1") "5;a=b\r\nHello\r\n1\r\n!\r\n0\r\nX-A: b\r\nX-C: d\r\n\r\n" GET("/2"));
	same_wherever_cut(POST_CHUNKED("/1") "3\r\nabc\r\n0\r\n\r\n" POST("/2", "9") "{\n  \"a\":1" GET("/3"));
	same_wherever_cut(GET("/1") "GET / HTTP/1.1\r\nbad header\r\n\r\n");
	same_wherever_cut(GET("/1") "HEAD /2 HTTP/1.1\r\nHost: h\r\n\r\n"
				    "DELETE /3 HTTP/1.1\r\nHost: h\r\n\r\n" GET("/4"));
	same_wherever_cut("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
			  "GET / HTTP/1.0\r\n\r\n" GET("/never"));
	same_wherever_cut(POST_EXPECTS("/1", "3") "abc");
	same_wherever_cut("GET / HTTP/1.1\r\nHost: h\r\na:\r\n b\r\n\r\n");
}

/* An invalid HTTP/2 preface is not answered (RFC 9113 3.4), but after a request it is an ordinary bad request. */
static void test_a_foreign_first_line_is_not_answered_wherever_it_is_cut(void **state)
{
	static const char foreign[] = "INVALID CONNECTION PREFACE\r\n\r\nSM\r\n\r\n";

	(void)state;
	client_sends(f, foreign);
	EXPECT_WIRE(f, "");
	assert_int_equal(wants(f).close, CLOSE_NOW);
	same_wherever_cut(foreign);
	same_wherever_cut("INVALID CONNECTION PREFACE\r\n\x01\xff: b\r\n\r\n");
	same_wherever_cut("INVALID CONNECTION PREFACE AGAIN\r\n\r\n");
	same_wherever_cut(GET("/1") "INVALID CONNECTION PREFACE\r\n\r\n");
	EXPECT_WIRE(f, OK("2", "ok") BAD_REQUEST);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_connection_is_kept_for_the_next_request),
		TEST(test_an_empty_line_before_a_request_is_skipped_and_more_are_refused),
		TEST(test_connection_close_ends_it_after_the_response),
		TEST(test_the_host_may_close_with_a_response),
		TEST(test_max_requests_closes_after_the_last),
		TEST(test_http_1_0_closes_unless_it_asked_to_keep),
		TEST(test_http_1_0_gets_a_body_of_unknown_length_until_close_and_no_interim_response),
		TEST(test_a_body_of_unknown_length_is_chunked),
		TEST(test_trailers_go_to_a_client_that_takes_them),
		TEST(test_a_body_of_known_length_is_sent_as_it_is),
		TEST(test_responses_that_have_no_body_get_none),
		TEST(test_interim_responses_precede_the_response),
		TEST(test_room_is_told_for_what_left_and_not_before),
		TEST(test_pipelined_responses_leave_in_the_order_of_their_requests),
		TEST(test_only_safe_requests_are_looked_ahead_for),
		TEST(test_nothing_overtakes_an_unsafe_request_without_a_body),
		TEST(test_a_get_with_a_body_counts_as_unsafe),
		TEST(test_max_pipeline_bounds_what_is_in_work),
		TEST(test_a_bad_request_behind_good_ones_is_answered_in_its_turn),
		TEST(test_a_response_that_closes_ends_those_behind_it),
		TEST(test_no_request_is_begun_while_paused),
		TEST(test_a_body_is_given_as_it_is_asked_for),
		TEST(test_a_chunked_body_ends_with_its_trailers),
		TEST(test_framing_costs_no_read_credit),
		TEST(test_a_malformed_body_gets_400_and_ends_the_stream),
		TEST(test_a_malformed_body_behind_a_response_head_cuts_the_connection),
		TEST(test_refused_trailers_end_the_stream),
		TEST(test_max_body_is_413),
		TEST(test_the_first_read_sends_100_continue),
		TEST(test_a_body_that_has_begun_to_come_needs_no_100),
		TEST(test_an_answer_without_a_read_closes_where_100_was_expected),
		TEST(test_a_100_of_the_host_is_not_sent_twice),
		TEST(test_a_read_behind_a_response_head_sends_no_100),
		TEST(test_a_head_that_was_kept_while_the_host_read_closes_where_100_was_expected),
		TEST(test_a_discarded_body_is_dropped_and_the_connection_kept),
		TEST(test_a_discard_is_not_bounded_while_the_response_goes_on),
		TEST(test_an_unread_rest_is_skipped_after_the_response),
		TEST(test_more_than_skip_body_closes),
		TEST(test_a_rest_that_is_known_to_be_too_long_is_said_to_close),
		TEST(test_a_rest_of_exactly_skip_body_is_skipped),
		TEST(test_skipping_ends_at_skip_timeout),
		TEST(test_a_malformed_skipped_body_closes_without_an_answer),
		TEST(test_an_idle_client_that_closes_is_closed),
		TEST(test_half_closed_clients_are_told_of_and_get_their_answers),
		TEST(test_requests_that_wait_are_served_though_the_client_has_closed),
		TEST(test_a_body_cut_short_ends_the_stream),
		TEST(test_a_body_that_waits_for_credit_is_whole_though_the_client_has_closed),
		TEST(test_a_head_cut_short_is_dropped),
		TEST(test_the_first_byte_is_waited_for_and_then_the_head_and_then_the_next_request),
		TEST(test_a_connection_that_sends_nothing_is_closed),
		TEST(test_a_head_that_takes_too_long_gets_408),
		TEST(test_a_head_that_waits_for_its_turn_is_not_too_slow),
		TEST(test_a_body_slower_than_its_least_rate_gets_408),
		TEST(test_much_of_a_body_at_once_does_not_pay_for_a_silence),
		TEST(test_a_body_that_is_skipped_has_a_least_rate_too),
		TEST(test_a_byte_now_and_then_is_no_progress),
		TEST(test_who_takes_the_least_rate_is_not_cut),
		TEST(test_a_response_that_waited_for_an_earlier_one_has_all_its_time),
		TEST(test_no_more_of_a_body_leaves_than_is_allowed),
		TEST(test_what_is_not_allowed_to_leave_is_not_the_clients_fault),
		TEST(test_what_a_body_is_cut_into_leaves_in_its_order),
		TEST(test_interim_answers_that_wait_are_told),
		TEST(test_a_turn_takes_so_many_heads_and_no_more),
		TEST(test_time_without_credit_does_not_count_against_a_body),
		TEST(test_any_rate_is_well_when_the_option_is_0),
		TEST(test_a_discarded_body_that_is_never_sent_does_not_fail_the_response),
		TEST(test_a_client_that_takes_nothing_is_cut),
		TEST(test_a_reset_before_the_head_answers_and_closes),
		TEST(test_a_reset_of_head_has_no_body),
		TEST(test_a_503_with_retry_after_keeps_the_connection),
		TEST(test_a_reset_with_a_body_on_its_way_closes),
		TEST(test_a_reset_behind_the_head_cuts),
		TEST(test_a_reset_of_a_later_request_waits_for_its_turn),
		TEST(test_a_reset_behind_the_whole_response_lets_it_out),
		TEST(test_a_reset_with_status_0_cuts_without_an_answer),
		TEST(test_a_drain_closes_an_idle_connection_at_once),
		TEST(test_a_drain_serves_a_new_connection_once),
		TEST(test_a_drain_waits_a_moment_only_for_a_new_connection),
		TEST(test_a_drain_lets_what_is_in_work_finish_and_says_close),
		TEST(test_a_drain_behind_a_response_head_closes_when_the_response_is_out),
		TEST(test_a_drain_closes_when_the_rest_of_a_body_is_skipped),
		TEST(test_a_request_whose_head_was_begun_is_served_during_a_drain),
		TEST(test_closing_ends_each_stream_once_for_the_reason_given),
		TEST(test_what_cannot_be_taken_is_answered_and_closed),
		TEST(test_an_error_for_head_has_no_body),
		TEST(test_the_same_bytes_cut_anywhere_give_the_same_events),
		TEST(test_a_foreign_first_line_is_not_answered_wherever_it_is_cut),
	};

	return cmocka_run_group_tests_name("h1", tests, NULL, NULL);
}
