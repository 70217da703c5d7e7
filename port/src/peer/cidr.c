/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/cidr.h"

#include <arpa/inet.h>

enum { IP_TEXT_MAX = 45 };

static bool is_mapped(const uint8_t *bytes)
{
	static const uint8_t prefix[12] = {[10] = 0xff, [11] = 0xff};

	return memcmp(bytes, prefix, sizeof prefix) == 0;
}

struct ip ip_of(const uint8_t *bytes, size_t len)
{
	struct ip ip = {.len = (uint8_t)len};

	if (len == 16 && is_mapped(bytes))
		return ip_of(bytes + 12, 4);
	memcpy(ip.bytes, bytes, len);
	return ip;
}

bool ip_parse(struct slice text, struct ip *ip)
{
	char copy[IP_TEXT_MAX + 1];
	uint8_t bytes[16];

	if (text.len == 0 || text.len > IP_TEXT_MAX || memchr(text.at, 0, text.len))
		return false;
	memcpy(copy, text.at, text.len);
	copy[text.len] = 0;
	if (inet_pton(AF_INET, copy, bytes) == 1)
		*ip = ip_of(bytes, 4);
	else if (inet_pton(AF_INET6, copy, bytes) == 1)
		*ip = ip_of(bytes, 16);
	else
		return false;
	return true;
}

/* The number after the slash, at most `most`. */
static bool read_bits(struct slice text, unsigned most, uint8_t *bits)
{
	unsigned n = 0;

	if (text.len == 0 || text.len > 3)
		return false;
	for (size_t i = 0; i < text.len; i++) {
		if (text.at[i] < '0' || text.at[i] > '9')
			return false;
		n = n * 10 + (unsigned)(text.at[i] - '0');
	}
	*bits = (uint8_t)n;
	return n <= most;
}

static bool bit_at(const struct ip *ip, unsigned i)
{
	return ip->bytes[i / 8] >> (7 - i % 8) & 1;
}

static const char *check_rest(const struct cidr *c)
{
	for (unsigned i = c->bits; i < c->ip.len * 8u; i++)
		if (bit_at(&c->ip, i))
			return "has bits after its prefix";
	return NULL;
}

const char *cidr_parse(struct slice text, struct cidr *c)
{
	const uint8_t *slash = text.len ? memchr(text.at, '/', text.len) : NULL;
	struct slice address = slash ? slice_of(text.at, (size_t)(slash - text.at)) : text;
	unsigned most;

	*c = (struct cidr){.bits = 0};
	if (slice_eq(text, SLICE_LIT("unix")))
		return NULL;
	if (!ip_parse(address, &c->ip))
		return "must be an address, a range or unix";
	most = c->ip.len * 8u;
	c->bits = (uint8_t)most;
	if (slash && !read_bits(slice_of(slash + 1, text.len - address.len - 1), most, &c->bits))
		return "has a prefix length that is not 0 to 32, or 0 to 128 for IPv6";
	return check_rest(c);
}

static bool contains(const struct cidr *c, const struct ip *ip)
{
	unsigned whole = c->bits / 8, rest = c->bits % 8;

	if (c->ip.len != ip->len || memcmp(c->ip.bytes, ip->bytes, whole) != 0)
		return false;
	return rest == 0 || (c->ip.bytes[whole] ^ ip->bytes[whole]) >> (8 - rest) == 0;
}

bool cidr_list_contains(const struct cidr_list *list, const struct ip *ip)
{
	for (unsigned i = 0; i < list->count; i++)
		if (contains(&list->at[i], ip))
			return true;
	return false;
}
