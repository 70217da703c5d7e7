/* SPDX-License-Identifier: Apache-2.0 */
#include "base/text.h"

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

bool is_token_char(uint8_t c)
{
	static const uint8_t marks[] = "!#$%&'*+-.^_`|~";

	return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || (c && memchr(marks, c, sizeof marks - 1));
}

bool is_token(struct slice text)
{
	for (size_t i = 0; i < text.len; i++)
		if (!is_token_char(text.at[i]))
			return false;
	return text.len > 0;
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
