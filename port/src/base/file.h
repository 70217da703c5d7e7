/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An open file that the host handed over, with a count of its users: it is closed when the last one gives it back. Several responses may read the
 * same open file at different places, each with a view of its own: what the system was asked to read ahead belongs to one reader.
 */
#ifndef SPARX_BASE_FILE_H
#define SPARX_BASE_FILE_H

#include <stdbool.h>
#include <stdint.h>

/* The cost of a part of a file in a queue, since its bytes are not in memory. */
enum { FILE_COST = 64 };

struct file {
	int fd;
	uint32_t users;
	struct file *viewed;           /* the open file that this is a view of; NULL: this is one */
	uint64_t fetch_from, fetch_to; /* end of the bytes that the system was asked to read ahead */
	uint64_t cold_to;              /* bytes before this offset are probably not in memory, since earlier ones were not */
	bool blocks;                   /* the system cannot say whether bytes are in memory */
	bool unsendable;               /* sendfile does not accept it */
};

/* Takes the descriptor; the caller keeps it. NULL: out of memory, and the descriptor is closed. */
struct file *file_new(int fd);
/* Another reader of an open file, which stays open until the view has no users either. NULL: out of memory. */
struct file *file_view(struct file *f);
struct file *file_keep(struct file *f);
void file_give(struct file *f);

#endif
