/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include <ctype.h>

#include "frames/message.h"
#include "frames/mp.h"

/* ---- texts ---- */

void text_add_run(struct text *t, size_t n)
{
	while (n-- > 0)
		text_add_bytes(t, "x", 1);
}

void text_add_bytes(struct text *t, const void *bytes, size_t n)
{
	assert_true(buf_reserve(&t->buf, n + 1));
	if (n)
		memcpy(t->buf.data + t->buf.tail, bytes, n);
	buf_filled(&t->buf, n);
	t->buf.data[t->buf.tail] = 0;
}

void text_add(struct text *t, const char *format, ...)
{
	char line[1024];
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(line, sizeof line, format, args);
	va_end(args);
	assert_true(n >= 0 && (size_t)n < sizeof line);
	text_add_bytes(t, line, (size_t)n);
}

static void add_char(struct text *t, uint8_t c)
{
	if (c == '\r' || c == '\n')
		text_add(t, c == '\r' ? "\\r" : "\\n");
	else if (c < 0x20 || c >= 0x7f)
		text_add(t, "\\x%02x", c);
	else
		text_add_bytes(t, &c, 1);
}

void text_add_quoted(struct text *t, struct slice bytes)
{
	for (size_t i = 0, run; i < bytes.len; i += run) {
		for (run = 1; i + run < bytes.len && bytes.at[i + run] == bytes.at[i]; run++)
			;
		if (run < 32)
			run = 1;
		add_char(t, bytes.at[i]);
		if (run > 1)
			text_add(t, "*%zu", run);
	}
}

const char *text_str(struct text *t)
{
	return buf_len(&t->buf) ? (const char *)buf_at(&t->buf) : "";
}

void text_clear(struct text *t)
{
	buf_consume(&t->buf, buf_len(&t->buf));
}

void text_free(struct text *t)
{
	buf_free(&t->buf);
}

void expect_text_at(struct text *t, const char *wanted, const char *file, int line)
{
	_assert_string_equal(text_str(t), wanted, file, line);
	text_clear(t);
}

void expect_slice_at(struct slice got, const char *wanted, const char *file, int line)
{
	_assert_int_equal(got.len, strlen(wanted), file, line);
	if (got.len)
		_assert_memory_equal(got.at, wanted, got.len, file, line);
}

/* ---- the notation ---- */

static void skip_blanks(const char **at)
{
	while (**at == ' ' || **at == '\n' || **at == '\t' || **at == ',')
		++*at;
}

static void put(struct buf *out, uint8_t *(*write)(uint8_t *, uint64_t), uint64_t value)
{
	assert_true(buf_reserve(out, 16));
	out->tail = (size_t)(write(out->data + out->tail, value) - out->data);
}

static uint8_t *write_int(uint8_t *at, uint64_t value)
{
	return mp_int(at, (int64_t)value);
}

static uint8_t *write_nil(uint8_t *at, uint64_t value)
{
	(void)value;
	return mp_nil(at);
}

static uint8_t *write_bool(uint8_t *at, uint64_t value)
{
	return mp_bool(at, value);
}

static void pack_string(struct buf *out, const char **at, bool bin)
{
	const char *end = strchr(++*at, '\'');
	size_t len = (size_t)(end - *at), times = 1;
	struct buf text = {0};

	assert_non_null(end);
	if (end[1] == '*')
		times = strtoul(end + 2, (char **)&end, 10);
	else
		end++;
	for (size_t i = 0; i < times; i++)
		buf_append(&text, *at, len);
	assert_true(buf_reserve(out, buf_len(&text) + MP_MAX_HEAD));
	out->tail = (size_t)((bin ? mp_bin : mp_str)(out->data + out->tail, slice_of(buf_at(&text), buf_len(&text))) - out->data);
	buf_free(&text);
	*at = end;
}

static void pack_value(struct buf *out, const char **at);

/* Array or map, with a count of 16 bits, whatever it holds. */
static void pack_container(struct buf *out, const char **at, char end)
{
	uint8_t head[3] = {end == ']' ? 0xdc : 0xde, 0, 0};
	size_t place = buf_len(out), count = 0;

	assert_true(buf_append(out, head, sizeof head));
	for (++*at, skip_blanks(at); **at != end; skip_blanks(at), count++) {
		pack_value(out, at);
		if (end == ']')
			continue;
		skip_blanks(at);
		assert_int_equal(*(*at)++, ':');
		pack_value(out, at);
	}
	++*at;
	buf_at(out)[place + 1] = (uint8_t)(count >> 8);
	buf_at(out)[place + 2] = (uint8_t)count;
}

static bool pack_word(struct buf *out, const char **at)
{
	size_t len = strspn(*at, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz");
	struct slice word = slice_of(*at, len);
	const struct message_def *def;

	*at += len;
	if (slice_eq(word, SLICE_LIT("nil")))
		put(out, write_nil, 0);
	else if (slice_eq(word, SLICE_LIT("true")) || slice_eq(word, SLICE_LIT("false")))
		put(out, write_bool, word.len == 4);
	for (unsigned i = 0; (def = message_def_at(i)); i++)
		if (slice_eq(word, slice_str(def->name)))
			put(out, mp_uint, def->kind);
	return len > 0;
}

static void pack_value(struct buf *out, const char **at)
{
	skip_blanks(at);
	if (**at == '[')
		pack_container(out, at, ']');
	else if (**at == '{')
		pack_container(out, at, '}');
	else if (**at == '\'')
		pack_string(out, at, false);
	else if (**at == 'b' && (*at)[1] == '\'')
		++*at, pack_string(out, at, true);
	else if (**at == '-')
		put(out, write_int, (uint64_t)strtoll(*at, (char **)at, 10));
	else if (isdigit((unsigned char)**at))
		put(out, mp_uint, strtoull(*at, (char **)at, 10));
	else if (!pack_word(out, at))
		fail_msg("not in the notation: %s", *at);
}

void notation_pack(struct buf *out, const char *text)
{
	for (skip_blanks(&text); *text; skip_blanks(&text))
		pack_value(out, &text);
}

void notation_frame(struct buf *out, const char *text)
{
	size_t place = buf_len(out);
	uint32_t len;

	buf_append(out, "\0\0\0", 4);
	notation_pack(out, text);
	len = (uint32_t)(buf_len(out) - place - 4);
	for (unsigned i = 0; i < 4; i++)
		buf_at(out)[place + i] = (uint8_t)(len >> 8 * (3 - i));
}

static void print_container(struct text *t, struct slice *in, const struct mp_value *v)
{
	text_add(t, v->type == MP_MAP ? "{" : "[");
	for (uint64_t i = 0; i < v->u; i++) {
		text_add(t, "%s", i ? ", " : "");
		notation_print(t, in, false);
		if (v->type == MP_MAP) {
			text_add(t, ": ");
			notation_print(t, in, false);
		}
	}
	text_add(t, v->type == MP_MAP ? "}" : "]");
}

static void print_whole_message(struct text *t, struct slice *in, uint64_t elements)
{
	struct mp_value kind, head;
	const struct message_def *def;

	assert_true(mp_read(in, &kind));
	def = message_def((unsigned)kind.u);
	assert_non_null(def);
	text_add(t, "[%s", def->name);
	for (uint64_t i = 1; i < elements; i++) {
		text_add(t, ", ");
		if ((def->kind == MSG_REQUEST || def->kind == MSG_COMPLETE) && i == 2) {
			assert_true(mp_read(in, &head) && head.type == MP_BIN);
			text_add(t, "<");
			notation_print(t, &head.bytes, false);
			assert_int_equal(head.bytes.len, 0);
			text_add(t, ">");
		} else {
			notation_print(t, in, false);
		}
	}
	text_add(t, "]");
}

void notation_print(struct text *t, struct slice *in, bool message)
{
	struct mp_value v;

	assert_true(mp_read(in, &v));
	switch (v.type) {
	case MP_NIL:
		text_add(t, "nil");
		break;
	case MP_BOOL:
		text_add(t, v.u ? "true" : "false");
		break;
	case MP_UINT:
	case MP_INT:
		text_add(t, "%lld", (long long)v.u);
		break;
	case MP_STR:
	case MP_BIN:
		text_add(t, "%s'", v.type == MP_BIN ? "b" : "");
		text_add_quoted(t, v.bytes);
		text_add(t, "'");
		break;
	case MP_ARRAY:
	case MP_MAP:
		if (message)
			print_whole_message(t, in, v.u);
		else
			print_container(t, in, &v);
		break;
	default:
		fail_msg("a type that the protocol does not use");
	}
}

/* ---- random numbers ---- */

uint32_t random_next(uint32_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state;
}

uint32_t random_below(uint32_t *state, uint32_t below)
{
	return random_next(state) % below;
}

uint8_t *exact_copy(const void *bytes, size_t n)
{
	uint8_t *copy = malloc(n ? n : 1);

	assert_non_null(copy);
	if (n)
		memcpy(copy, bytes, n);
	return copy;
}

/* ---- tests that cannot run everywhere ---- */

bool under_valgrind(void)
{
	const char *preload = getenv("LD_PRELOAD");

	return preload && strstr(preload, "valgrind");
}

void skip_because(const char *why)
{
	print_message("skipped: %s\n", why);
	skip();
}
