/* SPDX-License-Identifier: Apache-2.0 */
#include "coding/decoder.h"

#include <stddef.h>
#include <stdlib.h>

#include <zlib.h>
#ifdef WITH_BROTLI
#include <brotli/decode.h>
#endif
#ifdef WITH_ZSTD
#include <zstd.h>
#include <zstd_errors.h>
#endif

#include "base/list.h"

/* ZLIB_MEMORY: bytes of the library's state and its window. ZSTD_LOG: RFC 9659 allows windows of 8 MiB and no more. */
enum { ZLIB_BITS = 15, GZIP_WRAPPER = 16, ZLIB_MEMORY = 48 << 10, ZSTD_LOG = 23 };

struct decoder {
	enum coding coding;
	bool whole; /* a gzip member, a zstd frame or the whole body has ended, and nothing follows it yet */
	size_t allocated;
	uint64_t frame; /* zstd: bytes of the current frame */
	union {
		z_stream z;
#ifdef WITH_BROTLI
		BrotliDecoderState *br;
#endif
#ifdef WITH_ZSTD
		ZSTD_DCtx *zstd;
#endif
	} with;
};

/* ---- zlib ---- */

static enum decoder_result zlib_result(struct decoder *d, int result)
{
	switch (result) {
	case Z_STREAM_END:
		d->whole = true;
		return d->with.z.avail_in ? DECODER_NEEDS_ROOM : DECODER_NEEDS_INPUT;
	case Z_OK:
	case Z_BUF_ERROR:
		return d->with.z.avail_out ? DECODER_NEEDS_INPUT : DECODER_NEEDS_ROOM;
	case Z_MEM_ERROR:
		return DECODER_NO_MEMORY;
	default:
		return DECODER_MALFORMED;
	}
}

static enum decoder_result zlib_run(struct decoder *d, struct slice *in, uint8_t *out, size_t room, size_t *used)
{
	z_stream *z = &d->with.z;
	enum decoder_result result;

	if (d->whole && in->len == 0)
		return DECODER_NEEDS_INPUT;
	/* RFC 1952 2.2: several members may follow each other. After deflate data nothing may follow. */
	if (d->whole && (d->coding != CODING_GZIP || inflateReset(z) != Z_OK))
		return DECODER_MALFORMED;
	d->whole = false;
	/* zlib's interface predates const */
	z->next_in = (Bytef *)(uintptr_t)in->at;
	z->avail_in = (uInt)in->len;
	z->next_out = out;
	z->avail_out = (uInt)room;
	result = zlib_result(d, inflate(z, Z_NO_FLUSH));
	*used = room - z->avail_out;
	*in = slice_of(in->at + (in->len - z->avail_in), z->avail_in);
	return result;
}

/* ---- brotli: its window grows as it fills, so each block of memory is counted ---- */

#ifdef WITH_BROTLI
struct block {
	size_t size;
	max_align_t at[];
};

static void *take_block(void *ctx, size_t size)
{
	struct decoder *d = ctx;
	struct block *block = malloc(sizeof *block + size);

	if (!block)
		return NULL;
	block->size = size;
	d->allocated += size;
	return block->at;
}

static void give_block(void *ctx, void *at)
{
	struct decoder *d = ctx;
	struct block *block = at ? container_of(at, struct block, at) : NULL;

	if (!block)
		return;
	d->allocated -= block->size;
	free(block);
}

static enum decoder_result brotli_error(const BrotliDecoderState *br)
{
	BrotliDecoderErrorCode code = BrotliDecoderGetErrorCode(br);

	return code <= BROTLI_DECODER_ERROR_ALLOC_CONTEXT_MODES && code >= BROTLI_DECODER_ERROR_ALLOC_BLOCK_TYPE_TREES
		       ? DECODER_NO_MEMORY
		       : DECODER_MALFORMED;
}

static enum decoder_result brotli_run(struct decoder *d, struct slice *in, uint8_t *out, size_t room, size_t *used)
{
	BrotliDecoderResult result;
	size_t left = room;

	if (d->whole)
		return in->len ? DECODER_MALFORMED : DECODER_NEEDS_INPUT;
	result = BrotliDecoderDecompressStream(d->with.br, &in->len, &in->at, &left, &out, NULL);
	*used = room - left;
	if (result == BROTLI_DECODER_RESULT_ERROR)
		return brotli_error(d->with.br);
	/* It may ask for input while some of its output has not fitted */
	if (result == BROTLI_DECODER_RESULT_NEEDS_MORE_OUTPUT || BrotliDecoderHasMoreOutput(d->with.br))
		return DECODER_NEEDS_ROOM;
	d->whole = result == BROTLI_DECODER_RESULT_SUCCESS;
	return in->len ? DECODER_NEEDS_ROOM : DECODER_NEEDS_INPUT;
}
#endif

/* ---- zstd: frames may follow each other (RFC 8878 3) ---- */

#ifdef WITH_ZSTD
/* The library may also know zstd formats older than RFC 8878, whose windows it does not bound. */
static bool begins_frame(const struct decoder *d, struct slice in)
{
	static const uint8_t magic[] = {0x28, 0xb5, 0x2f, 0xfd}, skipped[] = {0x50, 0x2a, 0x4d, 0x18};
	bool is_frame = true, is_skipped = true;

	for (uint64_t at = d->frame; at < sizeof magic && at - d->frame < in.len; at++) {
		uint8_t c = in.at[at - d->frame];

		is_frame = is_frame && c == magic[at];
		is_skipped = is_skipped && (at == 0 ? c & 0xf0 : c) == skipped[at];
	}
	return is_frame || is_skipped;
}

static enum decoder_result zstd_run(struct decoder *d, struct slice *in, uint8_t *out, size_t room, size_t *used)
{
	ZSTD_inBuffer from = {in->at, in->len, 0};
	ZSTD_outBuffer to = {out, room, 0};
	size_t result;

	if (d->whole && in->len == 0)
		return DECODER_NEEDS_INPUT;
	if (!begins_frame(d, *in))
		return DECODER_MALFORMED;
	result = ZSTD_decompressStream(d->with.zstd, &to, &from);
	*used = to.pos;
	*in = slice_of(in->at + from.pos, in->len - from.pos);
	if (ZSTD_isError(result))
		return ZSTD_getErrorCode(result) == ZSTD_error_memory_allocation ? DECODER_NO_MEMORY : DECODER_MALFORMED;
	d->whole = result == 0;
	d->frame = d->whole ? 0 : d->frame + from.pos;
	return in->len > 0 || (to.pos == room && !d->whole) ? DECODER_NEEDS_ROOM : DECODER_NEEDS_INPUT;
}
#endif

/* ---- all of them ---- */

static bool start(struct decoder *d)
{
	switch (d->coding) {
	case CODING_GZIP:
		return inflateInit2(&d->with.z, ZLIB_BITS + GZIP_WRAPPER) == Z_OK;
	case CODING_DEFLATE:
		return inflateInit2(&d->with.z, ZLIB_BITS) == Z_OK;
#ifdef WITH_BROTLI
	case CODING_BR:
		d->with.br = BrotliDecoderCreateInstance(take_block, give_block, d);
		return d->with.br;
#endif
#ifdef WITH_ZSTD
	case CODING_ZSTD:
		d->with.zstd = ZSTD_createDCtx();
		return d->with.zstd && !ZSTD_isError(ZSTD_DCtx_setParameter(d->with.zstd, ZSTD_d_windowLogMax, ZSTD_LOG));
#endif
	default:
		return false;
	}
}

struct decoder *decoder_new(enum coding coding)
{
	struct decoder *d = calloc(1, sizeof *d);

	if (!d)
		return NULL;
	d->coding = coding;
	if (start(d))
		return d;
	decoder_free(d);
	return NULL;
}

void decoder_free(struct decoder *d)
{
	if (!d)
		return;
	switch (d->coding) {
	case CODING_GZIP:
	case CODING_DEFLATE:
		inflateEnd(&d->with.z);
		break;
#ifdef WITH_BROTLI
	case CODING_BR:
		if (d->with.br)
			BrotliDecoderDestroyInstance(d->with.br);
		break;
#endif
#ifdef WITH_ZSTD
	case CODING_ZSTD:
		ZSTD_freeDCtx(d->with.zstd);
		break;
#endif
	default:
		break;
	}
	free(d);
}

size_t decoder_memory(const struct decoder *d)
{
	switch (d->coding) {
	case CODING_GZIP:
	case CODING_DEFLATE:
		return sizeof *d + ZLIB_MEMORY;
#ifdef WITH_ZSTD
	case CODING_ZSTD:
		return sizeof *d + ZSTD_sizeof_DCtx(d->with.zstd);
#endif
	default:
		return sizeof *d + d->allocated;
	}
}

enum decoder_result decoder_run(struct decoder *d, struct slice *in, uint8_t *out, size_t room, size_t *used)
{
	*used = 0;
	switch (d->coding) {
#ifdef WITH_BROTLI
	case CODING_BR:
		return brotli_run(d, in, out, room, used);
#endif
#ifdef WITH_ZSTD
	case CODING_ZSTD:
		return zstd_run(d, in, out, room, used);
#endif
	default:
		return zlib_run(d, in, out, room, used);
	}
}

bool decoder_is_whole(const struct decoder *d)
{
	return d->whole;
}
