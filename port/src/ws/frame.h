/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frame headers (RFC 6455 5.2), checked before wslay sees them and before anything is allocated: wslay enforces some of
 * this without sending a Close, and bounds neither the size of a message nor the number of its fragments.
 */
#ifndef SPARX_WS_FRAME_H
#define SPARX_WS_FRAME_H

#include "base/slice.h"

enum ws_type { WS_CONTINUATION = 0, WS_TEXT = 1, WS_BINARY = 2, WS_CLOSE = 8, WS_PING = 9, WS_PONG = 10 };

enum { WS_CONTROL_MAX = 125, WS_HEADER_MAX = 14 };

/* Fragments shorter than this (bytes) are counted. max_message bounds the longer ones. */
enum { WS_SMALL_FRAGMENT = 64 };

/* Close codes (RFC 6455 7.4.1) that the port itself uses. */
enum ws_code {
	WS_NORMAL = 1000,
	WS_GOING_AWAY = 1001,
	WS_PROTOCOL_ERROR = 1002,
	WS_NO_CODE = 1005,
	WS_BAD_DATA = 1007,
	WS_TOO_BIG = 1009,
	WS_INTERNAL_ERROR = 1011,
};

struct ws_header {
	bool fin, compressed;
	uint8_t type; /* enum ws_type */
	uint8_t size; /* of the header itself */
	uint64_t len; /* of the payload */
};

/* Why the connection is failed. */
struct ws_fault {
	unsigned code; /* 0: there is none */
	const char *rule;
};

/* The limits, and the state of the incoming message. */
struct ws_guard {
	uint64_t max_message;
	uint32_t max_fragments; /* small fragments of one message */
	bool may_compress;      /* permessage-deflate was agreed: RSV1 may be set */
	bool compressed;        /* the current message is compressed */
	uint8_t type;           /* type of the current message; WS_CONTINUATION: there is none */
	uint32_t small;         /* fragments of it so far */
	uint64_t size;          /* bytes of its payload so far, before decompression */
};

enum ws_look { WS_LOOK_MORE, WS_LOOK_FRAME, WS_LOOK_FAULT };

/* Checks the header at the front of the bytes, and reports an error as early as possible. Changes nothing. */
enum ws_look ws_guard_look(const struct ws_guard *g, struct slice bytes, struct ws_header *h, struct ws_fault *fault);
/* A data frame with this header begins. */
void ws_guard_begin(struct ws_guard *g, const struct ws_header *h);
/* The message is complete. */
void ws_guard_end(struct ws_guard *g);

static inline bool ws_is_control(unsigned type)
{
	return type & 8;
}

/* Whether a Close frame may carry this code: RFC 6455 7.4, and 1012 to 1014 of IANA's registry. */
bool ws_code_valid(unsigned code);
/* Reads a client's Close frame. False: *fault says how to answer it. */
bool ws_read_close(struct slice payload, unsigned *code, struct slice *reason, struct ws_fault *fault);

#endif
