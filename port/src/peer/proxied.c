/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/proxied.h"

enum {
	LINE_MAX_BYTES = 107, /* version 1, with its CRLF */
	SIGNATURE = 12,
	HEAD = 16, /* version 2: signature, command, family, length */
	UNIX_PATH = 108,
};

/* Version 2 */
enum { COMMAND_LOCAL, COMMAND_PROXY, COMMANDS };
enum { FAMILY_NONE, FAMILY_INET, FAMILY_INET6, FAMILY_UNIX, FAMILIES };
enum { TRANSPORT_NONE, TRANSPORT_STREAM, TRANSPORT_DATAGRAM, TRANSPORTS };
enum { TLV_ALPN = 1, TLV_AUTHORITY = 2, TLV_CRC32C = 3, TLV_UNIQUE = 5, TLV_SSL = 0x20 };
enum { SSL_VERSION = 0x21, SSL_NAME = 0x22, SSL_CIPHER = 0x23, SSL_SIGNATURE = 0x24, SSL_KEY = 0x25, SSL_HEAD = 5 };

/* A header's fault, for *why. */
struct reading {
	struct slice whole;
	struct proxied *p;
	const char *why;
};

static bool wrong(struct reading *r, const char *why)
{
	r->why = why;
	return false;
}

static bool begins(struct slice bytes, struct slice with)
{
	size_t n = bytes.len < with.len ? bytes.len : with.len;

	return n == 0 || memcmp(bytes.at, with.at, n) == 0;
}

/* ---- version 1 ---- */

/* The word before the next space, which must exist; or before the end. */
static bool cut_word(struct slice *line, struct slice *word, bool last)
{
	const uint8_t *space = line->len ? memchr(line->at, ' ', line->len) : NULL;

	*word = slice_of(line->at, space ? (size_t)(space - line->at) : line->len);
	if (last)
		return !space && word->len > 0;
	if (!space || word->len == 0)
		return false;
	*line = slice_of(space + 1, line->len - word->len - 1);
	return true;
}

static bool read_port(struct slice text, uint16_t *port)
{
	unsigned n = 0;

	if (text.len == 0 || text.len > 5 || (text.at[0] == '0' && text.len > 1))
		return false;
	for (size_t i = 0; i < text.len; i++) {
		if (text.at[i] < '0' || text.at[i] > '9')
			return false;
		n = n * 10 + (unsigned)(text.at[i] - '0');
	}
	*port = (uint16_t)n;
	return n <= UINT16_MAX;
}

static bool read_address(struct slice text, bool six, struct ip *ip)
{
	bool colon = text.len && memchr(text.at, ':', text.len);

	return colon == six && ip_parse(text, ip);
}

/* The line after "PROXY ", without its CRLF. */
static bool read_line(struct reading *r, struct slice line)
{
	struct slice family, word;
	struct proxied *p = r->p;
	bool six;

	if (line.len >= 7 && memcmp(line.at, "UNKNOWN", 7) == 0) {
		p->silent = true; /* whatever follows */
		return true;
	}
	if (!cut_word(&line, &family, false) || !(slice_eq(family, SLICE_LIT("TCP4")) || slice_eq(family, SLICE_LIT("TCP6"))))
		return wrong(r, "its protocol is not TCP4, TCP6 or UNKNOWN");
	six = family.at[3] == '6';
	if (!cut_word(&line, &word, false) || !read_address(word, six, &p->source.ip))
		return wrong(r, "its source is not an address of its family");
	if (!cut_word(&line, &word, false) || !read_address(word, six, &p->target.ip))
		return wrong(r, "its destination is not an address of its family");
	if (!cut_word(&line, &word, false) || !read_port(word, &p->source.port))
		return wrong(r, "its source port is not 0 to 65535");
	if (!cut_word(&line, &word, true) || !read_port(word, &p->target.port))
		return wrong(r, "its destination port is not 0 to 65535");
	return true;
}

static enum proxied_step read_v1(struct reading *r, size_t *used)
{
	static const struct slice start = SLICE_LIT("PROXY ");
	size_t most = r->whole.len < LINE_MAX_BYTES ? r->whole.len : LINE_MAX_BYTES;
	const uint8_t *end = memchr(r->whole.at, '\r', most);
	size_t n = end ? (size_t)(end - r->whole.at) : 0;

	r->p->version = 1;
	if (!end && r->whole.len < LINE_MAX_BYTES)
		return PROXIED_MORE;
	if (!end || n + 2 > LINE_MAX_BYTES) {
		wrong(r, "its line has no end within 107 bytes");
		return PROXIED_BAD;
	}
	if (n + 1 == r->whole.len)
		return PROXIED_MORE;
	if (end[1] != '\n') {
		wrong(r, "its line does not end with CR LF");
		return PROXIED_BAD;
	}
	*used = n + 2;
	return read_line(r, slice_of(r->whole.at + start.len, n - start.len)) ? PROXIED_DONE : PROXIED_BAD;
}

/* ---- version 2 ---- */

static unsigned read16(const uint8_t *at)
{
	return (unsigned)at[0] << 8 | at[1];
}

static uint32_t read32(const uint8_t *at)
{
	return (uint32_t)read16(at) << 16 | read16(at + 2);
}

/* CRC-32C (RFC 3720 appendix B.4), reflected, a bit at a time: headers are short and rarely have one. */
static uint32_t crc32c(uint32_t crc, const uint8_t *at, size_t len)
{
	for (; len > 0; len--, at++) {
		crc ^= *at;
		for (unsigned bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? UINT32_C(0x82f63b78) : 0);
	}
	return crc;
}

/* The checksum of the whole header, with zeros in place of the checksum itself. */
static bool sum_fits(struct slice whole, struct slice sum)
{
	static const uint8_t zeros[4];
	size_t before = (size_t)(sum.at - whole.at);
	uint32_t crc = crc32c(UINT32_MAX, whole.at, before);

	crc = crc32c(crc, zeros, sizeof zeros);
	crc = crc32c(crc, sum.at + sizeof zeros, whole.len - before - sizeof zeros);
	return (crc ^ UINT32_MAX) == read32(sum.at);
}

/* Cuts the next extension off. False: there is none, or (rest not empty) it is truncated. */
static bool cut_tlv(struct slice *rest, unsigned *type, struct slice *value)
{
	size_t len;

	if (rest->len < 3)
		return false;
	len = read16(rest->at + 1);
	if (len > rest->len - 3)
		return false;
	*type = rest->at[0];
	*value = slice_of(rest->at + 3, len);
	*rest = slice_of(rest->at + 3 + len, rest->len - 3 - len);
	return true;
}

/* If a type comes twice, the first counts. */
static void put_first(struct slice *to, struct slice value)
{
	if (!to->at)
		*to = value;
}

static bool read_tls(struct reading *r, struct slice value)
{
	struct proxied_tls *tls = &r->p->tls;
	struct slice rest;
	unsigned type;

	if (value.len < SSL_HEAD)
		return wrong(r, "its extension for TLS is cut short");
	if (tls->there)
		return true;
	*tls = (struct proxied_tls){.there = true, .client = value.at[0], .verify = read32(value.at + 1)};
	rest = slice_of(value.at + SSL_HEAD, value.len - SSL_HEAD);
	while (cut_tlv(&rest, &type, &value)) {
		if (type == SSL_VERSION)
			put_first(&tls->version, value);
		else if (type == SSL_NAME)
			put_first(&tls->name, value);
		else if (type == SSL_CIPHER)
			put_first(&tls->cipher, value);
		else if (type == SSL_SIGNATURE)
			put_first(&tls->signature, value);
		else if (type == SSL_KEY)
			put_first(&tls->key, value);
	}
	return rest.len == 0 || wrong(r, "its extension for TLS is cut short");
}

static bool read_tlv(struct reading *r, unsigned type, struct slice value)
{
	switch (type) {
	case TLV_ALPN:
		put_first(&r->p->alpn, value);
		return true;
	case TLV_AUTHORITY:
		put_first(&r->p->authority, value);
		return true;
	case TLV_UNIQUE:
		if (value.len <= PROXIED_UNIQUE_MAX)
			put_first(&r->p->unique, value);
		return true;
	case TLV_CRC32C:
		return (value.len == 4 && sum_fits(r->whole, value)) || wrong(r, "its checksum is wrong");
	case TLV_SSL:
		return read_tls(r, value);
	default:
		return true;
	}
}

static bool read_tlvs(struct reading *r, struct slice rest)
{
	struct slice value;
	unsigned type;

	while (cut_tlv(&rest, &type, &value))
		if (!read_tlv(r, type, value))
			return false;
	return rest.len == 0 || wrong(r, "an extension is cut short");
}

static struct slice path_of(const uint8_t *at)
{
	const uint8_t *end = memchr(at, 0, UNIX_PATH);

	return end == at ? (struct slice){0} : slice_of(at, end ? (size_t)(end - at) : UNIX_PATH);
}

/* Reads the addresses before the extensions. Returns their length, or 0 if the header is too short for them. */
static size_t read_ends(struct proxied *p, unsigned family, struct slice rest)
{
	static const uint8_t sizes[FAMILIES] = {[FAMILY_INET] = 4, [FAMILY_INET6] = 16, [FAMILY_UNIX] = UNIX_PATH};
	size_t size = sizes[family], all = family == FAMILY_UNIX ? 2 * size : 2 * size + 4;

	if (rest.len < all)
		return 0;
	if (family == FAMILY_UNIX) {
		p->source.path = path_of(rest.at);
		p->target.path = path_of(rest.at + size);
		return all;
	}
	p->source = (struct proxied_end){.ip = ip_of(rest.at, size), .port = (uint16_t)read16(rest.at + 2 * size)};
	p->target = (struct proxied_end){.ip = ip_of(rest.at + size, size), .port = (uint16_t)read16(rest.at + 2 * size + 2)};
	return all;
}

/* Reads what follows the head, for a connection of a client. */
static bool read_block(struct reading *r, unsigned family, unsigned transport)
{
	struct slice rest = slice_of(r->whole.at + HEAD, r->whole.len - HEAD);
	size_t n;

	if (family >= FAMILIES || transport >= TRANSPORTS)
		return wrong(r, "its family is unassigned");
	if (family == FAMILY_NONE || transport != TRANSPORT_STREAM) {
		r->p->silent = true; /* its addresses must be ignored, and the start of the extensions is unknown */
		return true;
	}
	n = read_ends(r->p, family, rest);
	if (n == 0)
		return wrong(r, "it is too short for its addresses");
	return read_tlvs(r, slice_of(rest.at + n, rest.len - n));
}

static enum proxied_step read_v2(struct reading *r, size_t max, size_t *used)
{
	unsigned command, len;

	r->p->version = 2;
	if (r->whole.len > SIGNATURE && r->whole.at[SIGNATURE] >> 4 != 2) {
		wrong(r, "its version is not 2");
		return PROXIED_BAD;
	}
	if (r->whole.len < HEAD)
		return PROXIED_MORE;
	command = r->whole.at[SIGNATURE] & 15;
	len = HEAD + read16(r->whole.at + 14);
	if (command >= COMMANDS) {
		wrong(r, "its command is unassigned");
		return PROXIED_BAD;
	}
	if (len > max) {
		wrong(r, "it is longer than max_proxy_header");
		return PROXIED_BAD;
	}
	if (r->whole.len < len)
		return PROXIED_MORE;
	*used = len;
	r->whole.len = len;
	r->p->silent = command == COMMAND_LOCAL; /* everything that follows is skipped */
	if (!r->p->silent && !read_block(r, r->whole.at[13] >> 4, r->whole.at[13] & 15))
		return PROXIED_BAD;
	return PROXIED_DONE;
}

enum proxied_step proxied_read(struct slice bytes, size_t max, struct proxied *p, size_t *used, const char **why)
{
	static const struct slice line = SLICE_LIT("PROXY "), signature = SLICE_LIT("\r\n\r\n\0\r\nQUIT\n");
	struct reading r = {.whole = bytes, .p = p};
	enum proxied_step step;

	memset(p, 0, sizeof *p);
	*used = 0;
	if (begins(bytes, line))
		step = bytes.len < line.len ? PROXIED_MORE : read_v1(&r, used);
	else if (begins(bytes, signature))
		step = bytes.len < signature.len ? PROXIED_MORE : read_v2(&r, max, used);
	else
		return PROXIED_NOT;
	*why = r.why;
	return step;
}
