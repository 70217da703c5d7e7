/* SPDX-License-Identifier: Apache-2.0 */
/* The link, over real pipes. */
#include "link/link.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "host_fixture.h"

static struct host host, *const h = &host;
static struct text heard; /* by the handler */

static uint64_t number_of(const struct message *m)
{
	return m->kind == MSG_PING ? m->ping.tag : m->kind == MSG_DEMAND ? m->demand.count : m->stream;
}

static void on_message(void *ctx, const struct message *m)
{
	assert_ptr_equal(ctx, &heard);
	text_add(&heard, "%s %llu", m->def->name, (unsigned long long)number_of(m));
	if (m->kind == MSG_DATA) {
		text_add(&heard, " ");
		text_add_quoted(&heard, m->data.data);
	}
	text_add(&heard, "\n");
}

static void on_fault(void *ctx, const struct message *m, const struct message_fault *fault, bool lost)
{
	(void)ctx;
	text_add(&heard, "fault %u %s %s%s\n", m->kind, fault->field, fault->rule, lost ? " lost" : "");
}

static void on_eof(void *ctx)
{
	(void)ctx;
	text_add(&heard, "eof\n");
}

static const struct link_handler handler = {on_message, on_fault, on_eof};

static int setup(void **state)
{
	(void)state;
	signal(SIGPIPE, SIG_IGN);
	host_start(h, &handler, &heard);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	host_stop(h);
	text_free(&heard);
	return 0;
}

static uint8_t *put_text(uint8_t *at, const char *notation)
{
	struct buf bytes = {0};

	notation_pack(&bytes, notation);
	memcpy(at, buf_at(&bytes), buf_len(&bytes));
	at += buf_len(&bytes);
	buf_free(&bytes);
	return at;
}

static void port_says(const char *notation, bool lazy)
{
	uint8_t *at = link_reserve(&h->link, 200);

	assert_non_null(at);
	(lazy ? link_commit_lazy : link_commit)(&h->link, put_text(at, notation));
}

/* BODY messages of 60,000 bytes, each of which fills a frame. */
static void port_says_much(unsigned frames)
{
	for (unsigned i = 0; i < frames; i++) {
		uint8_t *at = link_reserve(&h->link, 60020);
		assert_non_null(at);
		link_commit(&h->link, put_text(at, "[BODY, 1, b'x'*60000]"));
	}
}

/* ---- from the host ---- */

/* In two parts, cut at every byte, and byte by byte. */
static void expect_wherever_cut(struct buf *bytes, const char *wanted)
{
	for (size_t cut = 1; cut < buf_len(bytes); cut++) {
		host_writes(h, buf_at(bytes), cut);
		host_writes(h, buf_at(bytes) + cut, buf_len(bytes) - cut);
		EXPECT_TEXT(&heard, wanted);
	}
	for (size_t i = 0; i < buf_len(bytes); i++)
		host_writes(h, buf_at(bytes) + i, 1);
	EXPECT_TEXT(&heard, wanted);
}

static void test_frames_cut_at_every_byte_are_read_as_whole_ones(void **state)
{
	static const char wanted[] = "PING 1\nDATA 5 Hello\nfault 99 kind is unknown\nPING 300\nDATA 1 x*300\n";
	struct buf bytes = {0};

	(void)state;
	notation_frame(&bytes, "[PING, 1] [DATA, 5, 'Hello'] [99]");
	notation_frame(&bytes, "");
	notation_frame(&bytes, "[PING, 300]");
	notation_frame(&bytes, "[DATA, 1, 'x'*300]");
	expect_wherever_cut(&bytes, wanted);
	host_writes(h, buf_at(&bytes), buf_len(&bytes));
	EXPECT_TEXT(&heard, wanted);
	buf_free(&bytes);
}

static void test_a_frame_of_max_frame_is_read_and_its_memory_given_back(void **state)
{
	struct buf frame = {0};

	(void)state;
	link_limits(&h->link, 1 << 20, 1 << 20);
	notation_frame(&frame, "[DATA, 1, 'x'*1048566]");
	assert_int_equal(buf_len(&frame), 4 + (1 << 20));
	host_writes(h, buf_at(&frame), buf_len(&frame));
	EXPECT_TEXT(&heard, "DATA 1 x*1048566\n");
	assert_true(h->link.input.cap <= 4 * LINK_INPUT_CAP);
	host_says(h, "[PING, 2]");
	EXPECT_TEXT(&heard, "PING 2\n");
	buf_free(&frame);
}

static void test_a_frame_that_announces_more_is_refused_before_it_is_read(void **state)
{
	(void)state;
	link_limits(&h->link, 1 << 20, 1 << 20);
	host_writes(h, "\x00\x10\x00", 3);
	EXPECT_TEXT(&heard, "");
	host_writes(h, "\x01", 1);
	EXPECT_TEXT(&heard, "fault 2147483647 frame is longer than max_frame lost\n");
	host_says(h, "[PING, 1]"); /* nothing more is read */
	EXPECT_TEXT(&heard, "");
	assert_true(h->link.input.cap <= LINK_INPUT_CAP);
}

/* ---- a DATA that is passed on as it arrives ---- */

static struct {
	unsigned pieces;
	size_t bytes, left;
} data; /* of the last DATA */

static uint8_t nth_byte(size_t n)
{
	return (uint8_t)(n * 7 + n / 251);
}

/* Pieces of one DATA become one line. */
static void on_piece(void *ctx, const struct message *m)
{
	struct slice piece = m->data.data;

	if (m->kind != MSG_DATA) {
		if (data.pieces) {
			assert_int_equal(data.left, 0);
			text_add(&heard, "%zu\n", data.bytes);
		}
		data.pieces = 0;
		on_message(ctx, m);
		return;
	}
	if (data.pieces++ == 0) {
		data.bytes = 0;
		text_add(&heard, "DATA %llu ", (unsigned long long)m->stream);
	}
	assert_string_equal(m->def->name, "DATA");
	for (size_t i = 0; i < piece.len; i++)
		assert_int_equal(piece.at[i], nth_byte(data.bytes + i));
	data.bytes += piece.len;
	data.left = m->left;
}

static const struct link_handler piece_handler = {on_piece, on_fault, on_eof};

static void add_head(struct buf *frame, size_t payload, const char *before, size_t n)
{
	uint8_t head[FRAME_HEAD] = {(uint8_t)(payload >> 24), (uint8_t)(payload >> 16), (uint8_t)(payload >> 8), (uint8_t)payload};

	assert_true(buf_append(frame, head, sizeof head) && buf_append(frame, before, n));
}

/* A frame: [DATA, 300, size bytes], followed by [PING, 1] if `ping` is set. */
static void add_data_frame(struct buf *frame, size_t size, bool ping)
{
	char head[10] = "\x93\x06\xcd\x01\x2c\xc6";

	for (unsigned i = 0; i < 4; i++)
		head[6 + i] = (char)(size >> (24 - 8 * i));
	add_head(frame, sizeof head + size + (ping ? 3 : 0), head, sizeof head);
	assert_true(buf_reserve(frame, size));
	for (size_t i = 0; i < size; i++)
		frame->data[frame->tail + i] = nth_byte(i);
	buf_filled(frame, size);
	if (ping)
		assert_true(buf_append(frame, "\x92\x0c\x01", 3));
}

static void test_a_large_DATA_is_handed_on_as_it_comes(void **state)
{
	struct buf frame = {0};

	(void)state;
	h->link.handler = &piece_handler;
	add_data_frame(&frame, 1 << 19, false);
	host_writes(h, buf_at(&frame), 100000);
	assert_true(data.pieces > 1);
	assert_int_equal(data.bytes, 100000 - FRAME_HEAD - 10);
	assert_int_equal(data.left, (1 << 19) - data.bytes);
	host_writes(h, buf_at(&frame) + 100000, buf_len(&frame) - 100000);
	assert_int_equal(data.bytes, 1 << 19);
	assert_true(h->link.input.cap <= LINK_INPUT_CAP);
	host_says(h, "[PING, 2]");
	EXPECT_TEXT(&heard, "DATA 300 524288\nPING 2\n");
	buf_free(&frame);
}

static void test_a_large_DATA_is_the_same_however_it_is_cut(void **state)
{
	static const char wanted[] = "DATA 300 90\nPING 1\nDATA 300 100\nPING 1\nDATA 300 300\nPING 2\n";
	struct buf bytes = {0};

	(void)state;
	h->link.handler = &piece_handler;
	h->link.part_min = 100;
	add_data_frame(&bytes, 90, true);
	add_data_frame(&bytes, 100, true);
	add_data_frame(&bytes, 300, false);
	add_head(&bytes, 3, "\x92\x0c\x02", 3);
	expect_wherever_cut(&bytes, wanted);
	buf_free(&bytes);
}

static void test_a_DATA_that_its_frame_does_not_hold_is_not_handed_on(void **state)
{
	static const char longer[] = "\x93\x06\x05\xc6\0\0\x4e\x21"; /* 20,001 bytes, of which one is missing */
	struct buf bytes = {0};

	(void)state;
	h->link.handler = &piece_handler;
	add_head(&bytes, sizeof longer - 1 + 20000, longer, sizeof longer - 1);
	assert_true(buf_reserve(&bytes, 20000));
	memset(bytes.data + bytes.tail, 'x', 20000);
	buf_filled(&bytes, 20000);
	add_head(&bytes, 3, "\x92\x0c\x02", 3);
	for (size_t cut = 1; cut < 100; cut++) {
		host_writes(h, buf_at(&bytes), cut);
		host_writes(h, buf_at(&bytes) + cut, buf_len(&bytes) - cut);
		EXPECT_TEXT(&heard, "fault 2147483647 message is not msgpack, or is truncated\nPING 2\n");
	}
	buf_free(&bytes);
}

static void test_a_payload_that_cannot_be_read_loses_its_rest_only(void **state)
{
	(void)state;
	host_writes(h, "\0\0\0\x05\xc1\x92\x0c\x01\x01\0\0\0\x03\x92\x0c\x02", 16);
	EXPECT_TEXT(&heard, "fault 2147483647 message is not msgpack, or is truncated\nPING 2\n");
	host_writes(h, "\0\0\0\x05\x92\x0c\x01\x92\x0c\0\0\0\x03\x92\x0c\x03", 16); /* a message does not cross a frame's border */
	EXPECT_TEXT(&heard, "PING 1\nfault 2147483647 message is not msgpack, or is truncated\nPING 3\n");
}

static void test_the_end_of_the_host_is_told_once_also_within_a_frame(void **state)
{
	(void)state;
	host_writes(h, "\0\0\0\x05\x92", 5);
	host_closes(h);
	EXPECT_TEXT(&heard, "eof\n");
	h->link.in_ready = true;
	assert_false(link_read(&h->link));
	EXPECT_TEXT(&heard, "");
}

static void test_what_was_written_before_the_end_is_read(void **state)
{
	(void)state;
	assert_int_equal(write(h->to_port[1], "\0\0\0\x03\x92\x0c\x05", 7), 7);
	host_closes(h);
	EXPECT_TEXT(&heard, "PING 5\neof\n");
}

/* ---- to the host ---- */

/* What one flush sends is compared. */
#define EXPECT_FLUSHED(wanted) \
	do { \
		link_flush(&h->link); \
		host_listens(h); \
		EXPECT_TEXT(&h->heard, wanted); \
	} while (0)

static void test_messages_of_one_turn_share_a_frame(void **state)
{
	(void)state;
	port_says("[PONG, 1]", false);
	port_says("[DONE, 1, nil]", true);
	port_says("[PONG, 2]", false);
	EXPECT_FLUSHED("[PONG, 1]\n[DONE, 1, nil]\n[PONG, 2]\n");
	assert_int_equal(h->frames, 1);
	assert_int_equal(h->link.queued, 0);
	port_says("[PONG, 3]", false);
	EXPECT_FLUSHED("[PONG, 3]\n");
	assert_int_equal(h->frames, 2);
}

static void test_a_frame_is_never_larger_than_one_may_be(void **state)
{
	unsigned count = 0;

	(void)state;
	for (; count < 10000; count++)
		port_says("[LOG, 'info', 'x'*100]", true);
	for (unsigned i = 0; i < 100 && h->link.queued; i++) {
		h->link.out_blocked = false;
		link_flush(&h->link);
		host_listens(h); /* checks the size of each */
	}
	assert_int_equal(h->link.queued, 0);
	assert_true(h->frames > 10 && h->frames < 20);
	text_clear(&h->heard);
}

static void test_lazy_messages_wait_for_company(void **state)
{
	(void)state;
	port_says("[DONE, 1, nil]", true);
	EXPECT_FLUSHED("");
	port_says("[PONG, 1]", false);
	EXPECT_FLUSHED("[DONE, 1, nil]\n[PONG, 1]\n");
}

static void test_lazy_messages_go_alone_when_nobody_comes(void **state)
{
	(void)state;
	port_says("[DONE, 1, nil]", true);
	host_pass_time(h, LINK_LAZY_MS - 1);
	port_says("[DONE, 2, nil]", true); /* does not put it off */
	EXPECT_FLUSHED("");
	host_pass_time(h, 1 + WHEEL_SLOT);
	EXPECT_FLUSHED("[DONE, 1, nil]\n[DONE, 2, nil]\n");
}

static void test_a_time_that_finds_nothing_makes_no_haste(void **state)
{
	(void)state;
	port_says("[DONE, 1, nil]", true);
	port_says("[PONG, 1]", false);
	link_flush(&h->link);
	host_pass_time(h, LINK_LAZY_MS + WHEEL_SLOT);
	link_flush(&h->link);
	port_says("[DONE, 2, nil]", true);
	EXPECT_FLUSHED("[DONE, 1, nil]\n[PONG, 1]\n");
}

static void test_many_lazy_messages_do_not_wait(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 400; i++)
		port_says("[LOG, 'info', 'x'*100]", true);
	link_flush(&h->link);
	assert_int_equal(h->link.queued, 0);
	host_listens(h);
	text_clear(&h->heard);
}

static void test_a_full_pipe_blocks_the_writer_and_nothing_is_lost_or_torn(void **state)
{
	unsigned bodies = 0;

	(void)state;
	fcntl(h->from_port[1], F_SETPIPE_SZ, 65536);
	port_says_much(20);
	link_flush(&h->link);
	assert_true(h->link.out_blocked);
	assert_true(h->link.queued > 10 * 60000);
	assert_int_equal(loop_io_events(&h->link.out), LOOP_WRITE);
	link_flush(&h->link); /* does not try again before the pipe is ready */
	port_says("[PONG, 7]", false);
	for (unsigned i = 0; i < 1000 && h->link.queued; i++) {
		host_listens(h);
		h->link.out_blocked = false;
		link_flush(&h->link);
	}
	host_listens(h);
	assert_int_equal(loop_io_events(&h->link.out), 0);
	for (const char *at = text_str(&h->heard); (at = strstr(at, "[BODY, 1, b'x*60000']\n")); at++)
		bodies++;
	assert_int_equal(bodies, 20);
	assert_non_null(strstr(text_str(&h->heard), "[PONG, 7]\n"));
	assert_int_equal(h->frames, 20);
	text_clear(&h->heard);
}

static void test_marks_have_hysteresis(void **state)
{
	(void)state;
	fcntl(h->from_port[1], F_SETPIPE_SZ, 65536);
	link_limits(&h->link, 1 << 20, 400000);
	port_says_much(6);
	assert_false(link_full(&h->link));
	port_says_much(1);
	assert_true(link_full(&h->link));
	while (h->link.queued > 100000) {
		assert_true(link_full(&h->link));
		h->link.out_blocked = false;
		link_flush(&h->link);
		host_listens(h);
	}
	assert_false(link_full(&h->link));
	port_says_much(4);
	assert_false(link_full(&h->link));
	text_clear(&h->heard);
}

static void test_a_broken_stdout_is_the_end_of_the_host_told_once(void **state)
{
	(void)state;
	close(h->from_port[0]);
	h->from_port[0] = -1;
	port_says("[PONG, 1]", false);
	link_flush(&h->link);
	EXPECT_TEXT(&heard, "eof\n");
	port_says("[PONG, 2]", false);
	link_flush(&h->link);
	host_closes(h);
	EXPECT_TEXT(&heard, "");
}

/* ---- with the loop ---- */

static unsigned turns;

static bool one_turn(void *ctx)
{
	link_read(&h->link);
	link_flush(&h->link);
	if (buf_len(&heard.buf) || ++turns > 1000)
		loop_stop(ctx);
	return false;
}

static void test_the_loop_wakes_for_the_hosts_bytes(void **state)
{
	(void)state;
	h->loop.turn = one_turn;
	h->loop.ctx = &h->loop;
	turns = 0;
	assert_int_equal(write(h->to_port[1], "\0\0\0\x03\x92\x0c\x05", 7), 7);
	loop_run(&h->loop);
	EXPECT_TEXT(&heard, "PING 5\n");
	assert_true(turns < 10);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_frames_cut_at_every_byte_are_read_as_whole_ones),
		TEST(test_a_frame_of_max_frame_is_read_and_its_memory_given_back),
		TEST(test_a_frame_that_announces_more_is_refused_before_it_is_read),
		TEST(test_a_large_DATA_is_handed_on_as_it_comes),
		TEST(test_a_large_DATA_is_the_same_however_it_is_cut),
		TEST(test_a_DATA_that_its_frame_does_not_hold_is_not_handed_on),
		TEST(test_a_payload_that_cannot_be_read_loses_its_rest_only),
		TEST(test_the_end_of_the_host_is_told_once_also_within_a_frame),
		TEST(test_what_was_written_before_the_end_is_read),
		TEST(test_messages_of_one_turn_share_a_frame),
		TEST(test_a_frame_is_never_larger_than_one_may_be),
		TEST(test_lazy_messages_wait_for_company),
		TEST(test_lazy_messages_go_alone_when_nobody_comes),
		TEST(test_a_time_that_finds_nothing_makes_no_haste),
		TEST(test_many_lazy_messages_do_not_wait),
		TEST(test_a_full_pipe_blocks_the_writer_and_nothing_is_lost_or_torn),
		TEST(test_marks_have_hysteresis),
		TEST(test_a_broken_stdout_is_the_end_of_the_host_told_once),
		TEST(test_the_loop_wakes_for_the_hosts_bytes),
	};

	return cmocka_run_group_tests_name("link", tests, NULL, NULL);
}
