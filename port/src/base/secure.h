/* What is known of a secure connection: what a request says of it to the application. */
#ifndef SPARX_BASE_SECURE_H
#define SPARX_BASE_SECURE_H

#include "base/slice.h"

struct secure {
	unsigned version;    /* of TLS: 12, 13 */
	unsigned cipher;     /* IANA's number of the suite */
	struct slice sni;    /* the server that the client asked for, lower case; absent: it did not say so */
	struct slice alpn;   /* the protocol that was agreed on; absent: none was */
	bool resumed;        /* without a full handshake */
	struct slice client; /* the client's certificate, DER, which was verified; absent: it showed none */
};

#endif
