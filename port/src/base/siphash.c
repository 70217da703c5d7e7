/* SPDX-License-Identifier: Apache-2.0 */
#include "base/siphash.h"

struct state {
	uint64_t a, b, c, d;
};

static uint64_t turn_left(uint64_t x, unsigned by)
{
	return x << by | x >> (64 - by);
}

static uint64_t word_at(const uint8_t *at, size_t len)
{
	uint64_t word = 0;

	while (len-- > 0)
		word = word << 8 | at[len];
	return word;
}

static void rounds(struct state *s, unsigned count)
{
	while (count-- > 0) {
		s->a += s->b;
		s->c += s->d;
		s->b = turn_left(s->b, 13) ^ s->a;
		s->d = turn_left(s->d, 16) ^ s->c;
		s->a = turn_left(s->a, 32);
		s->c += s->b;
		s->a += s->d;
		s->b = turn_left(s->b, 17) ^ s->c;
		s->d = turn_left(s->d, 21) ^ s->a;
		s->c = turn_left(s->c, 32);
	}
}

static void mix(struct state *s, uint64_t word)
{
	s->d ^= word;
	rounds(s, 2);
	s->a ^= word;
}

uint64_t siphash(const uint8_t secret[16], const void *bytes, size_t len)
{
	uint64_t k0 = word_at(secret, 8), k1 = word_at(secret + 8, 8), last = (uint64_t)len << 56;
	struct state s = {k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573};
	const uint8_t *at = bytes;

	for (; len >= 8; len -= 8, at += 8)
		mix(&s, word_at(at, 8));
	mix(&s, last | word_at(at, len));
	s.c ^= 0xff;
	rounds(&s, 4);
	return s.a ^ s.b ^ s.c ^ s.d;
}
