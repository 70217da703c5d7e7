/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/3 sessions: the client's bytes become events, the host's calls become what the client sees. */
#include "h3_fixture.h"

#include "base/list.h"

static struct h3_fixture fixture, *const f = &fixture;
static struct h1_fixture *const host = &fixture.h1;

static int setup(void **state)
{
	(void)state;
	h3_fixture_start(f, NULL);
	h3_talk(f);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	h3_fixture_end(f);
	return 0;
}

static void start_again(void (*options)(struct config *config))
{
	h3_fixture_end(f);
	h3_fixture_start(f, options);
	h3_talk(f);
}

typedef int64_t stream_id;
#define client_asks h3_client_asks
#define client_body h3_client_body
#define talk h3_talk
#define EXPECT_SEEN H3_EXPECT_SEEN
#define FIRST "0"
#define SECOND "4"
#define PIECES "0 ab\n0 23456\n0 0\n0 cd\n0 89\n"
#define IDLE h3_wants(f->h3).idle
#define pass(ms) h3_pass_time(f, ms)
#include "mux_tests.h"

/* ---- requests and responses ---- */

static void test_requests_are_answered_in_any_order(void **state)
{
	(void)state;
	assert_true(h3_wants(f->h3).idle);
	answers_in_any_order();
	assert_int_equal(f->streams, 2); /* others may come */
}

static void test_a_body_comes_as_it_is_asked_for(void **state)
{
	int64_t id = h3_client_asks(f, "POST", "/", NULL, "");
	uint64_t credit;

	(void)state;
	h3_client_body(f, id, "abcdef", false);
	h3_talk(f);
	EXPECT_EVENTS(host, "request 1 POST / body=-1\n");
	credit = f->lanes[id].credit;
	assert_int_equal(f->lanes[id].came - credit, 6); /* the window of a body that is not read stays closed, */
	host_reads(host, 1, 2, 2);
	h3_talk(f);
	EXPECT_EVENTS(host, "body 1 abcd\n");
	assert_int_equal(f->lanes[id].credit - credit, 4); /* and opens as it is */
	h3_client_body(f, id, "gh", true);
	h3_talk(f);
	EXPECT_EVENTS(host, "");
	host_reads(host, 1, 9, 3);
	h3_talk(f);
	EXPECT_EVENTS(host, "body 1 efgh\nend 1\n");
	host_responds(host, 1, 200, "ok");
	H3_EXPECT_SEEN(f, OK("0", "2", "ok"));
	EXPECT_EVENTS(host, "done 1\n");
}

static void test_a_request_has_trailers(void **state)
{
	int64_t id = h3_client_asks(f, "POST", "/", NULL, "");

	(void)state;
	h3_client_body(f, id, "body", false);
	h3_client_trailers(f, id, "x-sum: 1");
	h3_talk(f);
	host_reads(host, 1, 9, 100);
	h3_talk(f);
	EXPECT_EVENTS(host, "request 1 POST / body=-1\nbody 1 body\nend 1 x-sum=1\n");
	host_responds(host, 1, 200, "ok");
	h3_talk(f);
	EXPECT_EVENTS(host, "done 1\n");
}

static void test_an_early_answer_ends_the_request(void **state)
{
	int64_t id = h3_client_asks(f, "POST", "/", NULL, "");

	(void)state;
	h3_client_body(f, id, "some", false);
	h3_talk(f);
	host_responds(host, 1, 403, "no");
	H3_EXPECT_SEEN(f, "0 :status=403\n0 content-length=2\n0 no\n0 end\n0 stop NO_ERROR\n");
	EXPECT_EVENTS(host, "request 1 POST / body=-1\ndone 1\n");
	assert_int_equal(f->streams, 1);
}

static void test_a_response_to_head_has_no_body(void **state)
{
	(void)state;
	h3_client_asks(f, "HEAD", "/", NULL, NULL);
	h3_talk(f);
	host_responds(host, 1, 200, "body");
	H3_EXPECT_SEEN(f, "0 :status=200\n0 content-length=4\n0 end\n");
	EXPECT_EVENTS(host, "request 1 HEAD /\ndone 1\n");
}

static void test_options_of_the_whole_server(void **state)
{
	(void)state;
	h3_client_asks(f, "OPTIONS", "*", NULL, NULL);
	h3_talk(f);
	EXPECT_EVENTS(host, "request 1 OPTIONS *\n");
	host_responds(host, 1, 200, "ok");
	H3_EXPECT_SEEN(f, OK("0", "2", "ok"));
	text_clear(&host->events);
}

/* ---- what goes wrong ---- */

static void test_the_host_fails_before_and_behind_the_head(void **state)
{
	(void)state;
	h3_client_asks(f, "GET", "/a", NULL, NULL);
	h3_client_asks(f, "GET", "/b", NULL, NULL);
	h3_talk(f);
	host_resets(host, 1, 503, 7);
	H3_EXPECT_SEEN(f, "0 :status=503\n0 content-type=text/plain\n0 retry-after=7\n0 content-length=24\n"
			  "0 503 Service Unavailable\\n\n0 end\n");
	host_head(host, 2, 200, NULL, 10);
	host_data(host, 2, "half");
	h3_talk(f);
	host_resets(host, 2, 0, 0);
	H3_EXPECT_SEEN(f, "4 :status=200\n4 content-length=10\n4 half\n4 reset INTERNAL_ERROR\n");
	text_clear(&host->events);
}

static void test_the_client_takes_it_back(void **state)
{
	int64_t id = h3_client_asks(f, "POST", "/", NULL, "");

	(void)state;
	h3_client_body(f, id, "some", false);
	h3_client_resets(f, id);
	H3_EXPECT_SEEN(f, "0 reset REQUEST_CANCELLED\n");
	EXPECT_EVENTS(host, "request 1 POST / body=-1\nreset 1 reset\n");
	assert_int_equal(f->streams, 0); /* it counts as long as somebody works on it */
	host_releases(host, 1);
	h3_talk(f);
	assert_int_equal(f->streams, 1);
}

static void test_the_client_does_not_want_the_answer(void **state)
{
	int64_t id = h3_client_asks(f, "GET", "/", NULL, NULL);

	(void)state;
	h3_talk(f);
	host_head(host, 1, 200, NULL, -1);
	host_data(host, 1, "some");
	h3_client_stops(f, id);
	host_data(host, 1, "more");
	H3_EXPECT_SEEN(f, "0 :status=200\n0 some\n");
	EXPECT_EVENTS(host, "request 1 GET /\nreset 1 reset\n");
	host_releases(host, 1);
	h3_talk(f);
	assert_int_equal(f->streams, 1);
}

static void test_what_is_not_released_lapses(void **state)
{
	int64_t id = h3_client_asks(f, "POST", "/", NULL, "");

	(void)state;
	h3_client_resets(f, id);
	h3_talk(f);
	EXPECT_EVENTS(host, "request 1 POST / body=-1\nreset 1 reset\n");
	h3_pass_time(f, host->config.h2_reset_hold - 1);
	EXPECT_EVENTS(host, "");
	h3_pass_time(f, 1);
	EXPECT_EVENTS(host, "lapse 1\n");
	assert_int_equal(f->streams, 1);
}

static void few_resets(struct config *c)
{
	c->h3_max_resets = 5;
	c->h3_reset_rate = 1;
}

static void test_many_that_are_taken_back_end_the_connection(void **state)
{
	(void)state;
	start_again(few_resets);
	for (int i = 0; i < 5; i++) {
		int64_t id = h3_client_asks(f, "POST", "/", NULL, "");
		h3_client_resets(f, id);
	}
	h3_talk(f);
	assert_false(f->closed);
	h3_client_resets(f, h3_client_asks(f, "POST", "/", NULL, ""));
	h3_talk(f);
	assert_true(f->closed);
	assert_int_equal(h3_code(f->h3), NGHTTP3_H3_EXCESSIVE_LOAD);
	text_clear(&host->events);
}

static void test_a_malformed_request_is_reset_alone(void **state)
{
	(void)state;
	h3_client_asks(f, "GET", "nothing", NULL, NULL);
	h3_client_asks(f, "GET", "/", "connection: close", NULL);
	h3_client_asks(f, "POST", "/", "content-length: 3", "four");
	h3_client_asks(f, "GET", "/fine", NULL, NULL);
	H3_EXPECT_SEEN(f, "0 stop MESSAGE_ERROR\n0 reset MESSAGE_ERROR\n4 stop MESSAGE_ERROR\n4 reset MESSAGE_ERROR\n"
			  "8 stop MESSAGE_ERROR\n8 reset MESSAGE_ERROR\n");
	EXPECT_EVENTS(host, "request 1 GET /fine\n");
	assert_false(f->closed);
	host_responds(host, 1, 200, "ok");
	H3_EXPECT_SEEN(f, OK("12", "2", "ok"));
	text_clear(&host->events);
}

static void test_all_bytes_of_a_malformed_request_are_credited(void **state)
{
	uint64_t came = 0;

	(void)state;
	h3_client_asks(f, "POST", "/", "content-length: 3", "four");
	h3_client_asks(f, "POST", "/", "content-length: 5", "four");
	h3_client_asks(f, "GET", "/", "connection: close", NULL);
	h3_talk(f);
	for (unsigned i = 0; i < H3_LANES; i++)
		came += f->lanes[i].came;
	assert_int_equal(f->credit_all, came); /* else the connection's window shrinks for ever */
	assert_false(f->closed);
	text_clear(&f->seen);
	text_clear(&host->events);
}

static void test_a_request_without_a_byte_is_incomplete(void **state)
{
	(void)state;
	f->next = 4;
	h3_client_sends(f, 0, "", 0, true);
	h3_talk(f);
	EXPECT_TEXT(&f->seen, "0 stop REQUEST_INCOMPLETE\n0 reset REQUEST_INCOMPLETE\n");
	EXPECT_EVENTS(host, "");
	assert_false(f->closed);
}

static void small_heads(struct config *c)
{
	c->max_header_block = 400;
	c->max_header_count = 3;
}

static void test_a_head_that_is_too_large_gets_431(void **state)
{
	char large[600];

	(void)state;
	start_again(small_heads);
	memset(large, 'x', sizeof large);
	memcpy(large, "x-a: ", 5);
	large[sizeof large - 1] = 0;
	h3_client_asks(f, "GET", "/", large, NULL);
	h3_client_asks(f, "GET", "/", "a: 1\nb: 2\nc: 3\nd: 4", NULL);
	h3_client_asks(f, "GET", "/", "a: 1\nb: 2\nc: 3", NULL);
	h3_talk(f);
	assert_non_null(strstr(text_str(&f->seen), "0 :status=431"));
	assert_non_null(strstr(text_str(&f->seen), "4 :status=431"));
	text_clear(&f->seen);
	EXPECT_EVENTS(host, "request 1 GET /\n");
	host_responds(host, 1, 200, "ok");
	h3_talk(f);
	text_clear(&host->events);
}

static void few_bytes(struct config *c)
{
	c->h3_max_header_bytes = 49152;
}

static void test_a_head_that_is_far_too_large_ends_the_connection(void **state)
{
	static char large[60000];

	(void)state;
	start_again(few_bytes);
	memset(large, 'x', sizeof large);
	memcpy(large, "x-a: ", 5);
	large[sizeof large - 1] = 0;
	h3_client_asks(f, "GET", "/", large, NULL);
	H3_EXPECT_SEEN(f, "close EXCESSIVE_LOAD\n");
}

static void test_a_stream_that_ends_before_its_type_is_known_is_nothing(void **state)
{
	int64_t id = h3_client_opens(f);

	(void)state;
	h3_client_sends(f, id, "\x40", 1, false); /* the first of two bytes */
	h3_reset(f->h3, id);
	h3_gone(f->h3, id, NGHTTP3_H3_NO_ERROR);
	H3_EXPECT_SEEN(f, "");
}

static void test_critical_streams_must_stay(void **state)
{
	(void)state;
	h3_reset(f->h3, 2);
	h3_gone(f->h3, 2, NGHTTP3_H3_NO_ERROR);
	H3_EXPECT_SEEN(f, "close CLOSED_CRITICAL\n");
}

static void test_the_client_must_not_stop_ours(void **state)
{
	(void)state;
	h3_drain(f->h3); /* there is something to send */
	f->lanes[3].unwanted = true;
	H3_EXPECT_SEEN(f, "close CLOSED_CRITICAL\n");
}

static void test_frames_that_bring_nothing_end_the_connection(void **state)
{
	static uint8_t nothing[1000 * 2];
	int64_t id = h3_client_asks(f, "POST", "/", NULL, "");

	(void)state;
	h3_talk(f);
	text_clear(&host->events);
	for (size_t i = 0; i < sizeof nothing; i += 2)
		nothing[i] = 0x21; /* a reserved type, without a payload */
	for (int i = 0; i < 160; i++)
		h3_client_sends(f, id, nothing, sizeof nothing, false);
	h3_talk(f);
	assert_false(f->closed);
	for (int i = 0; i < 20; i++)
		h3_client_sends(f, id, nothing, sizeof nothing, false);
	H3_EXPECT_SEEN(f, "close EXCESSIVE_LOAD\n");
	text_clear(&host->events);
}

/* ---- its life ---- */

static void test_a_drain_has_two_steps(void **state)
{
	(void)state;
	h3_client_asks(f, "GET", "/a", NULL, NULL);
	h3_talk(f);
	h3_drain(f->h3);
	H3_EXPECT_SEEN(f, "goaway soon\n");
	h3_pass_time(f, 299);
	H3_EXPECT_SEEN(f, "");
	h3_pass_time(f, 1);
	H3_EXPECT_SEEN(f, "goaway 4\n");
	host_responds(host, 1, 200, "ok");
	H3_EXPECT_SEEN(f, OK("0", "2", "ok"));
	h3_pass_time(f, 299);
	H3_EXPECT_SEEN(f, "");
	h3_pass_time(f, 1);
	H3_EXPECT_SEEN(f, "close NO_ERROR\n");
	text_clear(&host->events);
}

static void during_a_drain(struct config *c)
{
	container_of(c, struct h1_fixture, config)->env.draining = true;
}

/* Its handshake was in progress when the drain began. */
static void test_a_session_that_begins_during_a_drain_ends_too(void **state)
{
	(void)state;
	h3_fixture_end(f);
	h3_fixture_start(f, during_a_drain);
	h3_client_asks(f, "GET", "/a", NULL, NULL);
	H3_EXPECT_SEEN(f, "goaway soon\n");
	EXPECT_EVENTS(host, "request 1 GET /a\n");
	host_responds(host, 1, 200, "ok");
	H3_EXPECT_SEEN(f, OK("0", "2", "ok"));
	h3_pass_time(f, 300);
	H3_EXPECT_SEEN(f, "goaway 4\n");
	h3_pass_time(f, 300);
	H3_EXPECT_SEEN(f, "close NO_ERROR\n");
	text_clear(&host->events);
}

static void test_what_comes_behind_a_goaway_is_rejected(void **state)
{
	(void)state;
	h3_client_asks(f, "GET", "/a", NULL, NULL);
	h3_talk(f);
	h3_drain(f->h3);
	h3_pass_time(f, 300);
	h3_deliver(f->h3);
	h3_client_asks(f, "GET", "/b", NULL, "");
	h3_talk(f);
	assert_non_null(strstr(text_str(&f->seen), "4 stop REQUEST_REJECTED\n4 reset REQUEST_REJECTED\n"));
	text_clear(&f->seen);
	EXPECT_EVENTS(host, "request 1 GET /a\n");
	host_responds(host, 1, 200, "ok");
	h3_talk(f);
	text_clear(&host->events);
}

static void one_request(struct config *c)
{
	c->max_requests = 1;
}

static void test_so_many_requests_and_no_more(void **state)
{
	(void)state;
	start_again(one_request);
	h3_client_asks(f, "GET", "/", NULL, NULL);
	H3_EXPECT_SEEN(f, "goaway soon\n");
	host_responds(host, 1, 200, "ok");
	H3_EXPECT_SEEN(f, OK("0", "2", "ok"));
	h3_pass_time(f, 300);
	H3_EXPECT_SEEN(f, "goaway 4\n");
	h3_pass_time(f, 300);
	H3_EXPECT_SEEN(f, "close NO_ERROR\n");
	text_clear(&host->events);
}

static void test_an_idle_connection_ends(void **state)
{
	(void)state;
	h3_pass_time(f, host->config.idle_timeout - 1);
	H3_EXPECT_SEEN(f, "");
	h3_pass_time(f, 1);
	H3_EXPECT_SEEN(f, "close NO_ERROR\n");
}

static void test_a_client_without_settings_ends(void **state)
{
	(void)state;
	h3_fixture_end(f);
	h3_fixture_start(f, NULL);
	h3_pass_time(f, host->config.h3_settings_timeout);
	assert_int_equal(h3_wants(f->h3).close, CLOSE_NOW);
	assert_int_equal(h3_code(f->h3), NGHTTP3_H3_MISSING_SETTINGS);
}

static void test_a_head_that_does_not_get_complete_is_reset(void **state)
{
	(void)state;
	f->next = 4;
	h3_client_sends(f, 0, "\x01\x20\0\0", 4, false);
	h3_talk(f);
	assert_true(h3_wants(f->h3).begun);
	h3_pass_time(f, host->config.header_timeout - 1);
	H3_EXPECT_SEEN(f, "");
	h3_pass_time(f, 1);
	H3_EXPECT_SEEN(f, "0 stop REQUEST_INCOMPLETE\n0 reset REQUEST_INCOMPLETE\n");
	EXPECT_EVENTS(host, "");
}

static void test_a_body_is_to_come_on(void **state)
{
	h3_client_asks(f, "POST", "/", NULL, "");

	(void)state;
	h3_talk(f);
	h3_pass_time(f, 1000000); /* nobody has asked for it */
	H3_EXPECT_SEEN(f, "");
	host_reads(host, 1, 1, 100);
	h3_talk(f);
	h3_pass_time(f, host->config.body_grace);
	h3_talk(f);
	assert_non_null(strstr(text_str(&f->seen), "0 :status=408"));
	text_clear(&f->seen);
	EXPECT_EVENTS(host, "request 1 POST / body=-1\nreset 1 timeout\n");
	host_releases(host, 1);
}

static void test_a_client_that_takes_nothing_is_cut(void **state)
{
	(void)state;
	h3_client_asks(f, "GET", "/", NULL, NULL);
	h3_talk(f);
	f->full = true;
	host_head(host, 1, 200, NULL, -1);
	host_data(host, 1, "some");
	h3_talk(f);
	h3_pass_time(f, host->config.write_timeout - 1);
	EXPECT_EVENTS(host, "request 1 GET /\n");
	h3_pass_time(f, 1);
	h3_talk(f);
	EXPECT_EVENTS(host, "reset 1 timeout\n");
	EXPECT_TEXT(&f->seen, "0 reset REQUEST_CANCELLED\n");
	host_releases(host, 1);
}

/* One stream waits for its rate, which is not its client's fault; others continue. */
static void test_no_more_of_a_body_leaves_than_is_allowed(void **state)
{
	(void)state;
	answers_without_allowance();
	assert_int_equal(host->known[1].spent, 0);
	allow(1, 3);
	assert_int_equal(host->streams[1]->allowance, 0);
	assert_int_equal(host->known[1].spent, 1);
	H3_EXPECT_SEEN(f, "0 012\n");
	h3_pass_time(f, 3 * host->config.write_timeout);
	assert_false(h3_stalled(f->h3));
	EXPECT_EVENTS(host, "request 1 GET /a\nrequest 2 GET /b\ndone 2\n");
	allow(1, 4);
	H3_EXPECT_SEEN(f, "0 3456\n");
	allow(1, 100);
	H3_EXPECT_SEEN(f, "0 789\n0 end\n");
	EXPECT_EVENTS(host, "done 1\n");
	assert_true(h3_wants(f->h3).idle);
}

/* The bytes of a file count too, although they cost no window. */
static void test_no_more_of_a_file_leaves_than_is_allowed(void **state)
{
	(void)state;
	h3_client_asks(f, "GET", "/", NULL, NULL);
	h3_talk(f);
	host->streams[1]->allowance = 4;
	host_head(host, 1, 200, "", 10);
	host_file(host, 1, "0123456789", 0, 10);
	host_end(host, 1, NULL);
	H3_EXPECT_SEEN(f, "0 :status=200\n0 content-length=10\n0 0123\n");
	assert_int_equal(host->known[1].spent, 1);
	allow(1, 6);
	H3_EXPECT_SEEN(f, "0 456789\n0 end\n");
	EXPECT_EVENTS(host, "request 1 GET /\ndone 1\n");
}

/* Neither the port's own answers after the host's end are delayed, nor those that the host left behind. */
static void test_what_nobody_looks_after_waits_for_no_allowance(void **state)
{
	(void)state;
	h3_client_asks(f, "GET", "/", NULL, NULL);
	h3_talk(f);
	host->streams[1]->allowance = 0;
	host_head(host, 1, 200, "", 4);
	host_data(host, 1, "rest");
	H3_EXPECT_SEEN(f, "0 :status=200\n0 content-length=4\n");
	stream_detach(host->streams[1]);
	host_end(host, 1, NULL);
	host->streams[1] = NULL;
	H3_EXPECT_SEEN(f, "0 rest\n0 end\n");
	EXPECT_EVENTS(host, "request 1 GET /\n");
}

static void test_who_acknowledges_nothing_is_cut(void **state)
{
	(void)state;
	f->deaf = true;
	h3_client_asks(f, "GET", "/", NULL, NULL);
	h3_talk(f);
	host_responds(host, 1, 200, "ok");
	H3_EXPECT_SEEN(f, OK("0", "2", "ok"));
	EXPECT_EVENTS(host, "request 1 GET /\ndone 1\n");
	h3_pass_time(f, host->config.write_timeout * 2);
	H3_EXPECT_SEEN(f, "close EXCESSIVE_LOAD\n");
}

static void test_an_upload_goes_on_after_a_response_without_a_body(void **state)
{
	int64_t id = h3_client_asks(f, "POST", "/", NULL, "");

	(void)state;
	h3_talk(f);
	host_reads(host, 1, 9, 100);
	host_head(host, 1, 200, "", 0); /* complete, but the host has not ended it: it still reads */
	H3_EXPECT_SEEN(f, "0 :status=200\n0 content-length=0\n0 end\n");
	for (int i = 0; i < 4; i++) {
		h3_pass_time(f, host->config.write_timeout / 2);
		h3_client_body(f, id, "more", false);
		h3_talk(f);
	}
	h3_client_body(f, id, "", true);
	host_end(host, 1, NULL);
	H3_EXPECT_SEEN(f, "");
	EXPECT_EVENTS(host, "request 1 POST / body=-1\nbody 1 moremoremoremore\nend 1\ndone 1\n");
}

static void little_memory(struct config *c)
{
	c->h3_unacked = 65536;
}

/* Unacknowledged bytes are bounded, and sending continues when the acknowledgement arrives. */
static void test_so_many_bytes_are_on_their_way_and_no_more(void **state)
{
	static char large[40000];
	const char *at;
	unsigned n = 0;

	(void)state;
	start_again(little_memory);
	memset(large, 'x', sizeof large - 1);
	f->deaf = true;
	h3_client_asks(f, "GET", "/", NULL, NULL);
	h3_talk(f);
	host_head(host, 1, 200, NULL, -1);
	for (int i = 0; i < 4; i++)
		host_data(host, 1, large);
	h3_talk(f);
	assert_true(f->lanes[0].unacked >= 65536 && f->lanes[0].unacked < 65536 + 20000);
	assert_true(host->known[1].room < 4 * (sizeof large - 1));
	f->deaf = false;
	h3_client_acknowledges(f);
	host_end(host, 1, NULL);
	h3_talk(f);
	for (at = text_str(&f->seen); (at = strstr(at, " bytes")); at++, n++)
		;
	assert_true(n >= 4 * (sizeof large - 1) / 16384);
	text_clear(&f->seen);
	EXPECT_EVENTS(host, "request 1 GET /\ndone 1\n");
}

static void test_what_is_kept_until_it_is_acknowledged_is_reported(void **state)
{
	(void)state;
	f->deaf = true;
	h3_client_asks(f, "GET", "/a", NULL, NULL);
	h3_client_asks(f, "GET", "/b", NULL, NULL);
	h3_talk(f);
	host_responds(host, 1, 200, "0123456789");
	host_head(host, 2, 200, "", 4);
	host_data(host, 2, "ab");
	h3_talk(f);
	assert_int_equal(host->kept, 12);
	h3_client_acknowledges(f);
	h3_talk(f);
	assert_int_equal(host->kept, 0);
	host_data(host, 2, "cd");
	host_end(host, 2, NULL);
	h3_talk(f);
	assert_int_equal(host->kept, 2); /* and none when the connection ends, which the fixture checks */
	text_clear(&f->seen);
	text_clear(&host->events);
}

static void ten_streams(struct config *c)
{
	c->h3_max_streams = 10;
}

/* A packet for each ended stream would cost too much; but nobody waits for one. */
static void test_streams_are_given_back_when_half_of_them_are_used(void **state)
{
	static const uint64_t given[] = {0, 0, 0, 0, 4, 4, 4, 4, 8};

	(void)state;
	start_again(ten_streams);
	for (unsigned i = 0; i < sizeof given / sizeof *given; i++) {
		h3_client_asks(f, "GET", "/", NULL, NULL);
		h3_talk(f);
		host_responds(host, i + 1, 200, "ok");
		h3_talk(f);
		assert_int_equal(f->streams, given[i]);
	}
	text_clear(&f->seen);
	text_clear(&host->events);
}

/* ---- upgrades ---- */

static void test_a_stream_becomes_bytes_both_ways(void **state)
{
	int64_t id = h3_client_connects(f, "websocket", "/chat");

	(void)state;
	h3_talk(f);
	EXPECT_EVENTS(host, "request 1 GET /chat\n");
	host_upgrades(host, 1, "websocket");
	H3_EXPECT_SEEN(f, "0 :status=200\n");
	h3_client_body(f, id, "up", false);
	host_reads(host, 1, 9, 100);
	host_data(host, 1, "down");
	H3_EXPECT_SEEN(f, "0 down\n");
	EXPECT_EVENTS(host, "body 1 up\n");
	h3_client_body(f, id, "", true);
	h3_talk(f);
	EXPECT_EVENTS(host, "end 1\n");
	host_end(host, 1, NULL);
	H3_EXPECT_SEEN(f, "0 end\n");
	EXPECT_EVENTS(host, "done 1\n");
}

static void test_connect_is_a_tunnel(void **state)
{
	h3_client_connects(f, NULL, NULL);

	(void)state;
	h3_talk(f);
	EXPECT_EVENTS(host, "request 1 CONNECT \n");
	host_upgrades(host, 1, "");
	host_data(host, 1, "bytes");
	host_end(host, 1, NULL);
	H3_EXPECT_SEEN(f, "0 :status=200\n0 bytes\n0 end\n");
	h3_pass_time(f, host->config.linger_timeout);
	H3_EXPECT_SEEN(f, "0 stop NO_ERROR\n");
	text_clear(&host->events);
}

static void no_connect(struct config *c)
{
	c->h3_extended_connect = 0;
}

static void test_extended_connect_may_be_forbidden(void **state)
{
	(void)state;
	start_again(no_connect);
	h3_client_connects(f, "websocket", "/");
	h3_talk(f);
	assert_non_null(strstr(text_str(&f->seen), "0 reset MESSAGE_ERROR\n"));
	text_clear(&f->seen);
	EXPECT_EVENTS(host, "");
}

/* ---- cut anywhere ---- */

/* A request with a body, recorded, and then offered in pieces of all sizes. */
static void test_bytes_may_be_cut_anywhere(void **state)
{
	(void)state;
	for (size_t piece = 1; piece < 12; piece++) {
		/* HEADERS: :method POST, :scheme https, :authority h, :path / ; DATA "body" */
		static const uint8_t head[] = {0x01, 0x08, 0, 0, 0xd4, 0xd7, 0x50, 0x01, 'h', 0xc1, 0x00, 0x04, 'b', 'o', 'd', 'y'};
		start_again(NULL);
		f->h1.auto_read = true;
		f->next = 4;
		for (size_t at = 0; at < sizeof head; at += piece) {
			size_t n = sizeof head - at < piece ? sizeof head - at : piece;
			h3_client_sends(f, 0, head + at, n, at + n == sizeof head);
			h3_deliver(f->h3);
		}
		h3_talk(f);
		EXPECT_EVENTS(host, "request 1 POST / body=-1\nbody 1 body\nend 1\n");
		host_responds(host, 1, 200, "ok");
		h3_deliver(f->h3);
		text_clear(&f->seen);
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_requests_are_answered_in_any_order),
		TEST(test_a_response_is_streamed_with_trailers),
		TEST(test_a_file_is_a_part_of_a_body),
		TEST(test_a_client_that_waits_for_100_is_not_late),
		TEST(test_a_file_that_is_shorter_ends_its_stream),
		TEST(test_a_body_comes_as_it_is_asked_for),
		TEST(test_a_request_has_trailers),
		TEST(test_continue_is_sent_when_the_body_is_asked_for),
		TEST(test_an_early_answer_ends_the_request),
		TEST(test_a_response_to_head_has_no_body),
		TEST(test_options_of_the_whole_server),
		TEST(test_the_host_fails_before_and_behind_the_head),
		TEST(test_the_client_takes_it_back),
		TEST(test_the_client_does_not_want_the_answer),
		TEST(test_what_is_not_released_lapses),
		TEST(test_many_that_are_taken_back_end_the_connection),
		TEST(test_a_malformed_request_is_reset_alone),
		TEST(test_all_bytes_of_a_malformed_request_are_credited),
		TEST(test_a_request_without_a_byte_is_incomplete),
		TEST(test_a_head_that_is_too_large_gets_431),
		TEST(test_a_head_that_is_far_too_large_ends_the_connection),
		TEST(test_a_stream_that_ends_before_its_type_is_known_is_nothing),
		TEST(test_critical_streams_must_stay),
		TEST(test_the_client_must_not_stop_ours),
		TEST(test_frames_that_bring_nothing_end_the_connection),
		TEST(test_a_drain_has_two_steps),
		TEST(test_a_session_that_begins_during_a_drain_ends_too),
		TEST(test_what_comes_behind_a_goaway_is_rejected),
		TEST(test_so_many_requests_and_no_more),
		TEST(test_an_idle_connection_ends),
		TEST(test_a_client_without_settings_ends),
		TEST(test_a_head_that_does_not_get_complete_is_reset),
		TEST(test_a_body_is_to_come_on),
		TEST(test_a_client_that_takes_nothing_is_cut),
		TEST(test_no_more_of_a_body_leaves_than_is_allowed),
		TEST(test_no_more_of_a_file_leaves_than_is_allowed),
		TEST(test_what_nobody_looks_after_waits_for_no_allowance),
		TEST(test_who_acknowledges_nothing_is_cut),
		TEST(test_an_upload_goes_on_after_a_response_without_a_body),
		TEST(test_so_many_bytes_are_on_their_way_and_no_more),
		TEST(test_what_is_kept_until_it_is_acknowledged_is_reported),
		TEST(test_streams_are_given_back_when_half_of_them_are_used),
		TEST(test_a_stream_becomes_bytes_both_ways),
		TEST(test_connect_is_a_tunnel),
		TEST(test_extended_connect_may_be_forbidden),
		TEST(test_bytes_may_be_cut_anywhere),
	};

	return cmocka_run_group_tests_name("h3", tests, NULL, NULL);
}
