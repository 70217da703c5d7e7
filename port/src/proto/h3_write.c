/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/h3_write.h"

#include "file/load.h"
#include "proto/mux_write.h"

MUX_SAME_NV(nghttp3_nv);
_Static_assert(NGHTTP3_NV_FLAG_NEVER_INDEX == MUX_NO_INDEX && NGHTTP3_NV_FLAG_NO_COPY_NAME == MUX_NO_COPY_NAME &&
		       NGHTTP3_NV_FLAG_NO_COPY_VALUE == MUX_NO_COPY_VALUE,
	       "other flags");

/* ---- heads ---- */

bool h3_write_info(struct mux_stream *m, const struct mux_nv *nv, size_t n)
{
	struct h3_stream *x = h3_of_stream(m);

	return nghttp3_conn_submit_info(h3_session_of(x)->ng, x->id, h3_nv_of(nv), n) == 0;
}

static nghttp3_ssize pull(nghttp3_conn *ng, int64_t id, nghttp3_vec *vec, size_t max, uint32_t *flags, void *ctx, void *user);
static const nghttp3_data_reader reader = {pull};

bool h3_write_head(struct mux_stream *m, const struct mux_nv *nv, size_t n, bool body)
{
	struct h3_stream *x = h3_of_stream(m);

	return nghttp3_conn_submit_response(h3_session_of(x)->ng, x->id, h3_nv_of(nv), n, body ? &reader : NULL) == 0;
}

/* ---- bodies: nghttp3 pulls, in the order of priority ---- */

/* The end of the body: on the current frame if there are no trailers. */
static int pull_end(nghttp3_conn *ng, struct h3_stream *x, uint32_t *flags)
{
	x->ended = true;
	*flags |= NGHTTP3_DATA_FLAG_EOF;
	if (!x->m.last)
		return 0;
	*flags |= NGHTTP3_DATA_FLAG_NO_END_STREAM;
	return nghttp3_conn_submit_trailers(ng, x->id, h3_nv_of(x->m.last->nv), x->m.last->count);
}

/* n bytes are in a frame; `charged` of them are not from files. */
static void count_framed(struct h3_stream *x, size_t n, size_t charged)
{
	struct h3 *h3 = h3_session_of(x);

	stream_spends(&x->m.s, n);
	x->m.spent |= n > 0 && x->m.s.allowance == 0;
	x->m.framed += n;
	x->m.room += charged;
	h3->unacked += n;
	mux_count_waiting(&x->m);
	mux_note(&x->m, 0);
}

/* Whether the next byte of the body is in memory; tries once to read it if it is in a file. */
static bool is_there(struct h3_stream *x)
{
	struct bufq_file f;
	enum loaded found;

	if (!bufq_file(&x->m.out, &f) || f.before > x->m.framed)
		return true;
	found = file_load(&x->m.out, H3_FRAME_MAX);
	if (found == LOADED_SOME)
		return true;
	mux_is_cold(&x->m, found == LOADED_LATER);
	x->m.broken = found != LOADED_LATER;
	mux_note(&x->m, 0);
	return false;
}

/* Whether there is anything to frame: a part of the body, or only its end. */
static bool may_pull(struct h3_stream *x)
{
	if (x->m.out.len == x->m.framed)
		return x->m.s.response == RESPONSE_ENDED;
	return stream_allows(&x->m.s) > 0 && is_there(x);
}

static nghttp3_ssize pull(nghttp3_conn *ng, int64_t id, nghttp3_vec *vec, size_t max, uint32_t *flags, void *ctx, void *user)
{
	struct h3_stream *x = h3_stream_of(ctx, id);
	struct iovec iov[8];
	int count;
	size_t n, charged, most;

	(void)user;
	if (!x)
		return NGHTTP3_ERR_CALLBACK_FAILURE;
	if (!may_pull(x)) {
		x->m.deferred = true;
		h3_session_of(x)->deferrals++;
		return NGHTTP3_ERR_WOULDBLOCK;
	}
	most = stream_allows(&x->m.s) < H3_FRAME_MAX ? (size_t)x->m.s.allowance : H3_FRAME_MAX;
	count = bufq_walk(&x->m.out, &x->given, most, iov, max < 8 ? (int)max : 8, &n, &charged);
	for (int i = 0; i < count; i++)
		vec[i] = (nghttp3_vec){iov[i].iov_base, iov[i].iov_len};
	count_framed(x, n, charged);
	if (x->m.out.len == x->m.framed && x->m.s.response == RESPONSE_ENDED && pull_end(ng, x, flags) != 0)
		return NGHTTP3_ERR_CALLBACK_FAILURE;
	return count;
}
