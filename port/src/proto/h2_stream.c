/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/h2_stream.h"

#include <assert.h>
#include <stdlib.h>

#include "proto/mux_stream.h"

enum { SPARES_MAX = 512 };

struct h2_stream *h2_stream_new(struct h2 *h2, int32_t id)
{
	struct h2_stream *x = pool_take(&h2_shared(h2)->streams, sizeof *x);

	if (!x)
		return NULL;
	memset(x, 0, sizeof *x);
	mux_stream_begin(&x->m, &h2->m);
	x->id = id;
	h2->trimmed = false;
	return x;
}

void h2_stream_free(struct h2_stream *x)
{
	struct h2 *h2 = h2_session_of(x);

	assert(x->m.marks == 0);
	mux_stream_free(&x->m);
	if (h2->recent == x)
		h2->recent = NULL;
	if (h2->m.open == 0 && buf_len(&h2->marks) == 0)
		buf_free(&h2->marks);
	free(x->promise);
	if (x->authority)
		nghttp2_rcbuf_decref(x->authority);
	pool_give(&h2_shared(h2)->streams, x, SPARES_MAX);
}

void h2_stream_reset(struct h2_stream *x, uint32_t code)
{
	if (x->m.reset || mux_is_closed(&x->m))
		return;
	x->m.reset = x->m.stopped = true;
	if (nghttp2_submit_rst_stream(h2_session_of(x)->ng, NGHTTP2_FLAG_NONE, x->id, code) != 0)
		mux_fails(x->m.mux);
}

void h2_stream_cut(struct h2_stream *x, uint32_t code)
{
	x->ours = true;
	h2_stream_reset(x, code);
}
