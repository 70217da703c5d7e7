/* SPDX-License-Identifier: Apache-2.0 */
/* The outcome of reading from or writing to a descriptor. */
#ifndef SPARX_BASE_IO_H
#define SPARX_BASE_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum io_status { IO_OK, IO_AGAIN, IO_EOF, IO_ERROR };

/* What to wait for before another attempt. With TLS a reader may have to write first, and a writer to read. */
enum io_direction { IO_READ = 1, IO_WRITE = 2 };

struct io_result {
	enum io_status status;
	size_t n;      /* IO_OK: bytes, at least 1 */
	bool more;     /* IO_OK: another attempt may succeed at once */
	uint8_t until; /* IO_AGAIN: enum io_direction */
	int error;     /* IO_ERROR: errno */
};

static inline struct io_result io_again(enum io_direction until)
{
	return (struct io_result){.status = IO_AGAIN, .until = (uint8_t)until};
}

static inline struct io_result io_failed(int error)
{
	return (struct io_result){.status = IO_ERROR, .error = error};
}

#endif
