/* Messages as PROTOCOL.md lists them: kinds, and decoding by the list's formats. */
#ifndef SPARX_FRAMES_MESSAGE_H
#define SPARX_FRAMES_MESSAGE_H

#include "base/slice.h"

enum message_kind {
#define MESSAGE(name, kind, direction, format, fields) MSG_##name = (kind),
#include "frames/messages.def"
#undef MESSAGE
	MSG_NONE = 0x7fffffff,
};

enum message_direction { FROM_HOST, FROM_PORT };

enum {
	FRAME_HEAD = 4,
	FRAME_PAYLOAD_MAX = 65532,
	MESSAGE_FIELDS_MAX = 5,
	MESSAGE_DATA_HEAD_MAX = 36 /* the four heads that stand before the bytes of a DATA, whatever the fourth is of */
};

struct message_def {
	const char *name;
	const char *format; /* a letter for each field: see messages.def */
	const char *fields; /* their names, with a blank between */
	uint8_t kind;
	enum message_direction direction;
};

struct message_field {
	bool nil;
	uint64_t u;         /* s, u; of a DATA that is handed on in parts: how many bytes are to come after these */
	struct slice bytes; /* b, t: the bytes; f, m, A: the whole value, still msgpack */
};

struct message {
	const struct message_def *def; /* NULL if the kind could not be read or is unknown */
	unsigned kind;                 /* MSG_NONE if it could not be read */
	struct message_field field[MESSAGE_FIELDS_MAX];
};

/* Why a message could not be decoded: names a field and a rule, for ERROR. */
struct message_fault {
	char field[32];
	const char *rule;
	bool frame_lost; /* the rest of the frame cannot be read either */
};

/* NULL: unknown kind. */
const struct message_def *message_def(unsigned kind);
/* Walks the list; NULL behind its end. */
const struct message_def *message_def_at(unsigned position);
/* The name of a message's field number i, into text. */
void message_field_name(const struct message_def *def, unsigned i, char *text, size_t size);

/*
 * Takes one message that `from` may send from the front of a frame's payload. On a fault the message is taken all the same
 * (unless frame_lost), and as much of it is filled in as could be read: kind, def, and field[0] where it is a stream.
 */
bool message_read(struct slice *payload, enum message_direction from, struct message *m, struct message_fault *fault);

#endif
