/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading HTTP/1 requests: the request line (h1_line) and the framing of chunks (h1_chunk) are ours, header fields and trailers
 * are llhttp's, built strict. llhttp's callbacks only record. Errors that its strict mode accepts are refused here.
 *
 * A head is parsed in place. While it is incomplete, nothing of it is consumed: it is offered again from its first byte, with more
 * bytes after it. The parser remembers its position, so no byte is parsed twice.
 */
#ifndef SPARX_PROTO_H1_READ_H
#define SPARX_PROTO_H1_READ_H

#include <llhttp.h>

#include "base/buf.h"
#include "config.h"
#include "proto/h1_chunk.h"
#include "proto/h1_line.h"

enum { SPANS_MAX = 256 };

enum h1_read_result {
	H1_MORE, /* not complete: more bytes are needed */
	H1_DONE, /* the head, or the body, is complete */
	H1_BAD,  /* status says how to refuse it */
};

struct h1_span {
	uint32_t name, name_len, value, value_len; /* offsets from the head's first byte, or into trailers */
};

struct h1_parse {
	llhttp_t parser;
	const struct config *config;
	const uint8_t *base; /* the head's address during one call */
	uint64_t began_us;   /* when its first byte was seen */
	size_t seen;         /* bytes of the head parsed so far */
	size_t line_len;     /* of the request line; 0 while it is not complete */
	size_t head_len;     /* of the head; 0 while it is not complete */
	bool in_value;       /* the last span was of a value */
	bool value_ended;
	bool too_many;      /* one field too many has begun */
	unsigned count;     /* complete or begun spans */
	unsigned status;    /* H1_BAD: the status to answer with */
	const char *reason; /* and why, for people */

	/* the body */
	bool chunked;
	int64_t left;        /* of a body with a length */
	uint64_t body_bytes; /* read */
	struct h1_chunk chunk;
	bool in_data, in_trailers;                         /* of a chunked body */
	bool after_cr, after_lf, empty_line, trailers_end; /* position of the check of trailers, */
	size_t trailer_bytes, trailer_line;                /* bytes of trailers, and of the current line */
	struct buf trailers;

	struct h1_span spans[SPANS_MAX];
};

/* Facts of a complete head, beyond the request_head. */
struct h1_facts {
	bool close, keep_alive;      /* Connection says close */
	bool host;                   /* there is a Host field */
	bool upgrade, upgrade_field; /* Connection says upgrade, and there is an Upgrade field */
};

void h1_parse_init(struct h1_parse *p, const struct config *config);
void h1_parse_free(struct h1_parse *p);

/* data begins with the head's first byte, and may be changed. After H1_DONE p->head_len is where it ends. */
enum h1_read_result h1_read_head(struct h1_parse *p, uint8_t *data, size_t len);

/*
 * Checks a complete head and describes it; data as above, names become lower case in place. fields has room for
 * max_header_count. False: p->status says how to refuse it.
 */
bool h1_examine(struct h1_parse *p, uint8_t *data, struct field *fields, struct request_head *head, struct h1_facts *facts);

/*
 * Reads at most len bytes of the body. *used says how many were consumed; *body is the data in them, in place (for a chunked
 * body the pieces are moved together).
 */
enum h1_read_result h1_read_body(struct h1_parse *p, uint8_t *data, size_t len, size_t *used, struct slice *body);

/* After H1_DONE: the trailers, checked. Returns false if one is refused. */
bool h1_trailers(struct h1_parse *p, struct field *fields, unsigned *count);

#endif
