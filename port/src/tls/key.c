/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private keys. An RSA signature takes GnuTLS about 1 ms and libcrypto 0.2 ms, one of ECDSA with P-256 33 us and 16 us: so
 * libcrypto makes these signatures if it is installed, and does nothing else.
 */
#include "base/wipe.h"
#include "tls/parts.h"

#ifdef SPARX_LIBCRYPTO
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

static const EVP_MD *digest_of(gnutls_sign_algorithm_t algorithm)
{
	switch (gnutls_sign_get_hash_algorithm(algorithm)) {
	case GNUTLS_DIG_SHA256:
		return EVP_sha256();
	case GNUTLS_DIG_SHA384:
		return EVP_sha384();
	case GNUTLS_DIG_SHA512:
		return EVP_sha512();
	default:
		return NULL;
	}
}

static bool is_pss(gnutls_sign_algorithm_t algorithm)
{
	return algorithm == GNUTLS_SIGN_RSA_PSS_RSAE_SHA256 || algorithm == GNUTLS_SIGN_RSA_PSS_RSAE_SHA384 ||
	       algorithm == GNUTLS_SIGN_RSA_PSS_RSAE_SHA512;
}

static bool is_rsa(const EVP_PKEY *key)
{
	return EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA;
}

static bool is_known(const EVP_PKEY *key, gnutls_sign_algorithm_t algorithm)
{
	switch (algorithm) {
	case GNUTLS_SIGN_ECDSA_SHA256:
	case GNUTLS_SIGN_ECDSA_SHA384:
	case GNUTLS_SIGN_ECDSA_SHA512:
	case GNUTLS_SIGN_ECDSA_SECP256R1_SHA256:
		return !is_rsa(key);
	case GNUTLS_SIGN_RSA_SHA256:
	case GNUTLS_SIGN_RSA_SHA384:
	case GNUTLS_SIGN_RSA_SHA512:
		return is_rsa(key);
	default:
		return is_rsa(key) && is_pss(algorithm);
	}
}

static bool prepare(EVP_PKEY_CTX *sign, const EVP_PKEY *key, gnutls_sign_algorithm_t algorithm)
{
	const EVP_MD *digest = digest_of(algorithm);

	if (!sign || !digest || !is_known(key, algorithm) || EVP_PKEY_sign_init(sign) <= 0)
		return false;
	if (!is_rsa(key))
		return EVP_PKEY_CTX_set_signature_md(sign, digest) > 0;
	if (!is_pss(algorithm))
		return EVP_PKEY_CTX_set_rsa_padding(sign, RSA_PKCS1_PADDING) > 0 && EVP_PKEY_CTX_set_signature_md(sign, digest) > 0;
	return EVP_PKEY_CTX_set_rsa_padding(sign, RSA_PKCS1_PSS_PADDING) > 0 && EVP_PKEY_CTX_set_signature_md(sign, digest) > 0 &&
	       EVP_PKEY_CTX_set_rsa_pss_saltlen(sign, RSA_PSS_SALTLEN_DIGEST) > 0;
}

/* The library frees the signature. */
static int sign_hash(gnutls_privkey_t key, gnutls_sign_algorithm_t algorithm, void *userdata, unsigned flags,
		     const gnutls_datum_t *hash, gnutls_datum_t *signature)
{
	EVP_PKEY *ours = userdata;
	EVP_PKEY_CTX *sign = EVP_PKEY_CTX_new(ours, NULL);
	size_t most = (size_t)EVP_PKEY_get_size(ours), size = most;
	bool well = false;

	(void)key;
	(void)flags;
	signature->data = gnutls_malloc(most);
	/* Without memory, libcrypto's ECDSA reports success, and a signature of endless length. */
	if (signature->data && prepare(sign, ours, algorithm))
		well = EVP_PKEY_sign(sign, signature->data, &size, hash->data, hash->size) > 0 && size <= most;
	EVP_PKEY_CTX_free(sign);
	ERR_clear_error();
	if (well) {
		signature->size = (unsigned)size;
		return 0;
	}
	gnutls_free(signature->data);
	*signature = (gnutls_datum_t){NULL, 0};
	return GNUTLS_E_PK_SIGN_FAILED;
}

static int sign_data(gnutls_privkey_t key, gnutls_sign_algorithm_t algorithm, void *userdata, unsigned flags,
		     const gnutls_datum_t *data, gnutls_datum_t *signature)
{
	gnutls_digest_algorithm_t digest = gnutls_sign_get_hash_algorithm(algorithm);
	uint8_t bytes[64];
	gnutls_datum_t hash = {bytes, gnutls_hash_get_len(digest)};

	if (hash.size == 0 || hash.size > sizeof bytes || gnutls_hash_fast(digest, data->data, data->size, bytes) < 0)
		return GNUTLS_E_PK_SIGN_FAILED;
	return sign_hash(key, algorithm, userdata, flags, &hash, signature);
}

static int info(gnutls_privkey_t key, unsigned what, void *userdata)
{
	(void)key;
	if (what & GNUTLS_PRIVKEY_INFO_PK_ALGO)
		return is_rsa(userdata) ? GNUTLS_PK_RSA : GNUTLS_PK_ECDSA;
	if (what & GNUTLS_PRIVKEY_INFO_PK_ALGO_BITS)
		return EVP_PKEY_get_bits(userdata);
	if (what & GNUTLS_PRIVKEY_INFO_HAVE_SIGN_ALGO)
		return is_known(userdata, GNUTLS_FLAGS_TO_SIGN_ALGO(what));
	return 0;
}

static void forget(gnutls_privkey_t key, void *userdata)
{
	(void)key;
	EVP_PKEY_free(userdata);
}

static bool gains(gnutls_x509_privkey_t x509)
{
	unsigned bits = 0;
	int kind = gnutls_x509_privkey_get_pk_algorithm2(x509, &bits);

	return kind == GNUTLS_PK_RSA || (kind == GNUTLS_PK_ECDSA && bits == 256);
}

/* The same key, for signing with libcrypto. NULL: that is impossible, or useless. */
static gnutls_privkey_t faster(gnutls_x509_privkey_t x509)
{
	gnutls_datum_t der = {NULL, 0};
	gnutls_privkey_t key = NULL;
	const unsigned char *at;
	EVP_PKEY *ours;

	if (!gains(x509) || gnutls_x509_privkey_export2_pkcs8(x509, GNUTLS_X509_FMT_DER, NULL, GNUTLS_PKCS_PLAIN, &der) < 0)
		return NULL;
	at = der.data;
	ours = d2i_AutoPrivateKey(NULL, &at, (long)der.size);
	wipe(der.data, der.size);
	gnutls_free(der.data);
	ERR_clear_error();
	if (!ours)
		return NULL;
	if (gnutls_privkey_init(&key) == 0 && gnutls_privkey_import_ext4(key, ours, sign_data, sign_hash, NULL, forget, info,
									 GNUTLS_PRIVKEY_IMPORT_AUTO_RELEASE) == 0)
		return key;
	if (key)
		gnutls_privkey_deinit(key);
	EVP_PKEY_free(ours);
	return NULL;
}

void tls_key_start(void)
{
	OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
}

bool tls_key_is_slow(gnutls_privkey_t key)
{
	return gnutls_privkey_get_pk_algorithm(key, NULL) == GNUTLS_PK_RSA && gnutls_privkey_get_type(key) != GNUTLS_PRIVKEY_EXT;
}
#else
static gnutls_privkey_t faster(gnutls_x509_privkey_t x509)
{
	(void)x509;
	return NULL;
}

void tls_key_start(void)
{
}

bool tls_key_is_slow(gnutls_privkey_t key)
{
	return gnutls_privkey_get_pk_algorithm(key, NULL) == GNUTLS_PK_RSA;
}
#endif

static const char *why_not(int error, const char *password)
{
	if (error == GNUTLS_E_DECRYPTION_FAILED)
		return password && *password ? "is encrypted with another password" : "is encrypted, and there is no password";
	return "is not a private key in PEM or DER";
}

gnutls_privkey_t tls_key_read(struct slice bytes, const char *password, const char **rule)
{
	gnutls_datum_t datum = tls_datum(bytes);
	gnutls_x509_privkey_t x509 = NULL;
	gnutls_privkey_t key = NULL;
	int error;

	if (gnutls_x509_privkey_init(&x509) < 0)
		return NULL;
	error = gnutls_x509_privkey_import2(x509, &datum, tls_is_pem(bytes) ? GNUTLS_X509_FMT_PEM : GNUTLS_X509_FMT_DER, password,
					    0);
	if (error < 0) {
		*rule = why_not(error, password);
		gnutls_x509_privkey_deinit(x509);
		return NULL;
	}
	key = faster(x509);
	if (key) {
		gnutls_x509_privkey_deinit(x509);
		return key;
	}
	*rule = "cannot be loaded: out of memory";
	if (gnutls_privkey_init(&key) < 0 || gnutls_privkey_import_x509(key, x509, GNUTLS_PRIVKEY_IMPORT_AUTO_RELEASE) < 0) {
		gnutls_x509_privkey_deinit(x509);
		if (key)
			gnutls_privkey_deinit(key);
		return NULL;
	}
	return key;
}
