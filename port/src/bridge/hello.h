/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SPARX_BRIDGE_HELLO_H
#define SPARX_BRIDGE_HELLO_H

#include "bridge/bridge.h"

enum { EXIT_CONFIG = 2, EXIT_LISTEN = 3, EXIT_FRAMING = 4, EXIT_SANDBOX = 6 }; /* of the process */

/* The host made a fatal error: sends ERROR with the reason, and ends the process with this status. */
void hello_failed(struct bridge *b, const struct message *m, const char *field, const char *rule, int status);

#endif
