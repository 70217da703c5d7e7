/* SPDX-License-Identifier: Apache-2.0 */
#include "base/sha1.h"

#include <string.h>

enum { BLOCK = 64, LENGTH_AT = 56 };

static uint32_t rotate(uint32_t x, unsigned n)
{
	return x << n | x >> (32 - n);
}

static uint32_t read32(const uint8_t *at)
{
	return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static void write32(uint8_t *at, uint32_t x)
{
	for (unsigned i = 0; i < 4; i++)
		at[i] = (uint8_t)(x >> (24 - 8 * i));
}

/* RFC 3174 section 5: f(t; B, C, D) + K(t) */
static uint32_t mix(unsigned t, uint32_t b, uint32_t c, uint32_t d)
{
	if (t < 20)
		return ((b & c) | (~b & d)) + 0x5a827999;
	if (t < 40)
		return (b ^ c ^ d) + 0x6ed9eba1;
	if (t < 60)
		return ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdc;
	return (b ^ c ^ d) + 0xca62c1d6;
}

static void add_block(uint32_t h[5], const uint8_t *block)
{
	uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];

	for (unsigned t = 0; t < 16; t++)
		w[t] = read32(block + 4 * t);
	for (unsigned t = 16; t < 80; t++)
		w[t] = rotate(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1);
	for (unsigned t = 0; t < 80; t++) {
		uint32_t next = rotate(a, 5) + mix(t, b, c, d) + e + w[t];
		e = d;
		d = c;
		c = rotate(b, 30);
		b = a;
		a = next;
	}
	h[0] += a;
	h[1] += b;
	h[2] += c;
	h[3] += d;
	h[4] += e;
}

/* The remaining bytes, a one bit, zeros, and the length in bits: one block or two. */
static void add_last(uint32_t h[5], const uint8_t *rest, size_t left, uint64_t len)
{
	uint8_t last[2 * BLOCK] = {0};
	size_t size = left < LENGTH_AT ? BLOCK : 2 * BLOCK;

	if (left)
		memcpy(last, rest, left);
	last[left] = 0x80;
	write32(last + size - 8, (uint32_t)(len >> 29));
	write32(last + size - 4, (uint32_t)(len << 3));
	add_block(h, last);
	if (size > BLOCK)
		add_block(h, last + BLOCK);
}

void sha1(const void *bytes, size_t len, uint8_t digest[SHA1_LEN])
{
	uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
	const uint8_t *at = bytes;
	size_t left = len;

	for (; left >= BLOCK; at += BLOCK, left -= BLOCK)
		add_block(h, at);
	add_last(h, at, left, len);
	for (unsigned i = 0; i < 5; i++)
		write32(digest + 4 * i, h[i]);
}
