/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checks the headers of a client's frames before nghttp2 gets them. nghttp2 counts few frames, ignores those for closed streams,
 * and does not check PRIORITY. So the limits on floods (RFC 9113 10.5) and the rules for closed streams (section 5.1) are here.
 * Pure: bytes in, verdict out.
 */
#ifndef SPARX_PROTO_H2_SCAN_H
#define SPARX_PROTO_H2_SCAN_H

#include "base/bucket.h"
#include "config.h"

/* The newest streams that the client opened, as bits: bit i is stream last - 2i. */
struct h2_past {
	int32_t last;
	uint64_t opened;
	uint64_t ended; /* of these, those that the client has ended or reset */
};

struct h2_scan {
	uint8_t head[13]; /* bytes of the current frame: its header of 9, and 4 of a PRIORITY's payload */
	uint8_t have;
	uint32_t left;          /* bytes of the payload, or of the preface */
	uint32_t continuations; /* of the newest head */
	uint32_t earned;        /* frames of other types that requests and our DATA justify */
	uint64_t head_since;    /* µs: since when a head is being received; 0: none is */
	int32_t head_id;        /* the stream of that head */
	bool head_ends;         /* the frame that is being received is the last of it */
	struct h2_past past;
	int32_t known; /* the newest stream before these bytes: later ones are not known to be open yet */
	/* Whether a client's stream is open or half-open. NULL: all are. */
	bool (*is_open)(void *ctx, int32_t id);
	void *ctx;
	struct bucket resets, pings, settings, empty_data, others;
};

enum { H2_EARNED_EACH = 4, H2_EARNED_MAX = 1000 };

/* The next byte is the first of the preface. */
void h2_scan_init(struct h2_scan *scan);

/*
 * Returns how many bytes are valid, up to `most` frames. If these are fewer than len, *fault is the error of the next frame (an
 * NGHTTP2_* code), or NGHTTP2_NO_ERROR if *most is 0 and the rest must be scanned later.
 */
size_t h2_scan(struct h2_scan *scan, const struct config *config, uint64_t now_us, const uint8_t *data, size_t len, unsigned *most,
	       uint32_t *fault);

/* When the current head began, in µs; 0: there is none. */
static inline uint64_t h2_scan_head_since(const struct h2_scan *scan)
{
	bool all = scan->left == 0 || scan->have; /* of the last frame: bytes of the next one's header have come */

	return scan->head_ends && all ? 0 : scan->head_since;
}

/* Counts a request, or a DATA frame of ours: the client may answer it with a few frames. */
static inline void h2_scan_earn(struct h2_scan *scan)
{
	if (scan->earned < H2_EARNED_MAX)
		scan->earned += H2_EARNED_EACH;
}

/* Counts a reset by the client, or one that it made us send. */
static inline bool h2_scan_take_reset(struct h2_scan *scan, const struct config *c, uint64_t now_us)
{
	return bucket_take(&scan->resets, now_us, c->h2_max_resets, c->h2_max_resets * 1000000 / c->h2_reset_rate);
}

static inline bool h2_scan_take_empty(struct h2_scan *scan, const struct config *c, uint64_t now_us)
{
	return bucket_take(&scan->empty_data, now_us, c->h2_empty_data, 1000000);
}

#endif
