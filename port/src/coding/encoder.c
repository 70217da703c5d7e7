/* SPDX-License-Identifier: Apache-2.0 */
#include "coding/encoder.h"

#include <stddef.h>
#include <stdlib.h>

#include <zlib.h>
#ifdef WITH_BROTLI
#include <brotli/encode.h>
#endif
#ifdef WITH_ZSTD
#include <zstd.h>
#endif

#include "base/list.h"

/* Smaller windows than the libraries' defaults: pages are rarely larger, and a slow client keeps the memory in use for a long
 * time. */
enum { ZLIB_BITS = 14, ZLIB_MEMORY = 7, GZIP_WRAPPER = 16, BROTLI_BITS = 16, ZSTD_LOG = 16 };

struct encoder {
	enum coding coding;
	union {
		z_stream z;
#ifdef WITH_BROTLI
		BrotliEncoderState *br;
#endif
#ifdef WITH_ZSTD
		ZSTD_CCtx *zstd;
#endif
	} with;
};

/* ---- zlib ---- */

static bool zlib_start(struct encoder *e, int level)
{
	int bits = ZLIB_BITS + (e->coding == CODING_GZIP ? GZIP_WRAPPER : 0);

	return deflateInit2(&e->with.z, level, Z_DEFLATED, bits, ZLIB_MEMORY, Z_DEFAULT_STRATEGY) == Z_OK;
}

static int zlib_run(z_stream *z, enum encoder_op op, struct slice *in, uint8_t *out, size_t room, size_t *used)
{
	static const int flush[] = {[ENCODER_TAKE] = Z_NO_FLUSH, [ENCODER_FLUSH] = Z_SYNC_FLUSH, [ENCODER_FINISH] = Z_FINISH};
	uInt taken = (uInt)in->len;
	int result;

	/* zlib's interface predates const */
	z->next_in = (Bytef *)(uintptr_t)in->at;
	z->avail_in = taken;
	z->next_out = out;
	z->avail_out = (uInt)room;
	result = deflate(z, flush[op]);
	taken -= z->avail_in;
	*in = slice_of(in->at + taken, in->len - taken);
	*used = room - z->avail_out;
	if (result == Z_STREAM_END)
		return 1;
	if (result != Z_OK && result != Z_BUF_ERROR)
		return -1;
	return op != ENCODER_FINISH && in->len == 0 && z->avail_out > 0;
}

/* ---- brotli, which cannot be reset: its memory is kept instead ---- */

struct block {
	size_t size;
	max_align_t at[];
};

enum { BLOCKS = sizeof((struct encoder_blocks *)0)->kept / sizeof(void *), BLOCK_MIN = 65536, KEPT_MAX = 1850 << 10 };

void encoder_blocks_free(struct encoder_blocks *blocks)
{
	for (int i = 0; i < BLOCKS; i++)
		free(blocks->kept[i]);
}

#ifdef WITH_BROTLI
static void *take_block(void *ctx, size_t size)
{
	struct encoder_blocks *blocks = ctx;
	struct block *block = NULL;

	for (int i = 0; i < BLOCKS && size >= BLOCK_MIN; i++) {
		block = blocks->kept[i];
		if (block && block->size == size) {
			blocks->kept[i] = NULL;
			blocks->bytes -= size;
			return block->at;
		}
	}
	block = malloc(sizeof *block + size);
	if (!block)
		return NULL;
	block->size = size;
	return block->at;
}

static void give_block(void *ctx, void *at)
{
	struct encoder_blocks *blocks = ctx;
	struct block *block = at ? container_of(at, struct block, at) : NULL;

	for (int i = 0; i < BLOCKS && block && block->size >= BLOCK_MIN && blocks->bytes + block->size <= KEPT_MAX; i++)
		if (!blocks->kept[i]) {
			blocks->kept[i] = block;
			blocks->bytes += block->size;
			return;
		}
	free(block);
}

static bool brotli_start(struct encoder *e, int level, struct encoder_blocks *blocks)
{
	e->with.br = BrotliEncoderCreateInstance(take_block, give_block, blocks);
	return e->with.br && BrotliEncoderSetParameter(e->with.br, BROTLI_PARAM_QUALITY, (uint32_t)level) &&
	       BrotliEncoderSetParameter(e->with.br, BROTLI_PARAM_LGWIN, BROTLI_BITS);
}

static int brotli_run(BrotliEncoderState *br, enum encoder_op op, struct slice *in, uint8_t *out, size_t room, size_t *used)
{
	static const BrotliEncoderOperation ops[] = {
		[ENCODER_TAKE] = BROTLI_OPERATION_PROCESS,
		[ENCODER_FLUSH] = BROTLI_OPERATION_FLUSH,
		[ENCODER_FINISH] = BROTLI_OPERATION_FINISH,
	};
	size_t left = room;

	if (!BrotliEncoderCompressStream(br, ops[op], &in->len, &in->at, &left, &out, NULL))
		return -1;
	*used = room - left;
	if (op == ENCODER_FINISH)
		return BrotliEncoderIsFinished(br);
	return in->len == 0 && !BrotliEncoderHasMoreOutput(br);
}
#endif

/* ---- zstd ---- */

#ifdef WITH_ZSTD
static bool zstd_start(struct encoder *e, int level)
{
	e->with.zstd = ZSTD_createCCtx();
	return e->with.zstd && !ZSTD_isError(ZSTD_CCtx_setParameter(e->with.zstd, ZSTD_c_compressionLevel, level)) &&
	       !ZSTD_isError(ZSTD_CCtx_setParameter(e->with.zstd, ZSTD_c_windowLog, ZSTD_LOG)) &&
	       !ZSTD_isError(ZSTD_CCtx_setParameter(e->with.zstd, ZSTD_c_hashLog, ZSTD_LOG - 1)) &&
	       !ZSTD_isError(ZSTD_CCtx_setParameter(e->with.zstd, ZSTD_c_chainLog, ZSTD_LOG));
}

static int zstd_run(ZSTD_CCtx *zstd, enum encoder_op op, struct slice *in, uint8_t *out, size_t room, size_t *used)
{
	static const ZSTD_EndDirective ends[] = {
		[ENCODER_TAKE] = ZSTD_e_continue,
		[ENCODER_FLUSH] = ZSTD_e_flush,
		[ENCODER_FINISH] = ZSTD_e_end,
	};
	ZSTD_inBuffer from = {in->at, in->len, 0};
	ZSTD_outBuffer to = {out, room, 0};
	size_t left = ZSTD_compressStream2(zstd, &to, &from, ends[op]);

	if (ZSTD_isError(left))
		return -1;
	*in = slice_of(in->at + from.pos, in->len - from.pos);
	*used = to.pos;
	return in->len == 0 && (op == ENCODER_TAKE || left == 0);
}
#endif

/* ---- all of them ---- */

bool encoder_exists(enum coding coding)
{
	switch (coding) {
	case CODING_GZIP:
	case CODING_DEFLATE:
#ifdef WITH_BROTLI
	case CODING_BR:
#endif
#ifdef WITH_ZSTD
	case CODING_ZSTD:
#endif
		return true;
	default:
		return false;
	}
}

size_t encoder_memory(enum coding coding, int level)
{
	switch (coding) {
	case CODING_GZIP:
	case CODING_DEFLATE:
		return (size_t)140 << 10;
	case CODING_BR:
		return (size_t)(level < 2 ? 160 : level < 4 ? 900 : 1850) << 10;
	case CODING_ZSTD:
		return (size_t)900 << 10;
	default:
		return 0;
	}
}

size_t encoder_whole_max(enum coding coding, int level)
{
	switch (coding) {
	case CODING_BR:
		return (size_t)(level < 5 ? 128 : 64) << 10;
	case CODING_ZSTD:
		return (size_t)128 << 10;
	default:
		return (size_t)64 << 10;
	}
}

static bool start(struct encoder *e, int level, struct encoder_blocks *blocks)
{
	(void)blocks;
	switch (e->coding) {
	case CODING_GZIP:
	case CODING_DEFLATE:
		return zlib_start(e, level);
#ifdef WITH_BROTLI
	case CODING_BR:
		return brotli_start(e, level, blocks);
#endif
#ifdef WITH_ZSTD
	case CODING_ZSTD:
		return zstd_start(e, level);
#endif
	default:
		return false;
	}
}

struct encoder *encoder_new(enum coding coding, int level, struct encoder_blocks *blocks)
{
	struct encoder *e = calloc(1, sizeof *e);

	if (!e)
		return NULL;
	e->coding = coding;
	if (start(e, level, blocks))
		return e;
	encoder_free(e);
	return NULL;
}

void encoder_free(struct encoder *e)
{
	if (!e)
		return;
	switch (e->coding) {
	case CODING_GZIP:
	case CODING_DEFLATE:
		deflateEnd(&e->with.z);
		break;
#ifdef WITH_BROTLI
	case CODING_BR:
		if (e->with.br)
			BrotliEncoderDestroyInstance(e->with.br);
		break;
#endif
#ifdef WITH_ZSTD
	case CODING_ZSTD:
		ZSTD_freeCCtx(e->with.zstd);
		break;
#endif
	default:
		break;
	}
	free(e);
}

#ifdef WITH_BROTLI
/* The window is at least 2^10 bytes, less 16. */
static uint32_t bits_for(uint64_t size)
{
	uint32_t bits = BROTLI_MIN_WINDOW_BITS;

	while (bits < BROTLI_BITS && (UINT64_C(1) << bits) - 16 < size)
		bits++;
	return bits;
}
#endif

void encoder_expect(struct encoder *e, uint64_t size)
{
	(void)size;
	switch (e->coding) {
#ifdef WITH_BROTLI
	case CODING_BR:
		BrotliEncoderSetParameter(e->with.br, BROTLI_PARAM_LGWIN, bits_for(size));
		BrotliEncoderSetParameter(e->with.br, BROTLI_PARAM_SIZE_HINT, size < UINT32_MAX ? (uint32_t)size : 0);
		break;
#endif
#ifdef WITH_ZSTD
	case CODING_ZSTD:
		ZSTD_CCtx_setPledgedSrcSize(e->with.zstd, size);
		break;
#endif
	default:
		break;
	}
}

bool encoder_reset(struct encoder *e)
{
	switch (e->coding) {
	case CODING_GZIP:
	case CODING_DEFLATE:
		return deflateReset(&e->with.z) == Z_OK;
#ifdef WITH_ZSTD
	case CODING_ZSTD:
		return !ZSTD_isError(ZSTD_CCtx_reset(e->with.zstd, ZSTD_reset_session_only));
#endif
	default:
		return false;
	}
}

int encoder_run(struct encoder *e, enum encoder_op op, struct slice *in, uint8_t *out, size_t room, size_t *used)
{
	*used = 0;
	switch (e->coding) {
#ifdef WITH_BROTLI
	case CODING_BR:
		return brotli_run(e->with.br, op, in, out, room, used);
#endif
#ifdef WITH_ZSTD
	case CODING_ZSTD:
		return zstd_run(e->with.zstd, op, in, out, room, used);
#endif
	default:
		return zlib_run(&e->with.z, op, in, out, room, used);
	}
}
