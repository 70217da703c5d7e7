/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files that are being sent, read without waiting for a disk: bytes that are not in memory are requested, and tried again a
 * little later. File systems that cannot say whether bytes are in memory are read the ordinary way.
 */
#ifndef SPARX_FILE_LOAD_H
#define SPARX_FILE_LOAD_H

#include "base/bufq.h"

enum loaded {
	LOADED_SOME,
	LOADED_LATER, /* nothing is in memory now: try again in some FILE_RETRY_MS */
	LOADED_NEVER, /* the file is shorter than FILE said, or cannot be read */
	LOADED_NO_MEMORY,
};

enum {
	FILE_RETRY_MS = 2,
	FILE_WHOLE = 64 * 1024, /* a part up to this size goes through memory, together with the bytes before it */
	FILE_AT_ONCE = 512 * 1024,
};

/* Whether the bytes at this offset were probably just read from a disk, or must be. */
static inline bool file_is_cold(const struct file *f, uint64_t offset)
{
	return offset < f->cold_to;
}

/* Reads up to n bytes of the first part of a file in the queue into memory, at their place in the queue. */
enum loaded file_load(struct bufq *q, size_t n);
/* How many of these bytes sendfile can send without waiting: SOME reduces *n. */
enum loaded file_look(struct file *f, uint64_t offset, size_t *n);

#endif
