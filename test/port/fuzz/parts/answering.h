/* SPDX-License-Identifier: Apache-2.0 */
/* A host that answers each request in one of a few ways, and records what it receives, stream by stream. */
#ifndef SPARX_FUZZ_ANSWERING_H
#define SPARX_FUZZ_ANSWERING_H

#include "rig.h"

enum { ANSWERING_STREAMS = 64, ANSWERING_WAYS = 6 };

/* What the host does with a request. */
enum answering_way {
	ANSWER_READ,    /* reads the body, then answers */
	ANSWER_AT_ONCE, /* answers without reading */
	ANSWER_STREAM,  /* reads in small chunks, and answers in pieces, with trailers */
	ANSWER_DISCARD, /* discards the body */
	ANSWER_UPGRADE, /* accepts any upgrade as a tunnel, and echoes */
	ANSWER_SOCKET,  /* accepts a WebSocket, and echoes */
	ANSWER_FILE,    /* answers with a file (of rig_hand) if possible. Not among ANSWERING_WAYS */
};

struct answering {
	struct rig rig; /* first */
	enum answering_way way;
	bool compress;                      /* compresses messages of WebSockets, and responses for clients that accept gzip */
	bool decode;                        /* request bodies arrive decoded */
	bool narrow;                        /* small limits, which short inputs reach */
	size_t size;                        /* of a body, which differs for each path; 0: "hello" */
	uint8_t letters[ANSWERING_STREAMS]; /* for each stream: the last byte of its path */
	uint32_t max_message;
	uint64_t tunnels;  /* a bit for each stream of this kind */
	struct buf orders; /* not yet sent */
	/* For each stream: bytes of the body, and everything else that was sent. */
	struct buf bodies[ANSWERING_STREAMS], heard[ANSWERING_STREAMS];
	uint64_t gone; /* a bit for each stream that ended in this way */
};

void answering_begin(struct answering *a, enum answering_way way);
void answering_hello(struct answering *a);
/* Both. */
void answering_start(struct answering *a, enum answering_way way);
void answering_stop(struct answering *a);
/* The octet at this position of the body for a path that ends with this letter. */
static inline uint8_t answering_octet(uint8_t letter, size_t at)
{
	return (uint8_t)('a' + (letter + at / 7) % 26);
}

/* Turns until nobody has anything to send. */
void answering_turn(struct answering *a);
#define ANSWERING_BYTES UINT32_MAX
/* A client sends this: as a whole (cuts 0), or in small pieces (`cuts` says where; ANSWERING_BYTES: byte by byte), while its
   socket accepts only small pieces too. */
void answering_client(struct answering *a, struct rig_client *k, struct slice bytes, uint32_t cuts);

#endif
