/* SPDX-License-Identifier: Apache-2.0 */
/* Acts on what the library's callbacks recorded: requests, bodies and ends are handed to the sink. */
#ifndef SPARX_PROTO_MUX_ACT_H
#define SPARX_PROTO_MUX_ACT_H

#include "proto/mux.h"

/* Every stream of mux->pending. */
void mux_act_all(struct mux *mux);

#endif
