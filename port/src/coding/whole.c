/* SPDX-License-Identifier: Apache-2.0 */
#include "coding/whole.h"

#ifdef WITH_LIBDEFLATE
#include <libdeflate.h>

/* A call takes at most 1.5 ms for JSON. From level 7 on, repetitive text takes many times as long as JSON. */
enum { FAST_LEVELS = 6, FAST_MAX = 128 * 1024, SLOW_MAX = 32 * 1024 };

size_t whole_max(enum coding coding, int level)
{
	if (coding != CODING_GZIP && coding != CODING_DEFLATE)
		return 0;
	return level <= FAST_LEVELS ? FAST_MAX : SLOW_MAX;
}

size_t whole_encode(struct whole *w, enum coding coding, int level, struct slice in, uint8_t *out, size_t room)
{
	if (w->compressor && w->level != level)
		whole_free(w);
	if (!w->compressor)
		w->compressor = libdeflate_alloc_compressor(level);
	if (!w->compressor)
		return 0;
	w->level = level;
	if (coding == CODING_GZIP)
		return libdeflate_gzip_compress(w->compressor, in.at, in.len, out, room);
	return libdeflate_zlib_compress(w->compressor, in.at, in.len, out, room);
}

void whole_free(struct whole *w)
{
	libdeflate_free_compressor(w->compressor);
	w->compressor = NULL;
}

#else

size_t whole_max(enum coding coding, int level)
{
	(void)coding;
	(void)level;
	return 0;
}

size_t whole_encode(struct whole *w, enum coding coding, int level, struct slice in, uint8_t *out, size_t room)
{
	(void)w;
	(void)coding;
	(void)level;
	(void)in;
	(void)out;
	(void)room;
	return 0;
}

void whole_free(struct whole *w)
{
	(void)w;
}
#endif
