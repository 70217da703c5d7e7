/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checks the frames of a client before nghttp3 gets them: nghttp3 drops fields with invalid octets, ignores bytes after the number in a frame that
 * consists of a number, and reports other errors for cut frames than RFC 9114. Pure: bytes in, verdict out.
 */
#ifndef SPARX_PROTO_H3_SCAN_H
#define SPARX_PROTO_H3_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { H3_SCAN_UNKNOWN = UINT32_MAX };

/* A number of variable length (RFC 9000 16) as it comes in. */
struct h3_number {
	uint64_t value;
	uint8_t need, have; /* bytes; 0 needed: none has come */
};

struct h3_scan {
	struct h3_number number;
	uint64_t left;       /* of the payload */
	uint64_t skip;       /* of a text in a field section */
	uint64_t text;       /* an integer in a field section, as far as it has come */
	uint32_t lines;      /* of the field section */
	uint32_t head_lines; /* of the first one, and of the newest: so many fields must come out of nghttp3 */
	uint32_t last_lines;
	uint8_t type;  /* of the frame: those that matter here are small */
	uint8_t state; /* of the frame; */
	uint8_t place; /* in the field section */
	uint8_t shift; /* of that integer */
	uint8_t sections;
	bool settled; /* on the control stream: SETTINGS has come */
	uint64_t push_max;
};

/* Takes a byte. True: the number is complete. */
bool h3_number_take(struct h3_number *number, uint8_t byte);

/* Bytes of a request stream; end: there are no more. Returns 0, or what is wrong, an NGHTTP3_H3_* or NGHTTP3_QPACK_* code of RFC 9114 8.1. */
uint64_t h3_scan_request(struct h3_scan *scan, const uint8_t *bytes, size_t n, bool end);
/* The same of the control stream, without its type. */
uint64_t h3_scan_control(struct h3_scan *scan, const uint8_t *bytes, size_t n);

#endif
