/* SPDX-License-Identifier: Apache-2.0 */
/*
 * permessage-deflate (RFC 7692): negotiation, and zlib.
 *
 * Memory, in bytes. A deflater: 2^(bits + 2) + 2^(mem_level + 9) + about 6,000; with the defaults (bits 12, mem_level 5)
 * 39 kB. An inflater: 2^bits + about 7,000; 2^15 if the client does not limit its window. Without context
 * takeover (the default) sockets share one of each, and borrow them only while a message is in progress.
 */
#ifndef SPARX_WS_DEFLATE_H
#define SPARX_WS_DEFLATE_H

#include "base/buf.h"
#include "base/slice.h"

enum { DEFLATE_OFFERS_MAX = 4, DEFLATE_TEXT_MAX = 160 };

/* The parameters of an offer, and of the agreement. */
struct deflate_params {
	bool server_no_takeover, client_no_takeover;
	uint8_t server_bits;    /* 0: not said */
	uint8_t client_bits;    /* 0: not said */
	bool client_bits_known; /* an offer's: the client understands client_max_window_bits */
};

/* What the application wants. */
struct deflate_want {
	bool on;
	bool server_no_takeover, client_no_takeover;
	uint8_t server_bits, client_bits; /* 9 to 15 */
	uint8_t level, mem_level;         /* zlib's, 1 to 9 */
	uint32_t max_ratio;               /* how many times longer than its compressed form a message of more than 1 MiB may be */
};

/* Reads a Sec-WebSocket-Extensions field, and appends the offers of permessage-deflate that are valid. */
void deflate_read_offers(struct slice value, struct deflate_params *offers, unsigned *count);
/* The first offer that can be accepted, and how. False: none. */
bool deflate_agree(const struct deflate_params *offers, unsigned count, const struct deflate_want *want,
		   struct deflate_params *agreed);
/* Writes the answer into text, DEFLATE_TEXT_MAX bytes. */
struct slice deflate_answer(const struct deflate_params *agreed, char *text);

struct inflater;
struct deflater;

/* NULL: out of memory. */
struct inflater *inflater_new(void);
void inflater_free(struct inflater *z);
void inflater_reset(struct inflater *z);

enum inflate_result { INFLATE_OK, INFLATE_BAD, INFLATE_TOO_BIG, INFLATE_NO_MEMORY };

/* Appends the inflated `in`, while out is not longer than max. */
enum inflate_result inflater_feed(struct inflater *z, struct slice in, struct buf *out, size_t max);
/* The end of a message. */
enum inflate_result inflater_end(struct inflater *z, struct buf *out, size_t max);

struct deflater *deflater_new(uint8_t bits, uint8_t level, uint8_t mem_level);
void deflater_free(struct deflater *z);
void deflater_reset(struct deflater *z);
bool deflater_is(const struct deflater *z, uint8_t bits, uint8_t level, uint8_t mem_level);
/* Appends the whole of `in`, deflated; `end` with the message. False: out of memory. */
bool deflater_feed(struct deflater *z, struct slice in, bool end, struct buf *out);

#endif
