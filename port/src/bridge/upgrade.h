/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SPARX_BRIDGE_UPGRADE_H
#define SPARX_BRIDGE_UPGRADE_H

#include "bridge/exchange.h"

/* Notes what a request asks to be upgraded to. False: out of memory. */
bool upgrade_note(struct exchange *x, const struct request_head *head);
/* What it adds to REQUEST's flags. */
unsigned upgrade_flags(const struct exchange *x);

#endif
