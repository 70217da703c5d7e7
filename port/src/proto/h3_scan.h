/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checks the frames of a client before nghttp3 gets them: nghttp3 drops fields with invalid octets, ignores bytes after the
 * integer in a frame that consists of one integer, and reports other errors for truncated frames than RFC 9114. Pure: bytes in,
 * verdict out.
 */
#ifndef SPARX_PROTO_H3_SCAN_H
#define SPARX_PROTO_H3_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { H3_SCAN_UNKNOWN = UINT32_MAX };

/* A variable-length integer (RFC 9000 16) that is being read. */
struct h3_number {
	uint64_t value;
	uint8_t need, have; /* bytes read and needed; 0 needed: no byte has been read */
};

struct h3_scan {
	struct h3_number number;
	uint64_t left;       /* of the payload */
	uint64_t skip;       /* bytes of a string in a field section that are still to come */
	uint64_t text;       /* the value of an incomplete integer in a field section */
	uint32_t lines;      /* of the field section */
	uint32_t head_lines; /* field lines of the first section, and of the newest: nghttp3 must return as many fields */
	uint32_t last_lines;
	uint8_t type;  /* type of the frame; all types that matter here are small */
	uint8_t state; /* of the frame; */
	uint8_t place; /* in the field section */
	uint8_t shift; /* of that integer */
	uint8_t sections;
	bool settled; /* on the control stream: SETTINGS was received */
	uint64_t push_max;
};

/* Reads a byte. True: the integer is complete. */
bool h3_number_take(struct h3_number *number, uint8_t byte);

/* Checks bytes of a request stream; end: there are no more. Returns 0, or the error, an NGHTTP3_H3_* or NGHTTP3_QPACK_* code of
 * RFC 9114 8.1. */
uint64_t h3_scan_request(struct h3_scan *scan, const uint8_t *bytes, size_t n, bool end);
/* The same for the control stream, without its type. */
uint64_t h3_scan_control(struct h3_scan *scan, const uint8_t *bytes, size_t n);

#endif
