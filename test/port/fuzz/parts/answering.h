/* SPDX-License-Identifier: Apache-2.0 */
/* A host that answers each request in one of a few ways, and writes down what it heard, stream by stream. */
#ifndef SPARX_FUZZ_ANSWERING_H
#define SPARX_FUZZ_ANSWERING_H

#include "rig.h"

enum { ANSWERING_STREAMS = 64, ANSWERING_WAYS = 6 };

/* What it does with a request. */
enum answering_way {
	ANSWER_READ,    /* reads the body, then answers */
	ANSWER_AT_ONCE, /* answers, and never reads */
	ANSWER_STREAM,  /* reads in small chunks, and answers in pieces, with trailers */
	ANSWER_DISCARD, /* does not want the body */
	ANSWER_UPGRADE, /* takes any upgrade as a tunnel, and sends back what it gets */
	ANSWER_SOCKET,  /* takes a WebSocket, and sends back what it gets */
	ANSWER_FILE, /* answers with a file (of rig_hand), where it can: what the path f has otherwise. Not among ANSWERING_WAYS */
};

struct answering {
	struct rig rig; /* first */
	enum answering_way way;
	bool compress;                      /* messages of WebSockets, and other responses if their client takes gzip */
	bool decode;                        /* request bodies come without their codings */
	bool narrow;                        /* the limits, so that short inputs reach them */
	size_t size;                        /* of an answer's body, which tells the answers to different paths apart; 0: "hello" */
	uint8_t letters[ANSWERING_STREAMS]; /* of each stream: the last of its path */
	uint32_t max_message;
	uint64_t tunnels;  /* a bit for each stream that is one */
	struct buf orders; /* not yet sent */
	/* Of each stream: bytes of the body, and all else that was said. */
	struct buf bodies[ANSWERING_STREAMS], heard[ANSWERING_STREAMS];
	uint64_t gone; /* a bit for each stream that ended so */
};

void answering_begin(struct answering *a, enum answering_way way);
void answering_hello(struct answering *a);
/* Both. */
void answering_start(struct answering *a, enum answering_way way);
void answering_stop(struct answering *a);
/* The octet at this place of the body that answers a path which ends so. */
static inline uint8_t answering_octet(uint8_t letter, size_t at)
{
	return (uint8_t)('a' + (letter + at / 7) % 26);
}

/* Turns until nobody has more to say. */
void answering_turn(struct answering *a);
#define ANSWERING_BYTES UINT32_MAX
/* A client sends this, as a whole, or (cuts: not 0, and where; ANSWERING_BYTES: each byte alone) in small pieces, while its
   socket takes small pieces too. */
void answering_client(struct answering *a, struct rig_client *k, struct slice bytes, uint32_t cuts);

#endif
