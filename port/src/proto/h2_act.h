/* SPDX-License-Identifier: Apache-2.0 */
/* Acts on what nghttp2's callbacks recorded: requests, bodies and ends are handed to the sink. */
#ifndef SPARX_PROTO_H2_ACT_H
#define SPARX_PROTO_H2_ACT_H

#include "proto/h2_session.h"

/* Every stream of h2->todo; and the session, if it is time for it to end. */
void h2_act_all(struct h2 *h2);
/* The client has closed its side. */
void h2_tell_hangup(struct h2 *h2);

#endif
