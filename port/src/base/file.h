/* SPDX-License-Identifier: Apache-2.0 */
/* An open file that the host handed over. Who uses it keeps it; it is closed when nobody does. */
#ifndef SPARX_BASE_FILE_H
#define SPARX_BASE_FILE_H

#include <stdbool.h>
#include <stdint.h>

/* What a part of a file costs in a queue, whose bytes are not in memory. */
enum { FILE_COST = 64 };

struct file {
	int fd;
	uint32_t users;
	uint64_t fetch_from, fetch_to; /* what the system was asked to read ahead */
	uint64_t cold_to;              /* up to here it is not expected to be in memory, since something before was not */
	bool blocks;                   /* the system cannot say whether it is in memory */
	bool unsendable;               /* sendfile does not take it */
};

/* Takes the descriptor; the caller keeps it. NULL: out of memory, and the descriptor is closed. */
struct file *file_new(int fd);
struct file *file_keep(struct file *f);
void file_give(struct file *f);

#endif
