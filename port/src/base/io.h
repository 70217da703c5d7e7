/* What reading from or writing to a descriptor came to: three ways to get no bytes, and one to get some. */
#ifndef SPARX_BASE_IO_H
#define SPARX_BASE_IO_H

#include <stddef.h>

enum io_status { IO_OK, IO_AGAIN, IO_EOF, IO_ERROR };

struct io_result {
	enum io_status status;
	size_t n;  /* IO_OK: bytes, at least 1 */
	int error; /* IO_ERROR: errno */
};

#endif
