/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SPARX_BRIDGE_UPGRADE_H
#define SPARX_BRIDGE_UPGRADE_H

#include "bridge/exchange.h"

/* Records the upgrade that a request asks for. False: out of memory. */
bool upgrade_note(struct exchange *x, const struct request_head *head);
/* The flags of REQUEST for it. */
unsigned upgrade_flags(const struct exchange *x);

#endif
