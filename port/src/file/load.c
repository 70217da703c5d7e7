/* SPDX-License-Identifier: Apache-2.0 */
#include "file/load.h"

#include <errno.h>
#include <unistd.h>

#include "platform/platform.h"

/*
 * AHEAD: bytes that the system is asked to read ahead. COLD: after bytes that were not in memory, this many more are probably not
 * there either. STEP: one byte in this many is checked; a gap that is shorter than this, and than what systems read at once, is
 * missed.
 */
enum { AHEAD = 2 * 1024 * 1024, COLD = 16 * 1024 * 1024, STEP = 64 * 1024 };

/* Asks again before all of it is used, so that the disk is never idle. */
static void fetch(struct file *f, uint64_t offset)
{
	if (offset >= f->fetch_from && offset + AHEAD / 2 <= f->fetch_to)
		return;
	if (offset < f->fetch_from || offset > f->fetch_to)
		f->fetch_from = f->fetch_to = offset;
	platform_fetch(f->fd, f->fetch_to, AHEAD);
	f->fetch_to += AHEAD;
}

static ssize_t read_now(struct file *f, void *to, size_t n, uint64_t offset)
{
	ssize_t got = -1;

	errno = EOPNOTSUPP;
	if (!f->blocks)
		got = platform_read_cached(f->fd, to, n, offset);
	if (got < 0 && (errno == EOPNOTSUPP || errno == ENOSYS)) {
		f->blocks = true;
		got = pread(f->fd, to, n, (off_t)offset);
	}
	if (got < 0 && errno == EAGAIN)
		f->cold_to = offset + COLD;
	if (file_is_cold(f, offset)) {
		int error = errno;
		fetch(f, offset);
		errno = error;
	}
	return got;
}

static enum loaded outcome(ssize_t got)
{
	if (got > 0)
		return LOADED_SOME;
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return LOADED_LATER;
	return got < 0 && errno == ENOMEM ? LOADED_NO_MEMORY : LOADED_NEVER;
}

enum loaded file_load(struct bufq *q, size_t n)
{
	return outcome(bufq_load(q, n, read_now));
}

enum loaded file_look(struct file *f, uint64_t offset, size_t *n)
{
	uint8_t byte;
	size_t sure = 0;

	for (size_t at = 0; sure < *n; at = sure + STEP < *n ? sure + STEP : *n - 1) {
		enum loaded found = outcome(read_now(f, &byte, 1, offset + at));
		if (found == LOADED_SOME)
			sure = at + 1;
		else if (sure == 0)
			return found;
		else
			break;
	}
	*n = sure;
	return LOADED_SOME;
}
