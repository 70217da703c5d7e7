/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/2 sessions: the client's bytes become events, the host's calls become what the client sees. */
#include "h2_fixture.h"

#include "proto/h2.h"
#include "proto/h2_memory.h"
#include "proto/h2_priority.h"

static struct h2_fixture fixture, *const f = &fixture;
static struct h1_fixture *const host = &fixture.h1;

static int setup(void **state)
{
	(void)state;
	h2_fixture_start(f, NULL);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	h2_fixture_end(f);
	return 0;
}

typedef int32_t stream_id;
#define FIRST "1"
#define SECOND "3"
#define PIECES "1 ab23456\n1 0cd\n1 89\n"
#define IDLE wants(host).idle
#define pass(ms) pass_time(host, ms)
#include "mux_tests.h"

/* ---- requests and responses ---- */

static void test_requests_are_answered_in_any_order(void **state)
{
	(void)state;
	assert_false(wants(host).idle); /* no SETTINGS yet */
	talk(f);
	assert_true(wants(host).idle && wants(host).read);
	answers_in_any_order();
}

/* A request and its response; returns the bytes of the fields that the client must remember. */
static size_t remembered_after_another(unsigned number)
{
	client_asks(f, "GET", "/", NULL, NULL);
	talk(f);
	host_responds(host, number, 200, "two");
	talk(f);
	return nghttp2_session_get_hd_inflate_dynamic_table_size(f->client);
}

/* An entry of the table is its name, its value, and 32 bytes (RFC 7541 4.1). */
static void test_a_date_enters_the_table_only_if_many_responses_have_it(void **state)
{
	enum { FEW = 15, MANY = 30, ENTRY = 4 + DATE_LEN + 32 };
	size_t before = remembered_after_another(1);
	unsigned number = 2;

	(void)state;
	for (; number <= FEW; number++)
		assert_int_equal(remembered_after_another(number), before);
	for (; number <= MANY; number++)
		assert_int_equal(remembered_after_another(number), before + ENTRY);
	host->now += 1000; /* the next second has few again */
	host->env.date[24]++;
	for (; number <= MANY + FEW; number++)
		assert_int_equal(remembered_after_another(number), before + ENTRY);
}

static void test_a_body_comes_as_it_is_asked_for(void **state)
{
	int32_t id = client_asks(f, "POST", "/", NULL, "");

	(void)state;
	client_body(f, id, "abcdef", false);
	talk(f);
	EXPECT_EVENTS(host, "request 1 POST / body=-1\n");
	host_reads(host, 1, 2, 2);
	talk(f);
	EXPECT_EVENTS(host, "body 1 abcd\n");
	client_body(f, id, "gh", true);
	talk(f);
	EXPECT_EVENTS(host, "");
	host_reads(host, 1, 9, 3);
	talk(f);
	EXPECT_EVENTS(host, "body 1 efgh\nend 1\n");
	host_responds(host, 1, 200, "ok");
	EXPECT_SEEN(f, OK("1", "2", "ok"));
	EXPECT_EVENTS(host, "done 1\n");
}

static void test_pieces_are_joined_into_chunks(void **state)
{
	int32_t id = client_asks(f, "POST", "/", NULL, "");

	(void)state;
	for (int i = 0; i < 200; i++) {
		client_body(f, id, "0123456789abcdef", false);
		client_to_server(f);
	}
	host_reads(host, 1, 1, 3000);
	talk(f);
	assert_int_equal(host->streams[1]->body_in, 3000);
	host_reads(host, 1, 1, 3000);
	talk(f);
	assert_int_equal(host->streams[1]->body_in, 3200);
	text_clear(&host->events);
	host_resets(host, 1, 0, 0);
	EXPECT_SEEN(f, "1 reset INTERNAL_ERROR\n");
}

static void test_a_body_that_has_begun_to_come_needs_no_100(void **state)
{
	int32_t id = client_asks(f, "POST", "/", "expect: 100-continue", "");

	(void)state;
	client_body(f, id, "bo", false);
	talk(f);
	host_reads(host, 1, 9, 100);
	EXPECT_SEEN(f, "");
	client_body(f, id, "dy", true);
	talk(f);
	host_responds(host, 1, 200, "ok");
	EXPECT_SEEN(f, OK("1", "2", "ok"));
	EXPECT_EVENTS(host, "request 1 POST / body=-1\nbody 1 body\nend 1\ndone 1\n");
}

static void test_an_early_answer_ends_the_request(void **state)
{
	int32_t id = client_asks(f, "POST", "/", NULL, "");

	(void)state;
	client_body(f, id, "some", false);
	talk(f);
	host_responds(host, 1, 200, "early");
	EXPECT_SEEN(f, OK("1", "5", "early") "1 reset NO_ERROR\n");
	EXPECT_EVENTS(host, "request 1 POST / body=-1\ndone 1\n");
	assert_true(wants(host).idle);
}

static void test_what_is_not_wanted_is_dropped(void **state)
{
	int32_t id = client_asks(f, "POST", "/", NULL, "");

	(void)state;
	talk(f);
	host_discards(host, 1);
	client_body(f, id, "some", true);
	talk(f);
	host_responds(host, 1, 200, "ok");
	EXPECT_SEEN(f, OK("1", "2", "ok"));
	EXPECT_EVENTS(host, "request 1 POST / body=-1\ndone 1\n");
}

static void test_a_response_to_head_has_no_body(void **state)
{
	(void)state;
	client_asks(f, "HEAD", "/", NULL, NULL);
	talk(f);
	host_head(host, 1, 200, NULL, -1);
	EXPECT_SEEN(f, "1 :status=200\n1 end\n");
	EXPECT_EVENTS(host, "request 1 HEAD /\ndone 1\n"); /* the host need not end it */
}

static bool host_pushes(unsigned id, const char *target)
{
	struct field accept = {SLICE_LIT("Accept"), SLICE_LIT("text/css"), 0};
	struct stream *s = host->streams[id];

	return s->ops->push(s, slice_str(target), &accept, 1);
}

static void test_a_push_is_a_request_of_its_own(void **state)
{
	(void)state;
	client_asks(f, "GET", "/page", NULL, NULL);
	talk(f);
	assert_true(host_pushes(1, "/a.css?v=1"));
	EXPECT_EVENTS(host, "request 1 GET /page\n"); /* an operation causes no event */
	EXPECT_SEEN(f, "1 :method=GET\n1 :scheme=http\n1 :path=/a.css?v=1\n1 :authority=h\n1 accept=text/css\n");
	EXPECT_EVENTS(host, "request 2 GET /a.css\n");
	host_responds(host, 2, 200, "style");
	EXPECT_SEEN(f, OK("2", "5", "style"));
	assert_true(host_pushes(1, "/never")); /* overtaken by the end of the stream that promises it */
	host_resets(host, 1, 0, 0);
	EXPECT_SEEN(f, "1 reset INTERNAL_ERROR\n");
	EXPECT_EVENTS(host, "done 2\n");
	assert_true(wants(host).idle);
}

static void test_a_push_that_cannot_be_is_nothing(void **state)
{
	nghttp2_settings_entry none = {NGHTTP2_SETTINGS_ENABLE_PUSH, 0};

	(void)state;
	client_asks(f, "GET", "/page", NULL, NULL);
	talk(f);
	nghttp2_submit_settings(f->client, NGHTTP2_FLAG_NONE, &none, 1);
	talk(f);
	assert_true(host_pushes(1, "/a.css"));
	host_responds(host, 1, 200, "page");
	EXPECT_SEEN(f, OK("1", "4", "page"));
	EXPECT_EVENTS(host, "request 1 GET /page\ndone 1\n");
}

/* ---- ends ---- */

static void test_the_host_fails_before_and_behind_the_head(void **state)
{
	(void)state;
	client_asks(f, "GET", "/", NULL, NULL);
	client_asks(f, "GET", "/", NULL, NULL);
	talk(f);
	host_resets(host, 1, 500, 0);
	EXPECT_SEEN(f, "1 :status=500\n1 content-type=text/plain\n1 content-length=26\n1 500 Internal Server Error\\n\n1 end\n");
	host_head(host, 2, 200, NULL, -1);
	host_data(host, 2, "half");
	talk(f);
	text_clear(&f->seen);
	host_resets(host, 2, 500, 0);
	EXPECT_SEEN(f, "3 reset INTERNAL_ERROR\n");
	assert_true(wants(host).idle);
}

static void test_the_client_takes_it_back(void **state)
{
	(void)state;
	client_asks(f, "GET", "/", NULL, NULL);
	talk(f);
	client_resets(f, 1);
	talk(f);
	EXPECT_EVENTS(host, "request 1 GET /\nreset 1 reset\n");
	assert_false(wants(host).idle); /* the host is working on it */
	host_releases(host, 1);
	talk(f);
	EXPECT_EVENTS(host, "");
	assert_true(wants(host).idle);
}

static void few_streams(struct config *config)
{
	config->h2_max_streams = 2;
}

static void test_what_was_taken_back_counts_until_it_is_released(void **state)
{
	(void)state;
	h2_fixture_end(f);
	h2_fixture_start(f, few_streams);
	client_asks(f, "GET", "/a", NULL, NULL);
	client_asks(f, "GET", "/b", NULL, NULL);
	talk(f);
	client_resets(f, 1);
	client_resets(f, 3);
	client_asks(f, "GET", "/c", NULL, NULL);
	EXPECT_SEEN(f, "5 reset REFUSED_STREAM\n");
	host_releases(host, 2);
	talk(f);
	client_asks(f, "GET", "/d", NULL, NULL);
	client_asks(f, "GET", "/e", NULL, NULL);
	EXPECT_SEEN(f, "9 reset REFUSED_STREAM\n");
	EXPECT_EVENTS(host, "request 1 GET /a\nrequest 2 GET /b\nreset 1 reset\nreset 2 reset\nrequest 3 GET /d\n");
	host_responds(host, 3, 200, "d");
	EXPECT_SEEN(f, OK("7", "1", "d"));
	EXPECT_EVENTS(host, "done 3\n");
}

/* A host that forgets a stream does not lock its client out forever. */
static void test_what_is_not_released_lapses(void **state)
{
	(void)state;
	client_asks(f, "GET", "/a", NULL, NULL);
	client_asks(f, "GET", "/b", NULL, NULL);
	talk(f);
	client_resets(f, 1);
	talk(f);
	EXPECT_EVENTS(host, "request 1 GET /a\nrequest 2 GET /b\nreset 1 reset\n");
	pass_time(host, 60000);
	talk(f);
	EXPECT_EVENTS(host, "lapse 1\n");
	client_resets(f, 3);
	talk(f);
	EXPECT_EVENTS(host, "reset 2 reset\n");
	client_sends(host, NULL);
	host->session->ops->close(host->session, END_CLOSED);
	host->session = NULL;
	EXPECT_EVENTS(host, "lapse 2\n");
}

/* The server's own reset, after a client's mistake, frees no place either (CVE-2025-8671). */
static void test_a_broken_body_counts_until_it_is_released(void **state)
{
	int32_t id = client_asks(f, "POST", "/", "content-length: 2", "");

	(void)state;
	talk(f);
	client_body(f, id, "some", false);
	EXPECT_SEEN(f, "1 reset PROTOCOL_ERROR\n");
	EXPECT_EVENTS(host, "request 1 POST / body=2\nreset 1 error\n");
	assert_false(wants(host).idle);
	host_releases(host, 1);
	talk(f);
	assert_true(wants(host).idle);
}

/* Nobody works on a request whose answer is complete. */
static void test_what_was_answered_is_not_owed(void **state)
{
	(void)state;
	client_asks(f, "GET", "/", NULL, NULL);
	client_to_server(f);
	host_responds(host, 1, 200, "ok");
	client_resets(f, 1);
	client_to_server(f);
	EXPECT_EVENTS(host, "request 1 GET /\nreset 1 reset\n");
	assert_null(host->owed[1]);
	talk(f);
	assert_true(wants(host).idle);
}

static void test_at_once_it_never_reaches_the_host(void **state)
{
	const uint8_t *bytes;
	struct buf all = {0};
	ssize_t n;

	(void)state;
	talk(f);
	client_asks(f, "GET", "/", NULL, NULL);
	while ((n = nghttp2_session_mem_send(f->client, &bytes)) > 0)
		buf_append(&all, bytes, (size_t)n);
	client_resets(f, 1);
	while ((n = nghttp2_session_mem_send(f->client, &bytes)) > 0)
		buf_append(&all, bytes, (size_t)n);
	client_sends_bytes(host, buf_at(&all), buf_len(&all));
	buf_free(&all);
	EXPECT_EVENTS(host, "");
	assert_true(wants(host).idle);
}

static void test_the_connection_is_cut(void **state)
{
	(void)state;
	client_asks(f, "GET", "/", NULL, NULL);
	client_asks(f, "POST", "/", NULL, "");
	talk(f);
	host_head(host, 1, 200, NULL, -1);
	host_data(host, 1, "half");
	text_clear(&host->events);
	host->session->ops->close(host->session, END_RESET);
	host->session = NULL;
	EXPECT_EVENTS(host, "reset 1 reset\nreset 2 reset\n");
}

static void test_the_client_closes_its_side(void **state)
{
	(void)state;
	client_asks(f, "GET", "/", NULL, NULL);
	client_asks(f, "POST", "/", NULL, "");
	talk(f);
	text_clear(&f->seen);
	client_sends(host, NULL);
	EXPECT_EVENTS(host, "request 1 GET /\nrequest 2 POST / body=-1\nhangup 1\nreset 2 closed\n");
	host_responds(host, 1, 200, "ok");
	server_to_client(f);
	EXPECT_TEXT(&f->seen, "3 reset CANCEL\n" OK("1", "2", "ok"));
	assert_int_equal(wants(host).close, CLOSE_NOW);
	text_clear(&host->events);
}

/* It can no longer open a window, so bytes that wait for one need not be kept until write_timeout. */
static void test_no_window_is_waited_for_whose_client_has_closed_its_side(void **state)
{
	nghttp2_settings_entry none = {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 0};

	(void)state;
	nghttp2_submit_settings(f->client, NGHTTP2_FLAG_NONE, &none, 1);
	client_asks(f, "GET", "/a", NULL, NULL);
	client_asks(f, "GET", "/b", NULL, NULL);
	client_asks(f, "GET", "/c", NULL, NULL);
	talk(f);
	nghttp2_submit_window_update(f->client, NGHTTP2_FLAG_NONE, 3, 2);
	host_responds(host, 1, 200, "stuck");
	talk(f);
	text_clear(&f->seen);
	client_sends(host, NULL);
	EXPECT_EVENTS(host, "request 1 GET /a\nrequest 2 GET /b\nrequest 3 GET /c\nhangup 1\nhangup 2\nhangup 3\n");
	assert_int_equal(wants(host).deadline, host->now);
	host->session->ops->tick(host->session);
	EXPECT_EVENTS(host, "reset 1 closed\n");
	host_responds(host, 2, 200, "ok"); /* for which there is a window */
	host_responds(host, 3, 200, "late");
	server_to_client(f);
	host->session->ops->tick(host->session);
	EXPECT_EVENTS(host, "done 2\nreset 3 closed\n");
	server_to_client(f);
	EXPECT_TEXT(&f->seen, "1 reset CANCEL\n3 :status=200\n3 content-length=2\n5 :status=200\n5 content-length=4\n3 ok\n3 end\n"
			      "5 reset CANCEL\n");
	assert_int_equal(wants(host).close, CLOSE_NOW);
}

static void test_a_drain_has_two_steps(void **state)
{
	(void)state;
	client_asks(f, "GET", "/a", NULL, NULL);
	talk(f);
	host->session->ops->drain(host->session);
	server_to_client(f);
	EXPECT_TEXT(&f->seen, "goaway 2147483647 NO_ERROR\n");
	client_to_server(f);
	server_to_client(f);
	EXPECT_TEXT(&f->seen, "goaway 1 NO_ERROR\n");
	assert_int_equal(wants(host).close, CLOSE_NOT);
	host_responds(host, 1, 200, "ok");
	EXPECT_SEEN(f, OK("1", "2", "ok"));
	assert_int_equal(wants(host).close, CLOSE_LINGER);
	text_clear(&host->events);
}

static void during_a_drain(struct config *c)
{
	container_of(c, struct h1_fixture, config)->env.draining = true;
}

/* Its handshake, or its first bytes, came after the drain had begun. */
static void test_a_session_that_begins_during_a_drain_ends_too(void **state)
{
	(void)state;
	h2_fixture_end(f);
	h2_fixture_start(f, during_a_drain);
	client_asks(f, "GET", "/a", NULL, NULL);
	client_to_server(f);
	EXPECT_EVENTS(host, "request 1 GET /a\n");
	EXPECT_SEEN(f, "goaway 2147483647 NO_ERROR\ngoaway 1 NO_ERROR\n");
	host_responds(host, 1, 200, "ok");
	EXPECT_SEEN(f, OK("1", "2", "ok"));
	assert_int_equal(wants(host).close, CLOSE_LINGER);
	text_clear(&host->events);
}

static void test_a_drain_does_not_wait_for_a_silent_client(void **state)
{
	(void)state;
	client_asks(f, "GET", "/a", NULL, NULL);
	talk(f);
	host->session->ops->drain(host->session);
	server_to_client(f);
	EXPECT_TEXT(&f->seen, "goaway 2147483647 NO_ERROR\n");
	EXPECT_DEADLINE(host, 1000);
	server_to_client(f);
	EXPECT_TEXT(&f->seen, "goaway 1 NO_ERROR\n");
	host_responds(host, 1, 200, "ok");
	server_to_client(f);
	EXPECT_TEXT(&f->seen, OK("1", "2", "ok"));
	assert_int_equal(wants(host).close, CLOSE_LINGER);
	text_clear(&host->events);
}

/* ---- time ---- */

/* After a second memory is freed, if this nghttp2 keeps a page of it (h2_memory). Returns the time that has passed. */
static uint64_t pass_trim(void)
{
	enum { TRIM_MS = 1000 };

	if (wants(host).deadline != host->now + TRIM_MS)
		return 0;
	EXPECT_DEADLINE(host, TRIM_MS);
	return TRIM_MS;
}

static void test_an_idle_connection_ends(void **state)
{
	(void)state;
	talk(f);
	EXPECT_DEADLINE(host, 60000 - pass_trim());
	server_to_client(f);
	EXPECT_TEXT(&f->seen, "goaway 0 NO_ERROR\n");
	assert_int_equal(wants(host).close, CLOSE_LINGER);
}

/* HEADERS of stream 1 with 6 bytes, of which 2 have arrived: the connection may be closed when room is needed. */
static void test_a_head_that_is_not_complete_is_no_work(void **state)
{
	static const uint8_t half[] = {0, 0, 6, 1, 5, 0, 0, 0, 1, 0x82, 0x86}, rest[] = {0x84, 0x41, 1, 0x68};

	(void)state;
	assert_true(wants(host).begun); /* no SETTINGS yet */
	talk(f);
	client_sends_bytes(host, half, sizeof half);
	assert_true(wants(host).begun && !wants(host).idle);
	client_sends_bytes(host, rest, sizeof rest);
	EXPECT_EVENTS(host, "request 1 GET /\n");
	assert_false(wants(host).begun);
	host_responds(host, 1, 200, "");
}

static void test_settings_are_to_be_acknowledged(void **state)
{
	(void)state;
	client_to_server(f);
	f->deaf = true;
	server_to_client(f);
	EXPECT_DEADLINE(host, 5000 - pass_trim());
	server_to_client(f);
	EXPECT_TEXT(&f->seen, "goaway 0 SETTINGS_TIMEOUT\n");
}

static void test_a_body_is_to_come_on(void **state)
{
	int32_t id = client_asks(f, "POST", "/", NULL, "");

	(void)state;
	client_body(f, id, "x", false);
	talk(f);
	pass_time(host, 20000);
	host_reads(host, 1, 9, 100); /* the time that it waited for credit does not count */
	talk(f);
	text_clear(&host->events);
	pass_time(host, 9999);
	talk(f);
	EXPECT_EVENTS(host, "");
	pass_time(host, 10);
	EXPECT_EVENTS(host, "reset 1 timeout\n");
	EXPECT_SEEN(f, "1 :status=408\n1 content-type=text/plain\n1 content-length=20\n1 408 Request Timeout\\n\n1 end\n1 reset "
		       "NO_ERROR\n");
}

static void test_nobody_is_late_while_sockets_are_not_read(void **state)
{
	int32_t id = client_asks(f, "POST", "/", NULL, "");

	(void)state;
	client_body(f, id, "x", false);
	talk(f);
	host_reads(host, 1, 9, 100);
	talk(f);
	text_clear(&host->events);
	host->env.read_paused = true;
	pass_time(host, 20000);
	client_body(f, id, "yz", true);
	host->env.read_paused = false;
	talk(f);
	EXPECT_EVENTS(host, "body 1 yz\nend 1\n");
}

static void opens_window_after(uint64_t ms, int32_t id, uint32_t n);

static void test_a_stream_without_window_ends(void **state)
{
	nghttp2_settings_entry none = {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 0};

	(void)state;
	nghttp2_submit_settings(f->client, NGHTTP2_FLAG_NONE, &none, 1);
	client_asks(f, "GET", "/", NULL, NULL);
	talk(f);
	host_responds(host, 1, 200, "stuck");
	EXPECT_SEEN(f, "1 :status=200\n1 content-length=5\n");
	EXPECT_DEADLINE(host, 30000);
	EXPECT_SEEN(f, "1 reset CANCEL\n");
	EXPECT_EVENTS(host, "request 1 GET /\nreset 1 timeout\n");
	assert_true(wants(host).idle);
}

/* One stream waits for its rate, which is not its client's fault; others continue. */
static void test_no_more_of_a_body_leaves_than_is_allowed(void **state)
{
	(void)state;
	answers_without_allowance();
	allow(1, 3);
	assert_int_equal(host->streams[1]->allowance, 0);
	EXPECT_SEEN(f, "1 012\n");
	opens_window_after(3 * host->config.write_timeout, 1, 0);
	text_clear(&host->events);
	allow(1, 4);
	EXPECT_SEEN(f, "1 3456\n");
	allow(1, 100);
	EXPECT_SEEN(f, "1 789\n1 end\n");
	assert_true(wants(host).idle);
	text_clear(&host->events);
}

/* After some time the client opens a window by n, and sends nothing else. */
static void opens_window_after(uint64_t ms, int32_t id, uint32_t n)
{
	uint8_t frame[13] = {0, 0, 4, NGHTTP2_WINDOW_UPDATE, 0, 0, 0, 0, (uint8_t)id, 0, 0, (uint8_t)(n >> 8), (uint8_t)n};

	f->deaf = true;
	pass_time(host, ms);
	if (wants(host).deadline && host->now >= wants(host).deadline)
		host->session->ops->tick(host->session);
	if (n > 0)
		client_sends_bytes(host, frame, sizeof frame);
	server_to_client(f);
}

/* WINDOW_UPDATE of one octet, every two seconds (RFC 9113 10.5). */
static void test_a_window_of_one_octet_is_no_progress(void **state)
{
	nghttp2_settings_entry none = {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 0};
	uint64_t began = host->now;
	int32_t id;

	(void)state;
	nghttp2_submit_settings(f->client, NGHTTP2_FLAG_NONE, &none, 1);
	id = client_asks(f, "GET", "/", NULL, NULL);
	talk(f);
	host_responds(host, 1, 200, "much that is to be said");
	text_clear(&host->events);
	while (!text_str(&host->events)[0] && host->now < began + 100000) {
		opens_window_after(2000, id, 1);
	}
	EXPECT_EVENTS(host, "reset 1 timeout\n");
	assert_in_range(host->now - began, 30000, 32000);
	text_clear(&f->seen);
}

static void test_who_opens_its_window_by_the_least_rate_is_not_cut(void **state)
{
	nghttp2_settings_entry none = {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 0};
	struct text much = {0};
	int32_t id;

	(void)state;
	text_add_run(&much, 30000);
	nghttp2_submit_settings(f->client, NGHTTP2_FLAG_NONE, &none, 1);
	id = client_asks(f, "GET", "/", NULL, NULL);
	talk(f);
	host_responds(host, 1, 200, text_str(&much));
	text_clear(&host->events);
	for (unsigned i = 0; i < 30; i++) {
		opens_window_after(4000, id, 960);
	}
	EXPECT_EVENTS(host, "");
	opens_window_after(31000, id, 0);
	EXPECT_EVENTS(host, "reset 1 timeout\n");
	text_clear(&f->seen);
	text_free(&much);
}

/* The connection's window: each answer that waits for it must reach its own rate. */
static void test_a_connection_s_window_is_for_all_that_wait(void **state)
{
	nghttp2_settings_entry much = {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 1 << 20};
	uint64_t began = host->now;
	struct text text = {0};

	(void)state;
	text_add_run(&text, 60000);
	nghttp2_submit_settings(f->client, NGHTTP2_FLAG_NONE, &much, 1);
	nghttp2_session_set_local_window_size(f->client, NGHTTP2_FLAG_NONE, 0, 65535);
	for (unsigned i = 0; i < 4; i++)
		client_asks(f, "GET", "/", NULL, NULL);
	talk(f);
	for (unsigned i = 1; i <= 4; i++)
		host_responds(host, i, 200, text_str(&text));
	nghttp2_session_set_local_window_size(f->client, NGHTTP2_FLAG_NONE, 0, 65535);
	text_clear(&host->events);
	while (!strstr(text_str(&host->events), "timeout") && host->now < began + 200000) {
		opens_window_after(1000, 0, 240); /* of 960 */
	}
	assert_in_range(host->now - began, 30000, 60000);
	text_clear(&host->events);
	text_clear(&f->seen);
	text_free(&text);
}

static void test_interim_answers_and_promises_that_wait_are_told(void **state)
{
	struct stream *s;

	(void)state;
	client_asks(f, "GET", "/", NULL, NULL);
	talk(f);
	s = host->streams[1];
	for (unsigned i = 0; i < 100; i++)
		assert_true(s->ops->send_info(s, 103, NULL, 0));
	assert_in_range(s->interim, 25600, 40000); /* a waiting frame costs much memory */
	talk(f);
	assert_int_equal(s->interim, 0);
	assert_true(s->ops->push(s, SLICE_LIT("/pushed"), NULL, 0));
	assert_in_range(s->interim, 256, 600);
	talk(f);
	assert_int_equal(s->interim, 0);
	host_responds(host, 1, 200, "");
	host_responds(host, 2, 200, "");
	talk(f);
	text_clear(&f->seen);
	text_clear(&host->events);
}

static void test_all_streams_that_wait_for_the_client_are_a_stalled_connection(void **state)
{
	nghttp2_settings_entry none = {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 0};
	const struct session_ops *ops = host->session->ops;
	int32_t upload;

	(void)state;
	assert_false(ops->stalled(host->session));
	nghttp2_submit_settings(f->client, NGHTTP2_FLAG_NONE, &none, 1);
	client_asks(f, "GET", "/", NULL, NULL);
	upload = client_asks(f, "POST", "/", NULL, "");
	talk(f);
	assert_false(ops->stalled(host->session)); /* the host has to answer */
	host_responds(host, 1, 200, "stuck");
	talk(f);
	assert_false(ops->stalled(host->session)); /* and to read */
	host_reads(host, 2, 2, 100);
	talk(f);
	assert_true(ops->stalled(host->session));
	client_body(f, upload, "x", true);
	talk(f);
	assert_false(ops->stalled(host->session));
	text_clear(&f->seen);
	text_clear(&host->events);
}

static void test_frames_for_streams_that_are_over_are_counted(void **state)
{
	static const uint8_t data[] = {0, 0, 0, NGHTTP2_DATA, NGHTTP2_FLAG_END_STREAM, 0, 0, 0, 1};

	(void)state;
	for (unsigned i = 1; i <= 70; i++) {
		client_asks(f, "GET", "/", NULL, NULL);
		talk(f);
		host_responds(host, i, 200, "");
		talk(f);
	}
	text_clear(&f->seen);
	for (unsigned i = 0; i < 3000; i++)
		client_sends_bytes(host, data, sizeof data);
	talk(f);
	assert_non_null(strstr(text_str(&f->seen), "goaway 139 ENHANCE_YOUR_CALM"));
	text_clear(&f->seen);
	text_clear(&host->events);
}

static void test_a_turn_takes_so_many_frames_and_no_more(void **state)
{
	static const uint8_t ping[17] = {0, 0, 8, NGHTTP2_PING, 0, 0, 0, 0, 0, 1};

	(void)state;
	talk(f);
	host->owner.max_steps = host->owner.steps = 10;
	for (unsigned i = 0; i < 10; i++)
		client_sends_bytes(host, ping, sizeof ping);
	assert_int_equal(buf_len(&host->tail), sizeof ping * 10);
	host->owner.steps = 4;
	offer_again(host);
	assert_int_equal(buf_len(&host->tail), sizeof ping * 4);
	assert_true(session_is_tired(&host->owner));
	host->owner.steps = 0;
	offer_again(host);
	assert_int_equal(buf_len(&host->tail), 0);
	host->owner.max_steps = 0;
	talk(f);
	text_clear(&f->seen);
}

static void test_a_client_that_does_not_read_is_cut(void **state)
{
	(void)state;
	client_asks(f, "GET", "/", NULL, NULL);
	talk(f);
	host_responds(host, 1, 200, "stuck");
	socket_takes(host, 3);
	EXPECT_DEADLINE(host, 30000);
	assert_int_equal(wants(host).close, CLOSE_CUT);
	text_clear(&host->events);
	host->session->ops->close(host->session, END_TIMEOUT);
	host->session = NULL;
	text_clear(&host->events);
	text_clear(&host->wire);
}

static void test_a_push_that_leaves_after_the_end_is_no_request(void **state)
{
	(void)state;
	client_asks(f, "GET", "/page", NULL, NULL);
	talk(f);
	host_head(host, 1, 200, NULL, -1);
	socket_takes(host, 3);
	assert_true(host_pushes(1, "/a.css"));
	EXPECT_DEADLINE(host, 30000);
	assert_int_equal(wants(host).close, CLOSE_CUT);
	socket_takes(host, 10); /* conn writes once more before it closes: the promise becomes a frame */
	host->session->ops->close(host->session, END_TIMEOUT);
	host->session = NULL;
	EXPECT_EVENTS(host, "request 1 GET /page\nreset 1 timeout\n");
	text_clear(&host->wire);
}

static void test_done_waits_for_the_socket(void **state)
{
	(void)state;
	client_asks(f, "GET", "/", NULL, NULL);
	talk(f);
	text_clear(&host->events);
	host_responds(host, 1, 200, "0123456789");
	for (int i = 0; i < 10; i++) {
		socket_takes(host, 1);
		EXPECT_EVENTS(host, "");
	}
	assert_int_equal(host->known[1].room, 0);
	server_to_client(f);
	EXPECT_EVENTS(host, "done 1\n");
}

/* For a text in which runs are written as x*N. */
static size_t sum_of_runs(struct text *t, const char *run)
{
	size_t sum = 0;

	for (const char *at = text_str(t); (at = strstr(at, run)); at++)
		sum += strtoul(at + strlen(run), NULL, 10);
	return sum;
}

/* When the turn ends, part of it is in frames and part waits for the client's window; the host's own bytes are gone by then. */
static void test_what_was_lent_is_copied_at_the_end_of_its_turn(void **state)
{
	static char large[100001];

	(void)state;
	memset(large, 'x', sizeof large - 1);
	client_asks(f, "GET", "/", NULL, NULL);
	talk(f);
	host_head(host, 1, 200, NULL, -1);
	host_data(host, 1, large);
	socket_takes(host, 10000);
	host->session->ops->own(host->session);
	memset(large, 'Q', sizeof large - 1);
	host_end(host, 1, NULL);
	for (int i = 0; i < 10; i++)
		talk(f);
	assert_int_equal(sum_of_runs(&f->seen, "x*"), 100000);
	assert_null(strchr(text_str(&f->seen), 'Q'));
	assert_non_null(strstr(text_str(&f->seen), "1 end\n"));
	EXPECT_EVENTS(host, "request 1 GET /\ndone 1\n");
}

/* ---- upgrades ---- */

static void test_a_stream_becomes_bytes_both_ways(void **state)
{
	int32_t id = client_connects(f, "lines", "/x");

	(void)state;
	client_body(f, id, "early", false);
	talk(f);
	EXPECT_EVENTS(host, "request 1 GET /x\n");
	host_upgrades(host, 1, "lines");
	talk(f);
	EXPECT_EVENTS(host, ""); /* no credit */
	host_reads(host, 1, 1, 3);
	host_data(host, 1, "down");
	EXPECT_SEEN(f, "1 :status=200\n1 down\n");
	EXPECT_EVENTS(host, "body 1 ear\n");
	host_reads(host, 1, 9, 100);
	client_body(f, id, "late", false);
	talk(f);
	EXPECT_EVENTS(host, "body 1 lylate\n");
	client_body(f, id, "", true);
	talk(f);
	EXPECT_EVENTS(host, "end 1\n");
	host_end(host, 1, NULL);
	EXPECT_SEEN(f, "1 end\n");
	EXPECT_EVENTS(host, "done 1\n");
	assert_true(wants(host).idle);
}

/* Returns the first one's stream; the other's is the next. */
static int32_t two_tunnels(void)
{
	int32_t id = client_connects(f, "lines", "/x");

	client_connects(f, "lines", "/y");
	talk(f);
	host_upgrades(host, 1, "lines");
	host_upgrades(host, 2, "lines");
	return id;
}

/* Both sides must end an upgraded stream; the server does not wait long for a client that does not. */
static void test_a_client_has_a_moment_to_end_its_side(void **state)
{
	int32_t id = two_tunnels();

	(void)state;
	host_end(host, 1, NULL);
	host_end(host, 2, NULL);
	EXPECT_SEEN(f, "1 :status=200\n3 :status=200\n1 end\n3 end\n");
	EXPECT_EVENTS(host, "request 1 GET /x\nrequest 2 GET /y\ndone 1\ndone 2\n");
	client_body(f, id, "late", true);
	EXPECT_SEEN(f, "");
	assert_false(wants(host).idle);
	EXPECT_DEADLINE(host, 1000);
	EXPECT_SEEN(f, "3 reset NO_ERROR\n");
	assert_true(wants(host).idle);
	EXPECT_EVENTS(host, "");
}

static void test_connect_is_a_tunnel(void **state)
{
	int32_t id = client_connects(f, NULL, NULL);

	(void)state;
	client_body(f, id, "hello", true);
	talk(f);
	EXPECT_EVENTS(host, "request 1 CONNECT \nhangup 1\n");
	host_upgrades(host, 1, "");
	host_reads(host, 1, 9, 100);
	talk(f);
	EXPECT_EVENTS(host, "body 1 hello\nend 1\n");
	host_resets(host, 1, 0, 0);
	EXPECT_SEEN(f, "1 :status=200\n1 reset CANCEL\n");
}

static void test_a_connect_may_be_refused(void **state)
{
	int32_t id = client_connects(f, NULL, NULL);

	(void)state;
	client_body(f, id, "early", false);
	talk(f);
	host_responds(host, 1, 403, "no");
	EXPECT_SEEN(f, "1 :status=403\n1 content-length=2\n1 no\n1 end\n1 reset NO_ERROR\n");
	EXPECT_EVENTS(host, "request 1 CONNECT \ndone 1\n");
	assert_true(wants(host).idle);
}

/* A tunnel may be silent, and a tunnel that is not read delays nobody. */
static void test_a_tunnel_has_no_rate(void **state)
{
	int32_t id = two_tunnels();

	(void)state;
	for (int i = 0; i < 20; i++) {
		client_body(f, id, "0123456789", false);
		talk(f);
	}
	host_reads(host, 2, 9, 100);
	client_body(f, id + 2, "read", false);
	talk(f);
	EXPECT_EVENTS(host, "request 1 GET /x\nrequest 2 GET /y\nbody 2 read\n");
	pass_time(host, 3600000);
	text_clear(&f->seen);
	host_data(host, 2, "still here");
	EXPECT_SEEN(f, "3 still here\n");
	EXPECT_EVENTS(host, "");
}

/* ---- bytes cut anywhere ---- */

static void whole_exchange(void)
{
	int32_t id = client_asks(f, "POST", "/a?b", "cookie: a\ncookie: b\nte: trailers", "");

	host->auto_read = true;
	client_body(f, id, "some", false);
	client_to_server(f);
	client_body(f, id, "more", true);
	client_to_server(f);
	client_asks(f, "GET", "/c", "priority: u=1", NULL);
	client_to_server(f);
	id = client_asks(f, "PUT", "/d", NULL, "");
	client_to_server(f);
	client_resets(f, id);
	client_to_server(f);
	id = client_connects(f, "lines", "/e");
	client_body(f, id, "tunnel", true);
	client_to_server(f);
}

static void finish_exchange(void)
{
	for (unsigned i = 1; i <= host->count; i++)
		if (host->streams[i])
			host_responds(host, i, 200, "ok");
	server_to_client(f);
	text_clear(&f->seen);
}

static void again(void)
{
	h2_fixture_end(f);
	h2_fixture_start(f, NULL);
	host->auto_read = true;
}

static void test_bytes_may_be_cut_anywhere(void **state)
{
	struct text wanted = {0};
	struct buf bytes = {0};

	(void)state;
	whole_exchange();
	text_add(&wanted, "%s", text_str(&host->events));
	buf_append(&bytes, buf_at(&f->sent), buf_len(&f->sent));
	assert_true(buf_len(&bytes) > 100);
	finish_exchange();
	for (size_t cut = 1; cut < buf_len(&bytes); cut++) {
		again();
		client_sends_bytes(host, buf_at(&bytes), cut);
		client_sends_bytes(host, buf_at(&bytes) + cut, buf_len(&bytes) - cut);
		if (strstr(text_str(&host->events), "PUT /d")) /* unless its end arrived with its beginning */
			EXPECT_TEXT(&host->events, text_str(&wanted));
		finish_exchange();
	}
	again();
	for (size_t at = 0; at < buf_len(&bytes); at++)
		client_sends_bytes(host, buf_at(&bytes) + at, 1);
	EXPECT_TEXT(&host->events, text_str(&wanted));
	finish_exchange();
	text_free(&wanted);
	buf_free(&bytes);
}

/* ---- priorities ---- */

static void expect_priority(const char *text, unsigned urgency, bool incremental)
{
	unsigned u = 9;
	bool i = !incremental;
	uint8_t *copy = exact_copy(text, strlen(text));

	assert_true(h2_priority_parse(slice_of(copy, strlen(text)), &u, &i));
	assert_int_equal(u, urgency);
	assert_int_equal(i, incremental);
	free(copy);
}

static void test_priority_fields_are_dictionaries(void **state)
{
	static const char *const wrong[] = {",",      "u=1,",   "u=1 i", "=1",   "U=1",      "u=", "u=1;",         "u=1;=2",
					    "u=1,,i", "u=1;a=", "\"u\"", "u=\"", "u=\"\\\"", "1",  "u=1, i, \xff", "u=1\n"};
	unsigned u = 9;
	bool i = true;

	(void)state;
	expect_priority("", 3, false);
	expect_priority("  ", 3, false);
	expect_priority("u=0", 0, false);
	expect_priority("u=7, i", 7, true);
	expect_priority("i,u=1", 1, true);
	expect_priority("  u=2 \t,\t i=?1  ", 2, true);
	expect_priority("i, i=?0", 3, false);
	expect_priority("u=1, u=5", 5, false);
	expect_priority("u=8, i=1", 3, false); /* out of range, or of another type: as if it were absent */
	expect_priority("u=-1, i=?2", 3, false);
	expect_priority("u=\"1\", u2=1", 3, false);
	expect_priority("u=1;a;b=2 , x=\"a, u=2 \\\" ;\";y=1, *a_-.1", 1, false);
	for (unsigned n = 0; n < sizeof wrong / sizeof *wrong; n++) {
		uint8_t *copy = exact_copy(wrong[n], strlen(wrong[n]));
		if (h2_priority_parse(slice_of(copy, strlen(wrong[n])), &u, &i))
			fail_msg("taken: %s", wrong[n]);
		free(copy);
	}
	assert_int_equal(u, 9);
	assert_true(i);
}

static void say_priority(int32_t id, const char *value)
{
	size_t len = strlen(value) + 4;
	uint8_t frame[64] = {0, 0, (uint8_t)len, NGHTTP2_PRIORITY_UPDATE, 0, 0, 0, 0, 0, 0, 0, (uint8_t)(id >> 8), (uint8_t)id};

	memcpy(frame + 13, value, len - 4);
	client_sends_bytes(host, frame, 9 + len);
}

/* nghttp2 1.52 would keep such streams in a list and write to them after they are freed: valgrind detects it. */
static void test_a_priority_before_its_request_is_forgotten_with_it(void **state)
{
	(void)state;
	talk(f);
	for (unsigned n = 1; n <= 60; n++) {
		say_priority((int32_t)n * 2 - 1, "u=1");
		say_priority((int32_t)n * 2 + 1, "u=5, i");
		client_asks(f, "GET", "/", NULL, NULL);
		talk(f);
		host_responds(host, n, 200, "ok");
		talk(f);
		text_clear(&f->seen);
	}
	assert_true(wants(host).idle);
}

/* ---- nghttp2's memory ---- */

static void test_small_memory_is_kept_for_its_size_up_to_a_limit(void **state)
{
	enum { COUNT_MAX = 4 * H2_KEPT_BYTES / H2_SMALL };
	struct h2_memory *m = calloc(1, sizeof *m);
	nghttp2_mem *mem;
	void **at = calloc(COUNT_MAX, sizeof *at), *first;

	(void)state;
	assert_non_null(m);
	assert_non_null(at);
	h2_memory_init(m);
	mem = &m->mem;
	for (size_t n = 1; n <= H2_SMALL + 64; n += 7) {
		first = mem->malloc(n, m);
		assert_non_null(first);
		memset(first, 0xa5, n);
		mem->free(first, m);
		at[0] = mem->malloc(n, m);
		assert_non_null(at[0]);
		memset(at[0], 0x5a, n);
		at[0] = mem->realloc(at[0], n + 100, m);
		assert_int_equal(((uint8_t *)at[0])[n - 1], 0x5a);
		mem->free(at[0], m);
	}
	mem->free(NULL, m);
	for (size_t i = 0; i < COUNT_MAX; i++)
		assert_non_null(at[i] = mem->malloc(H2_SMALL - H2_STEP_HEAD, m));
	assert_true(m->kept <= H2_KEPT_BYTES);
	for (size_t i = 0; i < COUNT_MAX; i++)
		mem->free(at[i], m);
	assert_true(m->kept <= H2_KEPT_BYTES + H2_SMALL);
	h2_memory_free(m);
	free(at);
	free(m);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_small_memory_is_kept_for_its_size_up_to_a_limit),
		CASE(test_requests_are_answered_in_any_order),
		CASE(test_a_date_enters_the_table_only_if_many_responses_have_it),
		CASE(test_a_response_is_streamed_with_trailers),
		CASE(test_a_file_is_a_part_of_a_body),
		CASE(test_a_client_that_waits_for_100_is_not_late),
		CASE(test_a_file_that_is_shorter_ends_its_stream),
		CASE(test_a_body_comes_as_it_is_asked_for),
		CASE(test_pieces_are_joined_into_chunks),
		CASE(test_priority_fields_are_dictionaries),
		CASE(test_a_priority_before_its_request_is_forgotten_with_it),
		CASE(test_continue_is_sent_when_the_body_is_asked_for),
		CASE(test_a_body_that_has_begun_to_come_needs_no_100),
		CASE(test_an_early_answer_ends_the_request),
		CASE(test_what_is_not_wanted_is_dropped),
		CASE(test_a_response_to_head_has_no_body),
		CASE(test_a_push_is_a_request_of_its_own),
		CASE(test_a_push_that_cannot_be_is_nothing),
		CASE(test_the_host_fails_before_and_behind_the_head),
		CASE(test_the_client_takes_it_back),
		CASE(test_what_was_taken_back_counts_until_it_is_released),
		CASE(test_what_is_not_released_lapses),
		CASE(test_a_broken_body_counts_until_it_is_released),
		CASE(test_what_was_answered_is_not_owed),
		CASE(test_at_once_it_never_reaches_the_host),
		CASE(test_the_connection_is_cut),
		CASE(test_the_client_closes_its_side),
		CASE(test_no_window_is_waited_for_whose_client_has_closed_its_side),
		CASE(test_a_drain_has_two_steps),
		CASE(test_a_session_that_begins_during_a_drain_ends_too),
		CASE(test_a_drain_does_not_wait_for_a_silent_client),
		CASE(test_an_idle_connection_ends),
		CASE(test_a_head_that_is_not_complete_is_no_work),
		CASE(test_settings_are_to_be_acknowledged),
		CASE(test_a_body_is_to_come_on),
		CASE(test_nobody_is_late_while_sockets_are_not_read),
		CASE(test_a_stream_without_window_ends),
		CASE(test_no_more_of_a_body_leaves_than_is_allowed),
		CASE(test_a_window_of_one_octet_is_no_progress),
		CASE(test_who_opens_its_window_by_the_least_rate_is_not_cut),
		CASE(test_a_connection_s_window_is_for_all_that_wait),
		CASE(test_interim_answers_and_promises_that_wait_are_told),
		CASE(test_all_streams_that_wait_for_the_client_are_a_stalled_connection),
		CASE(test_frames_for_streams_that_are_over_are_counted),
		CASE(test_a_turn_takes_so_many_frames_and_no_more),
		CASE(test_a_client_that_does_not_read_is_cut),
		CASE(test_a_push_that_leaves_after_the_end_is_no_request),
		CASE(test_done_waits_for_the_socket),
		CASE(test_what_was_lent_is_copied_at_the_end_of_its_turn),
		CASE(test_a_stream_becomes_bytes_both_ways),
		CASE(test_a_client_has_a_moment_to_end_its_side),
		CASE(test_connect_is_a_tunnel),
		CASE(test_a_connect_may_be_refused),
		CASE(test_a_tunnel_has_no_rate),
		CASE(test_bytes_may_be_cut_anywhere),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
