/* SPDX-License-Identifier: Apache-2.0 */
/* Parses certificates: PEM or DER, one or many. */
#include <stdlib.h>

#include "tls/parts.h"

bool tls_is_pem(struct slice bytes)
{
	static const struct slice begin = SLICE_LIT("-----BEGIN ");

	for (size_t i = 0; i + begin.len <= bytes.len; i++)
		if (memcmp(bytes.at + i, begin.at, begin.len) == 0)
			return true;
	return false;
}

void tls_certificates_free(gnutls_x509_crt_t *list, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		gnutls_x509_crt_deinit(list[i]);
	gnutls_free(list);
}

/* The length of the DER value at the front; 0: it is not DER. */
static size_t der_length(struct slice bytes)
{
	size_t n, octets;

	if (bytes.len < 2 || bytes.at[0] != 0x30)
		return 0;
	n = bytes.at[1];
	octets = n & 0x80 ? n & 0x7f : 0;
	if (octets == 0)
		return n < 0x80 && 2 + n <= bytes.len ? 2 + n : 0;
	if (octets > 4 || bytes.len < 2 + octets)
		return 0;
	n = 0;
	for (size_t i = 0; i < octets; i++)
		n = n << 8 | bytes.at[2 + i];
	return n <= bytes.len - 2 - octets ? 2 + octets + n : 0;
}

static bool read_one(struct slice der, gnutls_x509_crt_t **list, unsigned *count)
{
	gnutls_datum_t datum = tls_datum(der);
	gnutls_x509_crt_t *longer = gnutls_realloc(*list, (*count + 1) * sizeof(gnutls_x509_crt_t));

	if (!longer)
		return false;
	*list = longer;
	if (gnutls_x509_crt_init(&longer[*count]) < 0)
		return false;
	(*count)++;
	return gnutls_x509_crt_import(longer[*count - 1], &datum, GNUTLS_X509_FMT_DER) == 0;
}

static bool read_der(struct slice bytes, gnutls_x509_crt_t **list, unsigned *count)
{
	size_t n;

	while (bytes.len > 0) {
		n = der_length(bytes);
		if (n == 0 || !read_one(slice_of(bytes.at, n), list, count))
			return false;
		bytes = slice_of(bytes.at + n, bytes.len - n);
	}
	return *count > 0;
}

bool tls_certificates_read(struct slice bytes, gnutls_x509_crt_t **list, unsigned *count, const char **rule)
{
	gnutls_datum_t datum = tls_datum(bytes);
	bool well;

	*list = NULL;
	*count = 0;
	if (tls_is_pem(bytes))
		well = gnutls_x509_crt_list_import2(list, count, &datum, GNUTLS_X509_FMT_PEM, 0) >= 0 && *count > 0;
	else
		well = read_der(bytes, list, count);
	if (well)
		return true;
	tls_certificates_free(*list, *count);
	*list = NULL;
	*count = 0;
	*rule = "is not a certificate in PEM or DER";
	return false;
}

/* The common name counts only if there are no alternative names (RFC 9525 ignores it, but old certificates have nothing else). */
static bool common_name(gnutls_x509_crt_t crt, bool (*each)(void *ctx, struct slice name), void *ctx)
{
	char text[TLS_NAME_MAX];
	size_t size = sizeof text;

	if (gnutls_x509_crt_get_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, 0, text, &size) != 0)
		return true;
	return each(ctx, slice_of(text, size));
}

bool tls_certificate_names(gnutls_x509_crt_t crt, bool (*each)(void *ctx, struct slice name), void *ctx)
{
	char text[TLS_NAME_MAX];
	bool any = false;

	for (unsigned i = 0;; i++) {
		size_t size = sizeof text;
		int type = gnutls_x509_crt_get_subject_alt_name(crt, i, text, &size, NULL);
		if (type == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
			break;
		if (type >= 0)
			any = true;
		if (type == GNUTLS_SAN_DNSNAME && !each(ctx, slice_of(text, size)))
			return false;
	}
	return any || common_name(crt, each, ctx);
}
