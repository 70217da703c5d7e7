/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The messages of PROTOCOL.md, generated from one list (messages.def): each has a kind (MSG_RESPOND), a struct (struct
 * msg_respond), a reader (message_read), and a writer (message_put_respond).
 */
#ifndef SPARX_FRAMES_MESSAGE_H
#define SPARX_FRAMES_MESSAGE_H

#include "base/chunk.h"
#include "base/slice.h"

enum message_kind {
#define MESSAGE(NAME, name, kind, direction, fields) MSG_##NAME = (kind),
#include "frames/messages.def"
	MSG_NONE = 0x7fffffff,
};

enum message_direction { FROM_HOST, FROM_PORT };

enum {
	FRAME_HEAD = 4,
	FRAME_PAYLOAD_MAX = 65532,
	MESSAGE_BEGIN_MAX = 2,
	MESSAGE_DATA_HEAD_MAX = 36 /* the four msgpack headers before the bytes of a DATA */
};

/*
 * The fields of a message. BYTES and TEXT are the bytes; FIELDS, MAP and ARRAY the whole value, still msgpack. All of them point
 * into the frame. An `at` that is NULL is nil.
 */
#define STREAM(name) uint64_t name;
#define STREAM_OR_NIL(name) UINT_OR_NIL(name)
#define UINT(name) uint64_t name;
#define UINT_OR_NIL(name) \
	uint64_t name; \
	bool has_##name;
#define BYTES(name) struct slice name;
#define TEXT(name) struct slice name;
#define FIELDS(name) struct slice name;
#define FIELDS_OR_NIL(name) struct slice name;
#define MAP(name) struct slice name;
#define ARRAY_OR_NIL(name) struct slice name;
#define MESSAGE(NAME, name, kind, direction, fields) \
	struct msg_##name { \
		fields \
	};
#include "frames/messages.def"

struct message_def {
	const char *name;
	const char *format; /* a letter for each field: the first of its type, in lower case unless nil is allowed */
	const char *fields; /* their names, separated by spaces */
	uint8_t kind;
	uint8_t elements; /* of its array: the fields and the kind */
	enum message_direction direction;
};

struct message {
	const struct message_def *def; /* NULL if the kind could not be read or is unknown */
	unsigned kind;                 /* MSG_NONE if it could not be read */
	uint64_t stream;               /* the stream that it names; 0: none, or it could not be read */
	uint64_t left;                 /* of a DATA that is passed on in parts: how many bytes follow these */
	union {
#define MESSAGE(NAME, name, kind, direction, fields) struct msg_##name name;
#include "frames/messages.def"
	};
};

/* Why a message could not be decoded: names a field and a rule, for ERROR. */
struct message_fault {
	const char *field;
	const char *rule;
	bool frame_lost; /* the rest of the frame cannot be read either */
};

/* NULL: unknown kind. */
const struct message_def *message_def(unsigned kind);
/* Walks the list; NULL after its end. */
const struct message_def *message_def_at(unsigned position);

/*
 * Reads one message from the front of a frame's payload; `from` says who sent it. On a fault the message is skipped (unless
 * frame_lost), and kind, def and stream are filled in as far as they could be read.
 */
bool message_read(struct slice *payload, enum message_direction from, struct message *m, struct message_fault *fault);

/* The array and the kind that every message begins with; at most MESSAGE_BEGIN_MAX bytes. */
uint8_t *message_begin(uint8_t *at, enum message_kind kind);
/* For each message: its maximum size in bytes, and a function that writes it at `at` and returns its end. */
#define MESSAGE(NAME, name, kind, direction, fields) \
	size_t message_bound_##name(const struct msg_##name *m); \
	uint8_t *message_put_##name(uint8_t *at, const struct msg_##name *m);
#include "frames/messages.def"

#endif
