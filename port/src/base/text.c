/* SPDX-License-Identifier: Apache-2.0 */
#include "base/text.h"

#define IS_ALNUM(c) (((c) >= '0' && (c) <= '9') || ((c) >= 'A' && (c) <= 'Z') || ((c) >= 'a' && (c) <= 'z'))
/* Marks that are in both, in tokens only, in hosts only. */
#define IS_MARK(c) \
	((c) == '!' || (c) == '$' || (c) == '&' || (c) == '\'' || (c) == '*' || (c) == '+' || (c) == '-' || (c) == '.' || \
	 (c) == '_' || (c) == '~')
#define IS_TOKEN_MARK(c) ((c) == '#' || (c) == '%' || (c) == '^' || (c) == '`' || (c) == '|')
#define IS_HOST_MARK(c) ((c) == '(' || (c) == ')' || (c) == ',' || (c) == ';' || (c) == '=')
#define CLASSES(c) \
	((IS_ALNUM(c) || IS_MARK(c) || IS_TOKEN_MARK(c) ? CHAR_TOKEN : 0) | \
	 ((c) > 0x20 && (c) < 0x7f && (c) != '#' ? CHAR_TARGET : 0) | \
	 (IS_ALNUM(c) || IS_MARK(c) || IS_HOST_MARK(c) ? CHAR_HOST : 0))
#define FOUR(c) CLASSES(c), CLASSES((c) + 1), CLASSES((c) + 2), CLASSES((c) + 3)
#define SIXTEEN(c) FOUR(c), FOUR((c) + 4), FOUR((c) + 8), FOUR((c) + 12)

const uint8_t text_classes[256] = {
	SIXTEEN(0x00), SIXTEEN(0x10), SIXTEEN(0x20), SIXTEEN(0x30), SIXTEEN(0x40), SIXTEEN(0x50), SIXTEEN(0x60), SIXTEEN(0x70),
};

/* Whether all of eight bytes are: none is below a space, none is DEL, and none has its highest bit. */
static bool is_printable(uint64_t eight)
{
	const uint64_t ones = UINT64_C(0x0101010101010101);

	return !((eight | (eight - ones * 0x20) | (eight + ones)) & ones * 0x80);
}

size_t text_printable(const uint8_t *text, size_t len)
{
	uint64_t eight;
	size_t i = 0;

	for (; len - i >= sizeof eight; i += sizeof eight) {
		memcpy(&eight, text + i, sizeof eight);
		if (!is_printable(eight))
			break;
	}
	while (i < len && text[i] >= 0x20 && text[i] < 0x7f)
		i++;
	return i;
}

/* Eight bytes at once. A byte's highest bit says whether it is a capital letter: it is at least 'A', not beyond 'Z', and ASCII. */
static uint64_t lower_eight(uint64_t eight)
{
	const uint64_t ones = UINT64_C(0x0101010101010101), low = eight & ones * 0x7f;
	uint64_t from_a = low + ones * (0x80 - 'A'), beyond_z = low + ones * (0x7f - 'Z');

	return eight | ((from_a ^ beyond_z) & ~eight & ones * 0x80) >> 2;
}

static void lower_8(uint8_t *at)
{
	uint64_t eight;

	memcpy(&eight, at, 8);
	eight = lower_eight(eight);
	memcpy(at, &eight, 8);
}

static void lower_4(uint8_t *at)
{
	uint32_t four;

	memcpy(&four, at, 4);
	four = (uint32_t)lower_eight(four);
	memcpy(at, &four, 4);
}

/* The last step overlaps the one before, which changes nothing there. */
void text_lower(uint8_t *text, size_t len)
{
	size_t i = 0;

	if (len >= 8) {
		for (; len - i > 8; i += 8)
			lower_8(text + i);
		lower_8(text + len - 8);
	} else if (len >= 4) {
		lower_4(text);
		lower_4(text + len - 4);
	} else {
		for (; i < len; i++)
			text[i] = (uint8_t)lower_eight(text[i]);
	}
}

struct slice text_cut(struct slice text, uint8_t mark, struct slice *rest)
{
	const uint8_t *at = text.len ? memchr(text.at, mark, text.len) : NULL;
	size_t len = at ? (size_t)(at - text.at) : text.len;

	*rest = at ? slice_of(at + 1, text.len - len - 1) : (struct slice){0};
	return slice_of(text.at, len);
}

bool text_next(struct slice *list, struct slice *element)
{
	if (!list->at)
		return false;
	*element = text_trim(text_cut(*list, ',', list));
	return true;
}

bool text_lists(struct slice list, struct slice element)
{
	struct slice one;

	while (text_next(&list, &one))
		if (slice_eq_nocase(one, element))
			return true;
	return false;
}

bool parse_length(struct slice text, int64_t *length)
{
	int64_t n = 0;

	for (size_t i = 0; i < text.len; i++) {
		if (text.at[i] < '0' || text.at[i] > '9' || n > (INT64_MAX - 9) / 10)
			return false;
		n = n * 10 + (text.at[i] - '0');
	}
	*length = n;
	return text.len > 0;
}
