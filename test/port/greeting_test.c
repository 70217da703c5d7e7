/* SPDX-License-Identifier: Apache-2.0 */
/* The PROXY header on a real socket: bytes after it stay in the socket, however it is cut. */
#include "conn/greeting.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proxied_corpus.h"
#include "support.h"

enum { BOUND = 4096 };

static int ends[2]; /* ours, the proxy's */
static uint8_t room[BOUND];

static int open_ends(void **state)
{
	(void)state;
	return socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends);
}

static int close_ends(void **state)
{
	(void)state;
	close(ends[0]);
	close(ends[1]);
	return 0;
}

static void send_all(const void *bytes, size_t n)
{
	if (n)
		assert_int_equal(write(ends[1], bytes, n), (ssize_t)n);
}

/* What remains in the socket, up to the mark that the test added. */
static size_t drain(uint8_t *to, size_t size)
{
	ssize_t n = read(ends[0], to, size);

	return n > 0 ? (size_t)n : 0;
}

static void cut_at(const struct raw_header *h, size_t cut)
{
	static const char behind[] = "behind";
	struct greeting *g = greeting_new();
	enum proxied_step step = PROXIED_MORE;
	struct io_result r;
	uint8_t left[BOUND];
	struct text all = {0};
	size_t n;

	send_all(h->bytes.at, cut);
	r = greeting_read(g, ends[0], room, BOUND, &step);
	if (r.status == IO_AGAIN) {
		send_all(h->bytes.at + cut, h->bytes.len - cut);
		send_all(behind, sizeof behind);
		r = greeting_read(g, ends[0], room, BOUND, &step);
	} else {
		send_all(h->bytes.at + cut, h->bytes.len - cut);
		send_all(behind, sizeof behind);
	}
	assert_int_equal(r.status, IO_OK);
	n = drain(left, sizeof left);
	if (step == PROXIED_DONE) {
		assert_int_equal(n, sizeof behind);
		assert_memory_equal(left, behind, sizeof behind);
	} else if (step == PROXIED_NOT) {
		text_add_bytes(&all, buf_at(&g->bytes), buf_len(&g->bytes));
		text_add_bytes(&all, left, n);
		assert_int_equal(buf_len(&all.buf), h->bytes.len + sizeof behind);
		assert_memory_equal(buf_at(&all.buf), h->bytes.at, h->bytes.len);
	} else {
		assert_int_equal(step, PROXIED_BAD);
		assert_non_null(g->why);
	}
	text_free(&all);
	greeting_free(g);
}

static void test_no_byte_behind_it_is_taken(void **state)
{
	(void)state;
	for (size_t i = 0; i < PROXIED_CORPUS; i++)
		for (size_t cut = 0; cut <= proxied_corpus[i].bytes.len; cut++)
			cut_at(&proxied_corpus[i], cut);
}

static void test_what_a_socket_gives_else(void **state)
{
	struct greeting *g = greeting_new();
	enum proxied_step step;

	(void)state;
	assert_int_equal(greeting_read(g, ends[0], room, BOUND, &step).status, IO_AGAIN);
	send_all("PROXY ", 6);
	assert_int_equal(greeting_read(g, ends[0], room, BOUND, &step).status, IO_AGAIN);
	assert_int_equal(drain(room, sizeof room), 0); /* it is not reported again and again */
	shutdown(ends[1], SHUT_WR);
	assert_int_equal(greeting_read(g, ends[0], room, BOUND, &step).status, IO_EOF);
	assert_int_equal(greeting_read(g, -1, room, BOUND, &step).status, IO_ERROR);
	greeting_free(g);
}

static struct peer applied(const char *header, struct greeting **g)
{
	struct peer peer = {.address = {10, 0, 0, 9}, .address_len = 4, .port = 1234, .local = {10, 0, 0, 1, 0x0f, 0xa0}};
	enum proxied_step step;

	*g = greeting_new();
	send_all(header, strlen(header));
	assert_int_equal(greeting_read(*g, ends[0], room, BOUND, &step).status, IO_OK);
	assert_int_equal(step, PROXIED_DONE);
	greeting_apply(*g, &peer);
	return peer;
}

static void test_the_peer_is_who_was_named(void **state)
{
	struct greeting *g;
	struct peer p = applied("PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n", &g);

	(void)state;
	assert_int_equal(p.address_len, 4);
	assert_memory_equal(p.address, ((uint8_t[16]){192, 0, 2, 7}), 16);
	assert_int_equal(p.port, 4711);
	assert_memory_equal(p.local, ((uint8_t[18]){198, 51, 100, 1, 1, 0xbb}), 18);
	assert_int_equal(p.proxied->via.port, 1234);
	assert_memory_equal(p.proxied->via.ip.bytes, ((uint8_t[]){10, 0, 0, 9}), 4);
	greeting_free(g);

	p = applied("PROXY UNKNOWN\r\n", &g);
	assert_memory_equal(p.address, ((uint8_t[]){10, 0, 0, 9}), 4);
	assert_int_equal(p.port, 1234);
	assert_memory_equal(p.local, ((uint8_t[]){10, 0, 0, 1, 0x0f, 0xa0}), 6);
	greeting_free(g);

	p = applied("PROXY TCP6 ::ffff:192.0.2.7 2001:db8::1 1 2\r\n", &g); /* of two families */
	assert_int_equal(p.address_len, 4);
	assert_memory_equal(p.local, ((uint8_t[18]){0}), 18);
	greeting_free(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_no_byte_behind_it_is_taken, open_ends, close_ends),
		cmocka_unit_test_setup_teardown(test_what_a_socket_gives_else, open_ends, close_ends),
		cmocka_unit_test_setup_teardown(test_the_peer_is_who_was_named, open_ends, close_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
