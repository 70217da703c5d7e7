/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests that are the same for HTTP/2 and HTTP/3. h2_test.c and h3_test.c include this file, and define these names before it:
 * stream_id, client_asks, client_body, talk, EXPECT_SEEN; FIRST, SECOND (ids of the first two requests); IDLE (whether the session
 * wants nothing); PIECES (how a body arrives that the host writes as memory, two parts of a file, memory, and a part of a file).
 */
#ifndef SPARX_TEST_MUX_TESTS_H
#define SPARX_TEST_MUX_TESTS_H

/* Everything that happened, as one text. */
#define OK(id, length, body) id " :status=200\n" id " content-length=" length "\n" id " " body "\n" id " end\n"

static void answers_in_any_order(void)
{
	client_asks(f, "GET", "/a", NULL, NULL);
	client_asks(f, "GET", "/b", NULL, NULL);
	talk(f);
	EXPECT_EVENTS(host, "request 1 GET /a\nrequest 2 GET /b\n");
	assert_false(IDLE);
	host_responds(host, 2, 200, "two");
	EXPECT_SEEN(f, OK(SECOND, "3", "two"));
	host_responds(host, 1, 200, "one");
	EXPECT_SEEN(f, OK(FIRST, "3", "one"));
	EXPECT_EVENTS(host, "done 2\ndone 1\n");
	assert_true(IDLE);
}

static void test_a_file_is_a_part_of_a_body(void **state)
{
	(void)state;
	client_asks(f, "GET", "/", NULL, NULL);
	talk(f);
	host_head(host, 1, 200, "", 12);
	host_data(host, 1, "ab");
	host_file(host, 1, "0123456789", 2, 5);
	host_file(host, 1, "0123456789", 0, 1);
	host_data(host, 1, "cd");
	host_file(host, 1, "0123456789", 8, 2);
	host_end(host, 1, NULL);
	EXPECT_SEEN(f, FIRST " :status=200\n" FIRST " content-length=12\n" PIECES FIRST " end\n");
	EXPECT_EVENTS(host, "request 1 GET /\ndone 1\n");
}

static void test_a_file_that_is_shorter_ends_its_stream(void **state)
{
	(void)state;
	client_asks(f, "GET", "/a", NULL, NULL);
	client_asks(f, "GET", "/b", NULL, NULL);
	talk(f);
	host_head(host, 1, 200, "", 11);
	host_file(host, 1, "0123456789", 0, 11);
	host_end(host, 1, NULL);
	host_responds(host, 2, 200, "two");
	talk(f);
	EXPECT_EVENTS(host, "request 1 GET /a\nrequest 2 GET /b\nreset 1 file\ndone 2\n");
	text_clear(&f->seen);
}

static void test_a_response_is_streamed_with_trailers(void **state)
{
	(void)state;
	client_asks(f, "GET", "/", NULL, NULL);
	talk(f);
	host_informs(host, 1, 103, "Link: </a>");
	host_head(host, 1, 200, "X-Mixed: Case", -1);
	EXPECT_SEEN(f, FIRST " :status=103\n" FIRST " link=</a>\n" FIRST " :status=200\n" FIRST " x-mixed=Case\n");
	host_data(host, 1, "one");
	EXPECT_SEEN(f, FIRST " one\n");
	host_data(host, 1, "two");
	host_data(host, 1, "three");
	host_end(host, 1, "Grpc-Status: 0");
	EXPECT_SEEN(f, FIRST " twothree\n" FIRST " grpc-status=0\n" FIRST " end\n");
	EXPECT_EVENTS(host, "request 1 GET /\ndone 1\n");
}

static void test_continue_is_sent_when_the_body_is_asked_for(void **state)
{
	stream_id id = client_asks(f, "POST", "/", "expect: 100-continue", "");

	(void)state;
	EXPECT_SEEN(f, "");
	host_reads(host, 1, 9, 100);
	EXPECT_SEEN(f, FIRST " :status=100\n");
	client_body(f, id, "body", true);
	talk(f);
	host_responds(host, 1, 200, "ok");
	EXPECT_SEEN(f, OK(FIRST, "2", "ok"));
	EXPECT_EVENTS(host, "request 1 POST / body=-1\nbody 1 body\nend 1\ndone 1\n");
}

/* More of a response's body may leave. */
static void allow(unsigned id, uint64_t bytes)
{
	struct stream *s = host->streams[id];

	s->allowance = bytes;
	s->ops->go_on(s);
	talk(f);
}

/* Two responses, of which the first may send nothing of its body. */
static void answers_without_allowance(void)
{
	client_asks(f, "GET", "/a", NULL, NULL);
	client_asks(f, "GET", "/b", NULL, NULL);
	talk(f);
	host->streams[1]->allowance = 0;
	host_responds(host, 1, 200, "0123456789");
	host_responds(host, 2, 200, "other");
	EXPECT_SEEN(f, FIRST " :status=200\n" FIRST " content-length=10\n" OK(SECOND, "5", "other"));
}

/* It sends nothing, and that is not its fault. */
static void test_a_client_that_waits_for_100_is_not_late(void **state)
{
	stream_id id = client_asks(f, "POST", "/", "expect: 100-continue", "");
	stream_id other = client_asks(f, "POST", "/", "expect: 100-continue", "");

	(void)state;
	talk(f);
	host_discards(host, 1);
	host_discards(host, 2);
	pass(host->config.body_grace);
	client_body(f, other, "it did not wait", false);
	talk(f);
	EXPECT_EVENTS(host, "request 1 POST / body=-1\nrequest 2 POST / body=-1\n");
	pass(host->config.body_grace);
	talk(f);
	EXPECT_EVENTS(host, "reset 2 timeout\n");
	host_releases(host, 2);
	host_responds(host, 1, 200, "ok");
	talk(f);
	EXPECT_EVENTS(host, "done 1\n");
	client_body(f, id, "", true);
	talk(f);
	text_clear(&f->seen);
}

#endif
