/* SPDX-License-Identifier: Apache-2.0 */
/* Helpers for the grammar of header fields (RFC 9110 5.6). */
#ifndef SPARX_BASE_TEXT_H
#define SPARX_BASE_TEXT_H

#include "base/slice.h"

/* Optional white space, 5.6.3: spaces and tabs. */
static inline bool is_blank(uint8_t c)
{
	return c == ' ' || c == '\t';
}

/* Without the white space around it. */
static inline struct slice text_trim(struct slice text)
{
	while (text.len && is_blank(*text.at))
		text = slice_of(text.at + 1, text.len - 1);
	while (text.len && is_blank(text.at[text.len - 1]))
		text.len--;
	return text;
}

/* The part before the first `mark`, or everything if there is none. *rest (it may be `text` itself) becomes the part after it, or
 * absent (NULL). */
struct slice text_cut(struct slice text, uint8_t mark, struct slice *rest);

/* The next element of a list with commas, 5.6.1, trimmed: it may be empty. False at its end. Quoted strings are not recognized. */
bool text_next(struct slice *list, struct slice *element);
/* Whether a list has this element, letters compared without case. */
bool text_lists(struct slice list, struct slice element);

/* Classes of characters, as bits of text_classes. */
enum {
	CHAR_TOKEN = 1,  /* tchar, 5.6.2 */
	CHAR_TARGET = 2, /* visible ASCII without '#': what a request's target may contain */
	CHAR_HOST = 4,   /* unreserved and sub-delims, RFC 3986 2.2, 2.3: what a name in an authority may contain */
};
extern const uint8_t text_classes[256];

/* Whether all characters are of this class; an empty text has none of another. */
static inline bool text_is(struct slice text, unsigned class)
{
	for (size_t i = 0; i < text.len; i++)
		if (!(text_classes[text.at[i]] & class))
			return false;
	return true;
}

static inline bool is_token_char(uint8_t c)
{
	return text_classes[c] & CHAR_TOKEN;
}

static inline bool is_token(struct slice text)
{
	return text.len > 0 && text_is(text, CHAR_TOKEN);
}

/* How many of the first characters are visible ASCII or spaces. */
size_t text_printable(const uint8_t *text, size_t len);

/* ASCII letters become lower case, in place. */
void text_lower(uint8_t *text, size_t len);

/* A decimal number without sign that fits; false otherwise. */
bool parse_length(struct slice text, int64_t *length);

#endif
