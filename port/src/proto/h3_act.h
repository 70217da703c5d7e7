/* SPDX-License-Identifier: Apache-2.0 */
/* What comes of what was recorded: events for the sink. */
#ifndef SPARX_PROTO_H3_ACT_H
#define SPARX_PROTO_H3_ACT_H

#include "proto/h3_session.h"

void h3_act_all(struct h3 *h3);

#endif
