/* SPDX-License-Identifier: Apache-2.0 */
/* Clients' certificates. */
#include "tls/parts.h"

enum { DEPTH_MAX = 4 };

/* A client certificate must be valid, whether it was required or only requested. */
static int verify(gnutls_session_t session)
{
	gnutls_typed_vdata_st purpose = {.type = GNUTLS_DT_KEY_PURPOSE_OID, .data = (unsigned char *)GNUTLS_KP_TLS_WWW_CLIENT};
	unsigned status = 0, count = 0;

	if (!gnutls_certificate_get_peers(session, &count) || count == 0)
		return 0; /* the library reports a missing required one */
	if (count > DEPTH_MAX || gnutls_certificate_verify_peers(session, &purpose, 1, &status) < 0 || status != 0)
		return GNUTLS_E_CERTIFICATE_ERROR;
	return 0;
}

bool tls_peer_demand(gnutls_certificate_credentials_t credentials, const struct tls_store *store)
{
	gnutls_x509_crt_t *list;
	unsigned count;
	const char *rule;
	bool well;

	if (store->client == TLS_CLIENT_UNASKED)
		return true;
	if (!tls_certificates_read(slice_of(store->client_ca.data, store->client_ca.size), &list, &count, &rule))
		return false;
	well = gnutls_certificate_set_x509_trust(credentials, list, (int)count) >= 0;
	tls_certificates_free(list, count);
	gnutls_certificate_set_verify_function(credentials, verify);
	gnutls_certificate_set_verify_limits(credentials, 8200, DEPTH_MAX);
	return well;
}

struct slice tls_peer_certificate(gnutls_session_t session)
{
	unsigned count = 0;
	const gnutls_datum_t *list = gnutls_certificate_get_peers(session, &count);

	return list && count ? slice_of(list[0].data, list[0].size) : (struct slice){0};
}
