/* SPDX-License-Identifier: Apache-2.0 */
#include "frames/message.h"

#include <dirent.h>
#include <msgpack.h>

#include "support.h"

/* One message from a text in the notation. The fields point into memory that lives until the next call. */
static bool read_text(const char *text, enum message_direction from, struct message *m, struct message_fault *fault)
{
	static uint8_t *copy;
	struct buf bytes = {0};
	struct slice in;
	bool well;

	notation_pack(&bytes, text);
	free(copy);
	copy = exact_copy(buf_at(&bytes), buf_len(&bytes));
	in = slice_of(copy, buf_len(&bytes));
	well = message_read(&in, from, m, fault);
	if (!fault->frame_lost)
		assert_int_equal(in.len, 0);
	buf_free(&bytes);
	return well;
}

static void expect_fault(const char *text, enum message_direction from, const char *wanted)
{
	struct text got = {0};
	struct message m;
	struct message_fault fault;

	if (read_text(text, from, &m, &fault))
		fail_msg("was accepted: %s", text);
	text_add(&got, "%s %s", fault.field, fault.rule);
	assert_false(fault.frame_lost);
	EXPECT_TEXT(&got, wanted);
	text_free(&got);
}

static void test_each_kind_decodes(void **state)
{
	static const struct {
		const char *text;
		enum message_direction from;
		unsigned kind;
	} whole[] = {
		{"[HELLO, 1, {'a': [1, {}]}]", FROM_HOST, 0},
		{"[DEMAND, 1]", FROM_HOST, 1},
		{"[READ, 2, 1, 65000]", FROM_HOST, 2},
		{"[DISCARD, 2]", FROM_HOST, 3},
		{"[RESPOND, 1, 200, ['a', 'b'], b'Hello']", FROM_HOST, 4},
		{"[HEAD, 1, 200, [], nil]", FROM_HOST, 5},
		{"[DATA, 1, 'x'*70000]", FROM_HOST, 6},
		{"[END, 1, nil]", FROM_HOST, 7},
		{"[INFORM, 1, 103, []]", FROM_HOST, 8},
		{"[ABORT, 1, 500]", FROM_HOST, 9},
		{"[DRAIN, 0]", FROM_HOST, 10},
		{"[STATS, 7]", FROM_HOST, 11},
		{"[PING, 18446744073709551615]", FROM_HOST, 12},
		{"[UPGRADE, 1, 'websocket', [], {}]", FROM_HOST, 13},
		{"[SEND, 1, 2, b'abc', 0]", FROM_HOST, 14},
		{"[CLOSE, 1, 1000, 'bye']", FROM_HOST, 15},
		{"[PUSH, 1, '/style.css', ['a', 'b']]", FROM_HOST, 16},
		{"[RELEASE, 1]", FROM_HOST, 17},
		{"[YIELD, 1]", FROM_HOST, 18},
		{"[RESUME, 1]", FROM_HOST, 19},
		{"[CERTIFICATES, 1, 0, {}]", FROM_HOST, 20},
		{"[TICKETS, 0, b'abc']", FROM_HOST, 21},
		{"[REPORT, 1]", FROM_HOST, 22},
		{"[CLOSE_FILE, 7]", FROM_HOST, 32},
		{"[READY, 1, {}]", FROM_PORT, 64},
		{"[REQUEST, 1, b'abc']", FROM_PORT, 65},
		{"[BODY, 1, b'abc']", FROM_PORT, 66},
		{"[BODY_END, 1, nil]", FROM_PORT, 67},
		{"[ROOM, 1, 5]", FROM_PORT, 68},
		{"[DONE, 1, [200, 0, 0, 0, 0, 0]]", FROM_PORT, 69},
		{"[GONE, 1, 'closed']", FROM_PORT, 70},
		{"[LOG, 'info', 'text']", FROM_PORT, 71},
		{"[ERROR, nil, nil, 'frame', 'rule', 'exit']", FROM_PORT, 72},
		{"[FIGURES, 7, {}]", FROM_PORT, 73},
		{"[PONG, 7]", FROM_PORT, 74},
		{"[DRAINED, 0]", FROM_PORT, 75},
		{"[HANGUP, 9]", FROM_PORT, 76},
		{"[RECV, 1, 1, b'abc', 65000]", FROM_PORT, 77},
		{"[CLOSED, 1, 1005, b'']", FROM_PORT, 78},
		{"[OPENED, 1, b'abcd', 4000, 0]", FROM_PORT, 79},
		{"[ENDED, 1, 'closed', 1, 2, 3]", FROM_PORT, 80},
		{"[CERTIFIED, 1, 1]", FROM_PORT, 81},
		{"[SECURED, 1, 2, [13, 4865, nil, nil, false, nil], '']", FROM_PORT, 91},
	};

	(void)state;
	for (size_t i = 0; i < sizeof whole / sizeof *whole; i++) {
		struct message m;
		struct message_fault fault;
		if (!read_text(whole[i].text, whole[i].from, &m, &fault))
			fail_msg("%s: %s %s", whole[i].text, fault.field, fault.rule);
		assert_int_equal(m.kind, whole[i].kind);
		assert_ptr_equal(m.def, message_def(m.kind));
	}
}

static void test_fields_hold_what_was_sent(void **state)
{
	struct message m;
	struct message_fault fault;

	(void)state;
	assert_true(read_text("[RESPOND, 9007199254740991, 404, ['a', 'b', 3, b'c'], b'Hello']", FROM_HOST, &m, &fault));
	assert_true(m.stream == 9007199254740991);
	assert_true(m.respond.stream == 9007199254740991);
	assert_int_equal(m.respond.status, 404);
	assert_int_equal(m.respond.headers.len, 3 + 2 + 2 + 1 + 3);
	EXPECT_SLICE(m.respond.body, "Hello");
	assert_true(read_text("[HEAD, 1, 200, [], nil]", FROM_HOST, &m, &fault));
	assert_false(m.head.has_length);
	assert_true(read_text("[HEAD, 1, 200, [], 0]", FROM_HOST, &m, &fault));
	assert_true(m.head.has_length);
	assert_int_equal(m.head.length, 0);
	assert_true(read_text("[END, 1, nil]", FROM_HOST, &m, &fault));
	assert_null(m.end.trailers.at);
	assert_true(read_text("[END, 1, []]", FROM_HOST, &m, &fault));
	assert_int_equal(m.end.trailers.len, 3);
}

static void test_a_wrong_type_names_the_field_and_the_rule(void **state)
{
	(void)state;
	expect_fault("[HELLO, 'x', {}]", FROM_HOST, "version must be an unsigned integer");
	expect_fault("[HELLO, 1, []]", FROM_HOST, "options must be a map");
	expect_fault("[DEMAND, -1]", FROM_HOST, "count must be an unsigned integer");
	expect_fault("[DEMAND, nil]", FROM_HOST, "count must be an unsigned integer");
	expect_fault("[READ, 1, 1, true]", FROM_HOST, "max must be an unsigned integer");
	expect_fault("[READ, 1, 'x', 1]", FROM_HOST, "chunks must be an unsigned integer");
	expect_fault("[DISCARD, []]", FROM_HOST, "stream must be an unsigned integer");
	expect_fault("[RESPOND, 1, 200, nil, 'x']", FROM_HOST, "headers must be an array: name, value, name, value, ...");
	expect_fault("[RESPOND, 1, 200, [], 5]", FROM_HOST, "body must be bytes (bin or str)");
	expect_fault("[HEAD, 1, 200, [], 'x']", FROM_HOST, "length must be an unsigned integer or nil");
	expect_fault("[HEAD, 1, 200, [], -1]", FROM_HOST, "length must be an unsigned integer or nil");
	expect_fault("[DATA, 1, nil]", FROM_HOST, "data must be bytes (bin or str)");
	expect_fault("[END, 1, {}]", FROM_HOST, "trailers must be an array or nil");
	expect_fault("[LOG, 5, 'x']", FROM_PORT, "level must be text (str)");
	expect_fault("[DONE, 1, 5]", FROM_PORT, "report must be an array or nil");
}

static void test_a_wrong_count_is_told(void **state)
{
	(void)state;
	expect_fault("[DEMAND]", FROM_HOST, "count is missing");
	expect_fault("[RESPOND, 1, 200, []]", FROM_HOST, "body is missing");
	expect_fault("[READ, 1]", FROM_HOST, "chunks is missing");
	expect_fault("[END, 1]", FROM_HOST, "trailers is missing");
	expect_fault("[PING, 1, 2]", FROM_HOST, "message has more fields than its kind");
	expect_fault("[DATA, 1, 'x', nil, [1]]", FROM_HOST, "message has more fields than its kind");
}

static void test_unknown_kinds_other_directions_and_things_that_are_no_message_are_told(void **state)
{
	struct message m;
	struct message_fault fault;

	(void)state;
	expect_fault("[63]", FROM_HOST, "kind is unknown");
	expect_fault("[63, 1]", FROM_HOST, "kind is unknown");
	expect_fault("[127]", FROM_HOST, "kind is unknown");
	expect_fault("[128]", FROM_HOST, "kind is unknown");
	expect_fault("[255]", FROM_HOST, "kind is unknown");
	expect_fault("[18446744073709551615]", FROM_HOST, "kind is unknown");
	expect_fault("[PONG, 1]", FROM_HOST, "kind belongs to the other direction");
	expect_fault("[PING, 1]", FROM_PORT, "kind belongs to the other direction");
	expect_fault("['PING', 1]", FROM_HOST, "kind must be an unsigned integer");
	expect_fault("[-1, 1]", FROM_HOST, "kind must be an unsigned integer");
	expect_fault("[[1]]", FROM_HOST, "kind must be an unsigned integer");
	expect_fault("[]", FROM_HOST, "message must be an array that begins with its kind");
	expect_fault("7", FROM_HOST, "message must be an array that begins with its kind");
	expect_fault("{1: 2}", FROM_HOST, "message must be an array that begins with its kind");
	expect_fault("'[1, 1]'", FROM_HOST, "message must be an array that begins with its kind");
	assert_false(read_text("[DATA, 77, 5]", FROM_HOST, &m, &fault));
	assert_int_equal(m.stream, 77); /* so that ERROR can name the stream */
	assert_false(read_text("[63, 77]", FROM_HOST, &m, &fault));
	assert_int_equal(m.kind, 63);
	assert_null(m.def);
	assert_false(read_text("7", FROM_HOST, &m, &fault));
	assert_int_equal(m.kind, MSG_NONE);
}

static void test_a_message_cut_at_any_byte_loses_the_frame(void **state)
{
	struct buf bytes = {0};

	(void)state;
	notation_pack(&bytes, "[RESPOND, 70000, 200, ['content-type', 'text/plain', 3, b'x'], b'x'*300]");
	for (size_t n = 0; n < buf_len(&bytes); n++) {
		uint8_t *copy = exact_copy(buf_at(&bytes), n);
		struct slice in = slice_of(copy, n);
		struct message m;
		struct message_fault fault;
		assert_false(message_read(&in, FROM_HOST, &m, &fault));
		assert_true(fault.frame_lost);
		assert_string_equal(fault.field, "message");
		assert_int_equal(m.kind, MSG_NONE);
		free(copy);
	}
	buf_free(&bytes);
}

static void test_a_faulty_message_is_taken_so_that_the_next_one_is_read(void **state)
{
	struct buf bytes = {0};
	struct slice in;
	struct message m;
	struct message_fault fault;

	(void)state;
	notation_pack(&bytes, "[PING, 'x'] [99, [1, 2]] 5 [PING, 6]");
	in = slice_of(buf_at(&bytes), buf_len(&bytes));
	for (unsigned i = 0; i < 3; i++)
		assert_false(message_read(&in, FROM_HOST, &m, &fault));
	assert_true(message_read(&in, FROM_HOST, &m, &fault));
	assert_int_equal(m.ping.tag, 6);
	assert_int_equal(in.len, 0);
	buf_free(&bytes);
}

static void test_a_definition_has_the_types_and_names_of_the_fields(void **state)
{
	(void)state;
	assert_string_equal(message_def(MSG_RESPOND)->format, "sufb");
	assert_string_equal(message_def(MSG_RESPOND)->fields, "stream status headers body");
	assert_string_equal(message_def(MSG_ERROR)->format, "USttt");
	assert_string_equal(message_def(MSG_DONE)->format, "sA");
	assert_null(message_def(63));
	assert_null(message_def(MSG_NONE));
}

/* Every message of the list, read and written again, is unchanged, and not longer than its bound. */
static void test_what_was_read_is_written_as_it_was(void **state)
{
	static const char *const texts[] = {
		"[HELLO, 1, {'a': [1, {}]}]",
		"[READ, 2, 1, 65000]",
		"[RESPOND, 1, 200, ['a', b'b'], b'Hello']",
		"[HEAD, 1, 200, [], nil]",
		"[HEAD, 1, 200, [], 9223372036854775807]",
		"[END, 1, nil]",
		"[END, 1, []]",
		"[UPGRADE, 1, 'websocket', [], {}]",
		"[DONE, 1, [200, 0, 0, 0, 0, 0]]",
		"[DONE, 1, nil]",
		"[ERROR, nil, nil, 'frame', 'rule', 'exit']",
		"[ERROR, 4, 70000, '', '', '']",
		"[OPENED, 1, b'', 4000, 0]",
		"[ENDED, 1, 'closed', 256, 65536, 4294967296]",
		"[SECURED, 1, 70000, nil, 'no protocol in common']",
	};

	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		struct text got = {0};
		struct slice in;
		struct message m;
		struct message_fault fault;
		uint8_t written[256], *end = written;
		size_t bound = 0;
		if (!read_text(texts[i], FROM_HOST, &m, &fault) && !read_text(texts[i], FROM_PORT, &m, &fault))
			fail_msg("%s: %s %s", texts[i], fault.field, fault.rule);
		switch ((enum message_kind)m.kind) {
#define MESSAGE(NAME, name, kind, direction, fields) \
	case MSG_##NAME: \
		bound = message_bound_##name(&m.name); \
		end = message_put_##name(written, &m.name); \
		break;
#include "frames/messages.def"
		case MSG_NONE:
			break;
		}
		assert_true((size_t)(end - written) <= bound);
		in = slice_of(written, (size_t)(end - written));
		notation_print(&got, &in, true);
		EXPECT_TEXT(&got, texts[i]);
		text_free(&got);
	}
}

static void test_each_definition_names_as_many_fields_as_its_format_has(void **state)
{
	const struct message_def *def;

	(void)state;
	for (unsigned i = 0; (def = message_def_at(i)); i++) {
		size_t names = 1;
		for (const char *at = def->fields; *at; at++)
			names += *at == ' ';
		assert_int_equal(names, strlen(def->format));
		assert_int_equal(def->direction, def->kind < 64 ? FROM_HOST : FROM_PORT);
	}
}

/* ---- golden frames ---- */

/* The folder of the fixtures, whether the program is started beside the Makefile or in the repository's root. */
static DIR *open_fixtures(const char **folder)
{
	static const char *const places[] = {"../test/fixtures/frames", "test/fixtures/frames"};
	DIR *dir = NULL;

	for (unsigned i = 0; i < 2 && !dir; i++)
		dir = opendir(*folder = places[i]);
	return dir;
}

static int hex_digit(int c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static void read_hex(const char *path, struct buf *bytes)
{
	FILE *file = fopen(path, "r");
	int c, high = -1;

	assert_non_null(file);
	while ((c = getc(file)) != EOF) {
		uint8_t byte;
		if (c == '#')
			while (c != '\n' && c != EOF)
				c = getc(file);
		if (hex_digit(c) < 0)
			continue;
		byte = (uint8_t)((high < 0 ? 0 : high) << 4 | hex_digit(c));
		if (high >= 0)
			buf_append(bytes, &byte, 1);
		high = high < 0 ? hex_digit(c) : -1;
	}
	fclose(file);
	assert_int_equal(high, -1);
}

/* msgpack-c finds as many values in the payload as we find messages. */
static unsigned count_values(const uint8_t *bytes, size_t len)
{
	msgpack_unpacked unpacked;
	unsigned count = 0;
	size_t at = 0;

	msgpack_unpacked_init(&unpacked);
	while (at < len) {
		assert_int_equal(msgpack_unpack_next(&unpacked, (const char *)bytes, len, &at), MSGPACK_UNPACK_SUCCESS);
		assert_int_equal(unpacked.data.type, MSGPACK_OBJECT_ARRAY);
		count++;
	}
	msgpack_unpacked_destroy(&unpacked);
	return count;
}

static bool golden[256]; /* kinds that have one */

static void check_golden(const char *path, bool later)
{
	struct buf bytes = {0};
	struct slice in;
	unsigned count = 0;

	read_hex(path, &bytes);
	assert_true(buf_len(&bytes) >= 4);
	in = slice_of(buf_at(&bytes) + 4, buf_len(&bytes) - 4);
	assert_int_equal((unsigned)buf_at(&bytes)[2] << 8 | buf_at(&bytes)[3], in.len);
	for (; in.len; count++) {
		struct slice again = in;
		struct message m;
		struct message_fault fault;
		bool well = message_read(&in, FROM_HOST, &m, &fault) || (in = again, message_read(&in, FROM_PORT, &m, &fault));
		if (well == later)
			fail_msg("%s: message %u: %s %s", path, count, fault.field, fault.rule);
		assert_false(fault.frame_lost);
		golden[m.kind & 255] |= well;
	}
	assert_int_equal(count, count_values(buf_at(&bytes) + 4, buf_len(&bytes) - 4));
	buf_free(&bytes);
}

static void test_golden_frames_decode(void **state)
{
	const char *folder;
	DIR *dir = open_fixtures(&folder);
	struct dirent *entry;
	unsigned count = 0;

	(void)state;
	if (!dir)
		skip();
	while ((entry = readdir(dir))) {
		char path[600];
		size_t len = strlen(entry->d_name);
		if (len < 4 || strcmp(entry->d_name + len - 4, ".hex") != 0)
			continue;
		snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
		/* additions of a later version are for hosts to ignore; this is the port's reader, which refuses them */
		check_golden(path, strncmp(entry->d_name, "later", 5) == 0);
		count++;
	}
	closedir(dir);
	assert_true(count > 0);
	for (unsigned i = 0; message_def_at(i); i++)
		if (!golden[message_def_at(i)->kind])
			fail_msg("%s has no golden frame", message_def_at(i)->name);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_kind_decodes),
		cmocka_unit_test(test_fields_hold_what_was_sent),
		cmocka_unit_test(test_a_wrong_type_names_the_field_and_the_rule),
		cmocka_unit_test(test_a_wrong_count_is_told),
		cmocka_unit_test(test_unknown_kinds_other_directions_and_things_that_are_no_message_are_told),
		cmocka_unit_test(test_a_message_cut_at_any_byte_loses_the_frame),
		cmocka_unit_test(test_a_faulty_message_is_taken_so_that_the_next_one_is_read),
		cmocka_unit_test(test_a_definition_has_the_types_and_names_of_the_fields),
		cmocka_unit_test(test_what_was_read_is_written_as_it_was),
		cmocka_unit_test(test_each_definition_names_as_many_fields_as_its_format_has),
		cmocka_unit_test(test_golden_frames_decode),
	};

	return cmocka_run_group_tests_name("message", tests, NULL, NULL);
}
