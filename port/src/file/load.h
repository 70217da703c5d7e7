/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files that are being sent, read without waiting for a disk: what is not in memory is asked for, and tried again a little later.
 * A file system that cannot say whether bytes are in memory is read as it is.
 */
#ifndef SPARX_FILE_LOAD_H
#define SPARX_FILE_LOAD_H

#include "base/bufq.h"

enum loaded {
	LOADED_SOME,
	LOADED_LATER, /* nothing is in memory now: try again in some FILE_RETRY_MS */
	LOADED_NEVER, /* the file is shorter than was said, or cannot be read */
	LOADED_NO_MEMORY,
};

enum {
	FILE_RETRY_MS = 2,
	FILE_WHOLE = 64 * 1024, /* a part that is no longer goes through memory, with what stands before it */
	FILE_AT_ONCE = 512 * 1024,
};

/* Whether what is at this offset was probably read from a disk just now, or will have to be. */
static inline bool file_is_cold(const struct file *f, uint64_t offset)
{
	return offset < f->cold_to;
}

/* Reads up to n bytes of the first part of a file in the queue into memory, where they stand. */
enum loaded file_load(struct bufq *q, size_t n);
/* How many of these bytes can be sent from where they are, without waiting: SOME, and *n is made less. */
enum loaded file_look(struct file *f, uint64_t offset, size_t *n);

#endif
