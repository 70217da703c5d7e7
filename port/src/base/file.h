/* An open file that the host handed over. Who uses it keeps it; it is closed when nobody does. */
#ifndef SPARX_BASE_FILE_H
#define SPARX_BASE_FILE_H

#include <stdint.h>

struct file {
	int fd;
	uint32_t users;
};

/* Takes the descriptor; the caller keeps it. NULL: out of memory, and the descriptor is closed. */
struct file *file_new(int fd);
struct file *file_keep(struct file *f);
void file_give(struct file *f);

#endif
