/* SPDX-License-Identifier: Apache-2.0 */
/* Facts of a TLS connection, as a request reports them to the application. */
#ifndef SPARX_BASE_SECURE_H
#define SPARX_BASE_SECURE_H

#include "base/slice.h"

struct secure {
	unsigned version;    /* of TLS: 12, 13 */
	unsigned cipher;     /* IANA's number of the suite */
	struct slice sni;    /* the server name that the client asked for, lower case; absent: it named none */
	struct slice alpn;   /* the negotiated protocol (ALPN); absent: none */
	bool resumed;        /* a ticket replaced the full handshake */
	struct slice client; /* the client's verified certificate, DER; absent: it showed none */
};

#endif
