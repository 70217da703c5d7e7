/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/h1_chunk.h"

#include "stream/rules.h"

/*
 *   chunk     = chunk-size [ chunk-ext ] CRLF chunk-data CRLF
 *   chunk-ext = *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )
 *
 * Each state is named after what was read last, or what is expected next.
 */
enum state {
	SIZE_WANTED, /* also the initial state */
	IN_SIZE,
	SEMICOLON_WANTED, /* after white space: only an extension may follow */
	NAME_WANTED,
	IN_NAME,
	BEHIND_NAME,
	VALUE_WANTED,
	IN_VALUE,
	IN_QUOTED,
	IN_ESCAPE,
	BEHIND_QUOTED,
	LINE_LF_WANTED,
	IN_DATA,
	DATA_CR_WANTED,
	DATA_LF_WANTED,
	FAULTY,
};

enum { EXTENSIONS_FREE = 256, EXTENSIONS_EACH = 16, FRAMING_EACH = 64 };

/* RFC 9110 5.6.4: bytes that a quoted string may contain, except its quotes; and bytes after a backslash. */
static bool is_quotable(uint8_t c)
{
	return c == '\t' || (c >= 0x20 && c != 0x7f);
}

static int hex_of(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static enum state after_size(struct h1_chunk *h, uint8_t c)
{
	int digit = hex_of(c);

	if (digit < 0)
		return FAULTY;
	if (h->left > UINT64_MAX >> 4)
		return FAULTY;
	h->left = h->left << 4 | (unsigned)digit;
	return IN_SIZE;
}

/* Bytes that may follow the end of a size, a name or a value. */
static enum state after_part(uint8_t c)
{
	return c == ';' ? NAME_WANTED : c == '\r' ? LINE_LF_WANTED : is_blank(c) ? SEMICOLON_WANTED : FAULTY;
}

static enum state next_state(struct h1_chunk *h, uint8_t c)
{
	switch ((enum state)h->state) {
	case SIZE_WANTED:
		return after_size(h, c);
	case IN_SIZE:
		return hex_of(c) >= 0 ? after_size(h, c) : after_part(c);
	case SEMICOLON_WANTED:
		return is_blank(c) ? SEMICOLON_WANTED : c == ';' ? NAME_WANTED : FAULTY;
	case NAME_WANTED:
		return is_blank(c) ? NAME_WANTED : is_token_char(c) ? IN_NAME : FAULTY;
	case IN_NAME:
		return is_token_char(c) ? IN_NAME : c == '=' ? VALUE_WANTED : is_blank(c) ? BEHIND_NAME : after_part(c);
	case BEHIND_NAME:
		return is_blank(c) ? BEHIND_NAME : c == '=' ? VALUE_WANTED : c == ';' ? NAME_WANTED : FAULTY;
	case VALUE_WANTED:
		return is_blank(c) ? VALUE_WANTED : c == '"' ? IN_QUOTED : is_token_char(c) ? IN_VALUE : FAULTY;
	case IN_VALUE:
		return is_token_char(c) ? IN_VALUE : after_part(c);
	case IN_QUOTED:
		return c == '"' ? BEHIND_QUOTED : c == '\\' ? IN_ESCAPE : is_quotable(c) ? IN_QUOTED : FAULTY;
	case IN_ESCAPE:
		return is_quotable(c) ? IN_QUOTED : FAULTY;
	case BEHIND_QUOTED:
		return after_part(c);
	case LINE_LF_WANTED:
		return c == '\n' ? IN_DATA : FAULTY;
	case DATA_CR_WANTED:
		return c == '\r' ? DATA_LF_WANTED : FAULTY;
	case DATA_LF_WANTED:
		return c == '\n' ? SIZE_WANTED : FAULTY;
	case IN_DATA:
	case FAULTY:
		break;
	}
	return FAULTY;
}

static bool is_extension(uint8_t state)
{
	return state >= SEMICOLON_WANTED && state <= BEHIND_QUOTED;
}

/* Bounds the framing relative to the data. NULL: it is within the bound; else the fault. */
static const char *excess(const struct h1_chunk *h, uint64_t extensions_max)
{
	if (h->extensions > extensions_max ||
	    (h->extensions > EXTENSIONS_FREE && h->extensions > EXTENSIONS_EACH * (h->chunks + 1)))
		return "chunk extensions are too long";
	if (h->framing > FRAMING_EACH * (h->chunks + 1) + extensions_max)
		return "chunk framing is too long";
	return NULL;
}

static enum h1_chunk_result bad(struct h1_chunk *h, const char *fault)
{
	h->state = FAULTY;
	h->fault = fault;
	return CHUNK_BAD;
}

enum h1_chunk_result h1_chunk_read(struct h1_chunk *h, const uint8_t *data, size_t len, uint64_t extensions_max, size_t *used)
{
	const char *fault;

	for (*used = 0; *used < len;) {
		h->state = (uint8_t)next_state(h, data[(*used)++]);
		h->framing++;
		h->extensions += is_extension(h->state);
		if (h->state == FAULTY)
			return bad(h, "malformed chunk");
		fault = excess(h, extensions_max);
		if (fault)
			return bad(h, fault);
		if (h->state != IN_DATA)
			continue;
		h->chunks++;
		return h->left ? CHUNK_DATA : CHUNK_LAST;
	}
	return CHUNK_MORE;
}

void h1_chunk_took(struct h1_chunk *h, uint64_t n)
{
	h->left -= n;
	if (h->left == 0)
		h->state = DATA_CR_WANTED;
}
