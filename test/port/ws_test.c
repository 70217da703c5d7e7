/* SPDX-License-Identifier: Apache-2.0 */
/* A WebSocket on the bytes of a stream: its events, its output, and its memory. */
#include "ws/ws.h"

#include <malloc.h>

#include "support.h"

static struct {
	struct ws_env env;
	struct stream stream;
	struct ws *ws;
	struct buf wire; /* what was written */
	struct text told;
	uint64_t now;
	bool full;  /* out of memory */
	bool holds; /* the end waits for the host's answers */
} f;

static bool op_send_data(struct stream *s, struct slice data)
{
	assert_ptr_equal(s, &f.stream);
	if (f.full)
		return false;
	return buf_append(&f.wire, data.at, data.len);
}

static const struct stream_ops ops = {.send_data = op_send_data};

static struct ws_config config;

static void open_with(const struct deflate_params *agreed)
{
	f.env.now = &f.now;
	f.now = 1000;
	stream_init(&f.stream, &ops);
	f.ws = ws_new(&f.env, &f.stream, &config, agreed);
	assert_non_null(f.ws);
}

static int setup(void **state)
{
	(void)state;
	memset(&f, 0, sizeof f);
	ws_config_defaults(&config);
	open_with(NULL);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	ws_free(f.ws);
	ws_env_free(&f.env);
	buf_free(&f.wire);
	text_free(&f.told);
	return 0;
}

/* ---- the client ---- */

/* A frame of the client, masked. first: FIN, the reserved bits and the opcode. */
static void put_frame(struct buf *to, unsigned first, struct slice payload)
{
	static const uint8_t mask[4] = {0x37, 0xfa, 0x21, 0x3d};
	uint8_t head[14] = {(uint8_t)first, 0x80};
	size_t n = 2;

	if (payload.len < 126) {
		head[1] |= (uint8_t)payload.len;
	} else {
		head[1] |= 126;
		head[n++] = (uint8_t)(payload.len >> 8);
		head[n++] = (uint8_t)payload.len;
	}
	memcpy(head + n, mask, 4);
	buf_append(to, head, n + 4);
	for (size_t i = 0; i < payload.len; i++) {
		uint8_t byte = payload.at[i] ^ mask[i % 4];
		buf_append(to, &byte, 1);
	}
}

static void tell(const struct ws_event *event)
{
	static const char *const names[] = {"", "message", "leaves", "closed", "failed", "memory"};
	struct ws_event last;

	if (event->kind == WS_NOTHING)
		return;
	if (event->kind == WS_LEAVES && !f.holds) {
		last = ws_finish(f.ws);
		event = &last;
	}
	text_add(&f.told, "%s %u ", names[event->kind], event->kind == WS_MESSAGE ? event->type : event->code);
	text_add_quoted(&f.told, event->data);
	text_add(&f.told, "\n");
}

/* Offers bytes as a session does: unused ones are offered again, followed by more. */
static void offer(struct buf *tail, struct slice more)
{
	struct ws_event event;
	size_t used;

	buf_append(tail, more.at, more.len);
	do {
		uint8_t *copy = exact_copy(buf_at(tail), buf_len(tail));
		event = ws_next(f.ws, slice_of(copy, buf_len(tail)), &used);
		tell(&event);
		free(copy);
		buf_consume(tail, used);
	} while (buf_len(tail) && event.kind != WS_NOTHING && f.ws->state != WS_OVER);
}

static void comes(struct slice bytes, size_t piece)
{
	struct buf tail = {0};

	for (size_t i = 0; i < bytes.len && f.ws->state != WS_OVER; i += piece)
		offer(&tail, slice_of(bytes.at + i, bytes.len - i < piece ? bytes.len - i : piece));
	buf_free(&tail);
}

static void client_sends(unsigned first, struct slice payload)
{
	struct buf bytes = {0};

	put_frame(&bytes, first, payload);
	comes(slice_of(buf_at(&bytes), buf_len(&bytes)), buf_len(&bytes));
	buf_free(&bytes);
}

#define CLIENT(first, text) client_sends(first, SLICE_LIT(text))
#define TOLD(wanted) EXPECT_TEXT(&f.told, wanted)

static void expect_wire(const char *wanted, size_t len)
{
	assert_int_equal(buf_len(&f.wire), len);
	if (len)
		assert_memory_equal(buf_at(&f.wire), wanted, len);
	buf_consume(&f.wire, len);
}

#define WIRE(wanted) expect_wire(wanted, sizeof wanted - 1)
#define WIRE_OF(wanted) expect_wire(wanted, sizeof wanted)

static void send(unsigned type, struct slice data, bool more)
{
	const char *rule = NULL;

	assert_int_equal(ws_send(f.ws, type, data, more, &rule), WS_OK);
}

/* Only the socket itself is allocated. */
static void expect_idle(void)
{
	assert_null(f.ws->codec);
	assert_null(f.ws->message.data);
	assert_null(f.ws->pong.data);
	assert_null(f.ws->inflater);
	assert_null(f.ws->deflater);
}

/* ---- receiving ---- */

static void test_frames_give_the_same_wherever_they_are_cut(void **state)
{
	static const char wanted[] =
		"message 1 Hello\nmessage 9 ping\nmessage 1 fragment\nmessage 2 x*300\nmessage 10 pong\nmessage 2 \n"
		"closed 1000 bye\n";
	struct buf bytes = {0};
	uint8_t large[300];

	(void)state;
	memset(large, 'x', sizeof large);
	put_frame(&bytes, 0x81, SLICE_LIT("Hello"));
	put_frame(&bytes, 0x01, SLICE_LIT("frag"));
	put_frame(&bytes, 0x89, SLICE_LIT("ping"));
	put_frame(&bytes, 0x80, SLICE_LIT("ment"));
	put_frame(&bytes, 0x82, slice_of(large, sizeof large));
	put_frame(&bytes, 0x8a, SLICE_LIT("pong"));
	put_frame(&bytes, 0x82, SLICE_LIT(""));
	put_frame(&bytes, 0x88,
		  SLICE_LIT("\x03\xe8"
			    "bye"));
	for (size_t piece = 1; piece <= buf_len(&bytes); piece++) {
		comes(slice_of(buf_at(&bytes), buf_len(&bytes)), piece);
		TOLD(wanted);
		WIRE("\x8a\x04ping\x88\x02\x03\xe8");
		buf_free(&f.ws->message); /* the reason, until the socket goes */
		expect_idle();
		ws_free(f.ws);
		open_with(NULL);
	}
	buf_free(&bytes);
}

static void test_between_messages_nothing_is_owned(void **state)
{
	struct buf bytes = {0};
	static uint8_t large[60000];

	(void)state;
	put_frame(&bytes, 0x82, slice_of(large, sizeof large));
	comes(slice_of(buf_at(&bytes), buf_len(&bytes)), 10000);
	assert_non_null(f.ws->message.data); /* it was passed on from there */
	CLIENT(0x81, "next");
	expect_idle();
	assert_true(sizeof *f.ws <= 320);
	buf_free(&bytes);
}

static void test_only_what_came_is_allocated(void **state)
{
	struct buf bytes = {0};

	(void)state;
	buf_append(&bytes, "\x82\xff\x00\x00\x00\x00\x00\x10\x00\x00mask!", 15); /* announces 1 MiB */
	comes(slice_of(buf_at(&bytes), buf_len(&bytes)), 15);
	assert_true(f.ws->message.cap <= 1024);
	buf_free(&bytes);
}

static void test_a_fault_is_told_to_both_sides(void **state)
{
	(void)state;
	CLIENT(0x83, "x");
	TOLD("failed 1002 a reserved opcode\n");
	WIRE("\x88\x13\x03\xea"
	     "a reserved opcode");
	assert_int_equal(f.ws->state, WS_OVER);
	expect_idle();
}

static void test_answers_go_out_before_the_end(void **state)
{
	struct ws_event last;

	(void)state;
	f.holds = true;
	CLIENT(0x81, "one");
	CLIENT(0x83, "x");
	TOLD("message 1 one\nleaves 0 \n");
	assert_int_equal(f.ws->state, WS_LEAVING);
	assert_int_equal(ws_deadline(f.ws), f.now + 5000);
	CLIENT(0x81, "two");
	CLIENT(0x89, "ping");
	TOLD("");
	WIRE("");
	send(WS_TEXT, SLICE_LIT("answer"), false);
	last = ws_finish(f.ws);
	tell(&last);
	TOLD("failed 1002 a reserved opcode\n");
	WIRE("\x81\x06"
	     "answer\x88\x13\x03\xea"
	     "a reserved opcode");
	assert_int_equal(f.ws->state, WS_OVER);
	expect_idle();
}

static void test_a_close_keeps_its_reason_until_it_is_answered(void **state)
{
	struct ws_event last;

	(void)state;
	f.holds = true;
	CLIENT(0x88, "\x0f\xa0why");
	TOLD("leaves 0 \n");
	CLIENT(0x88, "\x0f\xa1no");
	send(WS_TEXT, SLICE_LIT("answer"), false);
	last = ws_last_event(f.ws);
	tell(&last);
	last = ws_finish(f.ws);
	tell(&last);
	TOLD("closed 4000 why\nclosed 4000 why\n");
	WIRE("\x81\x06"
	     "answer\x88\x02\x0f\xa0");
}

static void test_text_fails_fast(void **state)
{
	struct buf bytes = {0};

	(void)state;
	put_frame(&bytes, 0x81, SLICE_LIT("abc\xff and more that does not come"));
	comes(slice_of(buf_at(&bytes), 10), 10);
	TOLD("failed 1007 text that is not UTF-8\n");
	expect_idle();
	buf_free(&bytes);
}

/* ---- pongs ---- */

static void pings_and_pongs(char first, char last)
{
	for (char ping = first; ping <= last; ping++) {
		client_sends(0x89, slice_of(&ping, 1));
		WIRE_OF(((char[]){(char)0x8a, 1, ping}));
	}
}

static void test_one_pong_is_queued_and_the_newest_ping_answered(void **state)
{
	(void)state;
	pings_and_pongs('a', 'p'); /* 16 at once */
	CLIENT(0x89, "1");
	CLIENT(0x89, "2");
	WIRE("");
	ws_sent(f.ws, 16 * 3 - 1); /* not all of it has left */
	CLIENT(0x89, "3");
	WIRE("");
	ws_sent(f.ws, 1);
	WIRE("\x8a\x01"
	     "3");
	pings_and_pongs('a', 'o'); /* 15 besides that one */
	CLIENT(0x89, "");
	CLIENT(0x89, "");
	WIRE("");
	ws_sent(f.ws, 16 * 3);
	WIRE("\x8a\x00");
	ws_sent(f.ws, 2);
	WIRE("");
	expect_idle();
}

/* ---- sending ---- */

static void test_pieces_become_fragments(void **state)
{
	(void)state;
	send(WS_TEXT, SLICE_LIT("a\xce"), true);
	send(WS_PING, SLICE_LIT("p"), false);
	send(WS_TEXT, SLICE_LIT("\xba"), true);
	send(WS_TEXT, SLICE_LIT(""), false);
	send(WS_BINARY, SLICE_LIT("b"), false);
	WIRE("\x01\x02"
	     "a\xce\x89\x01p\x00\x01\xba\x80\x00\x82\x01"
	     "b");
}

static void test_lengths_of_what_is_sent(void **state)
{
	static uint8_t data[70000];
	static const struct {
		size_t len;
		const char *head;
		size_t size;
	} cases[] = {
		{125, "\x82\x7d", 2},
		{126, "\x82\x7e\x00\x7e", 4},
		{65535, "\x82\x7e\xff\xff", 4},
		{65536, "\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00", 10},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		send(WS_BINARY, slice_of(data, cases[i].len), false);
		assert_int_equal(buf_len(&f.wire), cases[i].size + cases[i].len);
		assert_memory_equal(buf_at(&f.wire), cases[i].head, cases[i].size);
		buf_consume(&f.wire, buf_len(&f.wire));
	}
}

static void test_room_is_what_has_left(void **state)
{
	(void)state;
	send(WS_BINARY, SLICE_LIT("0123456789"), false);
	send(WS_BINARY, SLICE_LIT("0123456789"), false);
	assert_int_equal(f.ws->unsent, 2 * (10 + WS_SEND_COST)); /* on the wire they have 12 bytes each */
	assert_int_equal(ws_sent(f.ws, 4), 52 - 20);             /* the rest takes no more memory than that */
	assert_int_equal(ws_sent(f.ws, 10), 10);
	assert_int_equal(ws_sent(f.ws, 10), 10);
	assert_int_equal(f.ws->unsent, 0);
}

static void test_messages_without_data_cost_more_than_their_frames(void **state)
{
	(void)state;
	send(WS_BINARY, SLICE_LIT(""), false);
	send(WS_TEXT, SLICE_LIT(""), true);
	send(WS_PING, SLICE_LIT(""), false);
	send(WS_PONG, SLICE_LIT(""), false);
	send(WS_TEXT, SLICE_LIT(""), false);
	assert_int_equal(f.ws->unsent, 5 * WS_SEND_COST);
	assert_int_equal(buf_len(&f.wire), 5 * 2);
	assert_int_equal(ws_sent(f.ws, 10), 5 * WS_SEND_COST);
	assert_true(WS_HEADER_MAX - 4 < WS_SEND_COST); /* the longest head, without a mask */
}

static void test_what_may_not_be_sent(void **state)
{
	static const uint8_t zeros[126];
	const char *rule;

	(void)state;
	assert_int_equal(ws_send(f.ws, 8, SLICE_LIT(""), false, &rule), WS_REFUSED);
	assert_int_equal(ws_send(f.ws, WS_PING, slice_of(zeros, 126), false, &rule), WS_REFUSED);
	assert_int_equal(ws_send(f.ws, WS_PING, slice_of(zeros, 1), true, &rule), WS_REFUSED);
	assert_int_equal(ws_send(f.ws, WS_TEXT, SLICE_LIT("\xff"), false, &rule), WS_REFUSED);
	assert_int_equal(ws_close(f.ws, WS_CLOSED_BY_HOST, 1005, SLICE_LIT(""), &rule), WS_REFUSED);
	assert_int_equal(ws_close(f.ws, WS_CLOSED_BY_HOST, 1000, slice_of(zeros, 124), &rule), WS_REFUSED);
	assert_int_equal(ws_close(f.ws, WS_CLOSED_BY_HOST, 1000, SLICE_LIT("\xff"), &rule), WS_REFUSED);
	assert_int_equal(ws_close(f.ws, WS_CLOSED_BY_HOST, 0, SLICE_LIT("why"), &rule), WS_REFUSED);
	WIRE("");
	f.full = true;
	assert_int_equal(ws_send(f.ws, WS_BINARY, SLICE_LIT("x"), false, &rule), WS_OUT_OF_MEMORY);
}

/* ---- closing ---- */

static void test_after_our_close_only_the_clients_counts(void **state)
{
	const char *rule;

	(void)state;
	assert_int_equal(ws_close(f.ws, WS_CLOSED_BY_HOST, 1001, SLICE_LIT("bye"), &rule), WS_OK);
	assert_int_equal(ws_close(f.ws, WS_CLOSED_BY_HOST, 1000, SLICE_LIT(""), &rule), WS_OK);
	WIRE("\x88\x05\x03\xe9"
	     "bye");
	send(WS_TEXT, SLICE_LIT("late"), false);
	CLIENT(0x81, "late");
	CLIENT(0x81, "\xff");
	CLIENT(0x89, "late");
	TOLD("");
	CLIENT(0x88, "\x0f\xa0"
		     "ok");
	TOLD("closed 4000 ok\n");
	WIRE("");
	assert_int_equal(f.ws->state, WS_OVER);
}

static void test_a_close_without_a_code(void **state)
{
	(void)state;
	CLIENT(0x88, "");
	TOLD("closed 1005 \n");
	WIRE("\x88\x00");
}

/* ---- deadlines ---- */

static void test_silence_is_answered_by_a_ping_and_then_by_giving_up(void **state)
{
	(void)state;
	assert_int_equal(ws_deadline(f.ws), 31000);
	f.now = 20000;
	CLIENT(0x81, "x");
	TOLD("message 1 x\n");
	f.now = 31000;
	assert_true(ws_tick(f.ws, true));
	WIRE("");
	assert_int_equal(ws_deadline(f.ws), 50000);
	f.now = 50000;
	assert_true(ws_tick(f.ws, true));
	WIRE("\x89\x04\x01\x00\x00\x00");
	f.now = 79999;
	assert_true(ws_tick(f.ws, true));
	f.now = 80000;
	assert_false(ws_tick(f.ws, true));
}

static void test_the_answer_to_our_ping_is_not_told(void **state)
{
	(void)state;
	f.now = 31000;
	assert_true(ws_tick(f.ws, true));
	WIRE("\x89\x04\x01\x00\x00\x00");
	CLIENT(0x8a, "\x01\x00\x00\x00");
	CLIENT(0x8a, "other");
	TOLD("message 10 other\n");
	f.now = 60000;
	assert_true(ws_tick(f.ws, true));
	WIRE("");
}

static void test_a_socket_that_is_not_read_is_not_given_up(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 5; i++) {
		f.now += 40000;
		assert_true(ws_tick(f.ws, false));
	}
	WIRE("");
}

static void test_idle_and_close_timeouts(void **state)
{
	(void)state;
	ws_free(f.ws);
	config.idle_timeout = 5000;
	open_with(NULL);
	f.now = 5999;
	assert_true(ws_tick(f.ws, true));
	WIRE("");
	f.now = 6000;
	assert_true(ws_tick(f.ws, true));
	WIRE("\x88\x06\x03\xe9idle");
	assert_int_equal(ws_deadline(f.ws), 11000);
	f.now = 10999;
	assert_true(ws_tick(f.ws, true));
	f.now = 11000;
	assert_false(ws_tick(f.ws, true));
}

/* ---- compression ---- */

static void test_without_takeover_zlib_is_shared(void **state)
{
	static const struct deflate_params agreed = {true, true, 12, 0, false};

	(void)state;
	ws_free(f.ws);
	open_with(&agreed);
	CLIENT(0xc1, "\xf2\x48\xcd\xc9\xc9\x07\x00"); /* RFC 7692 7.2.3.1 */
	CLIENT(0xc1, "\xf2\x48\xcd\xc9\xc9\x07\x00");
	TOLD("message 1 Hello\nmessage 1 Hello\n");
	send(WS_TEXT, SLICE_LIT("Hello"), false);
	WIRE("\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00");
	CLIENT(0x81, "plain");
	TOLD("message 1 plain\n");
	expect_idle();
	assert_non_null(f.env.inflater);
	assert_non_null(f.env.deflater);
}

static void test_with_takeover_they_are_the_sockets_own(void **state)
{
	static const struct deflate_params agreed = {false, false, 15, 0, false};

	(void)state;
	ws_free(f.ws);
	open_with(&agreed);
	CLIENT(0xc1, "\xf2\x48\xcd\xc9\xc9\x07\x00");
	CLIENT(0xc1, "\xf2\x00\x11\x00\x00"); /* 7.2.3.2: refers to the first */
	TOLD("message 1 Hello\nmessage 1 Hello\n");
	assert_non_null(f.ws->inflater);
	assert_null(f.env.inflater);
}

/* Something was sent between its header and its payload, so that there are two contexts although one is enough. */
static void test_a_message_outlives_the_context_that_it_was_read_with(void **state)
{
	struct buf frame = {0}, tail = {0};

	(void)state;
	mallopt(M_PERTURB, 0x5a); /* what is freed is overwritten */
	put_frame(&frame, 0x81, SLICE_LIT("a message of more than sixteen bytes"));
	offer(&tail, slice_of(buf_at(&frame), 6));
	assert_non_null(f.ws->codec);
	send(WS_TEXT, SLICE_LIT("x"), false);
	offer(&tail, slice_of(buf_at(&frame) + 6, buf_len(&frame) - 6));
	mallopt(M_PERTURB, 0);
	TOLD("message 1 a message of more than sixteen bytes\n");
	buf_free(&frame);
	buf_free(&tail);
}

/* Text with invalid UTF-8 within the part that may be passed on, and more after it. */
static void test_the_first_fault_of_compressed_text_counts_wherever_it_is_cut(void **state)
{
	static const struct deflate_params agreed = {true, true, 12, 0, false};
	struct deflater *d = deflater_new(15, 9, 9);
	struct buf packed = {0}, frame = {0};
	char text[300];

	(void)state;
	memset(text, 'a', sizeof text);
	text[90] = '\xff';
	assert_true(deflater_feed(d, slice_of(text, sizeof text), true, &packed));
	put_frame(&frame, 0xc1, slice_of(buf_at(&packed), buf_len(&packed)));
	config.max_message = 100;
	for (size_t piece = 1; piece <= buf_len(&frame); piece++) {
		ws_free(f.ws);
		open_with(&agreed);
		comes(slice_of(buf_at(&frame), buf_len(&frame)), piece);
		TOLD("failed 1007 text that is not UTF-8\n");
	}
	deflater_free(d);
	buf_free(&packed);
	buf_free(&frame);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_frames_give_the_same_wherever_they_are_cut),
		TEST(test_between_messages_nothing_is_owned),
		TEST(test_only_what_came_is_allocated),
		TEST(test_a_fault_is_told_to_both_sides),
		TEST(test_answers_go_out_before_the_end),
		TEST(test_a_close_keeps_its_reason_until_it_is_answered),
		TEST(test_text_fails_fast),
		TEST(test_one_pong_is_queued_and_the_newest_ping_answered),
		TEST(test_pieces_become_fragments),
		TEST(test_lengths_of_what_is_sent),
		TEST(test_room_is_what_has_left),
		TEST(test_messages_without_data_cost_more_than_their_frames),
		TEST(test_what_may_not_be_sent),
		TEST(test_after_our_close_only_the_clients_counts),
		TEST(test_a_close_without_a_code),
		TEST(test_silence_is_answered_by_a_ping_and_then_by_giving_up),
		TEST(test_the_answer_to_our_ping_is_not_told),
		TEST(test_a_socket_that_is_not_read_is_not_given_up),
		TEST(test_idle_and_close_timeouts),
		TEST(test_without_takeover_zlib_is_shared),
		TEST(test_with_takeover_they_are_the_sockets_own),
		TEST(test_a_message_outlives_the_context_that_it_was_read_with),
		TEST(test_the_first_fault_of_compressed_text_counts_wherever_it_is_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
