/* SPDX-License-Identifier: Apache-2.0 */
/* The request line (RFC 9112 section 3), parsed strictly and without state. */
#ifndef SPARX_PROTO_H1_LINE_H
#define SPARX_PROTO_H1_LINE_H

#include "stream/stream.h"

struct h1_line {
	unsigned version; /* 10, 11 */
	struct slice method, target;
	int method_index;
	bool https;
	struct slice authority, path, query; /* absent: at is NULL */
	bool plain;                          /* target is path, or path ? query */
};

/* A line without its CRLF. 0, or the status to refuse it with: 400, 505. */
unsigned h1_line_parse(struct slice text, struct h1_line *line);

/*
 * Whether a line has three words, of which the second is not a target and the third names no protocol: a client that begins a
 * connection with it speaks another protocol, and cannot be answered (RFC 9113 3.4: an invalid preface).
 */
bool h1_line_foreign(struct slice text);

#endif
