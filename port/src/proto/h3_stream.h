/* One stream of HTTP/3: its life, and answers of the port's own. */
#ifndef SPARX_PROTO_H3_STREAM_H
#define SPARX_PROTO_H3_STREAM_H

#include "proto/h3_session.h"

/* NULL: out of memory. */
struct h3_stream *h3_stream_new(struct h3 *h3, int64_t id);
void h3_stream_free(struct h3_stream *x);
/* Tells the sink why, if it listens. */
void h3_stream_ends(struct h3_stream *x, enum stream_end why);
/* The same; but if the sink is at work on it, it counts until that is over. */
void h3_stream_lost(struct h3_stream *x, enum stream_end why);

/* Ends both sides before their time, for the client: an error of RFC 9114 8.1. */
void h3_stream_cut(struct h3_stream *x, uint64_t code);
/* The same for a mistake of the client's, of which there may not be many. */
void h3_stream_abort(struct h3_stream *x, uint64_t code);
/* The rest of the request is not wanted. */
void h3_stream_stop(struct h3_stream *x, uint64_t code);

/* So many bytes of its body have arrived. */
void h3_stream_acked(struct h3_stream *x, size_t n);
/* Forgets what is to be sent. */
void h3_stream_drop(struct h3_stream *x);

/* Output begins: the client has its time from now on. */
void h3_pace_begins(struct h3_stream *x);
/* An answer of the port's own. */
void h3_stream_answer(struct h3_stream *x, unsigned status, unsigned retry_after);
/* Refuses a request that the sink does not know of, */
void h3_stream_refuse(struct h3_stream *x, unsigned status);
/* and one that it knows of. */
void h3_stream_refuse_body(struct h3_stream *x, unsigned status, enum stream_end why);

#endif
