/* SPDX-License-Identifier: Apache-2.0 */
#include "quic_null.h"

#include <ngtcp2/ngtcp2_crypto.h>
#include <string.h>

static int dummy;

/* ---- the cipher ---- */

int ngtcp2_crypto_encrypt_cb(uint8_t *dest, const ngtcp2_crypto_aead *aead, const ngtcp2_crypto_aead_ctx *ctx, const uint8_t *plain,
			     size_t n, const uint8_t *nonce, size_t nonce_len, const uint8_t *aad, size_t aad_len)
{
	(void)aead;
	(void)ctx;
	(void)nonce;
	(void)nonce_len;
	(void)aad;
	(void)aad_len;
	memmove(dest, plain, n);
	memset(dest + n, 0, QUIC_NULL_TAG);
	return 0;
}

int ngtcp2_crypto_decrypt_cb(uint8_t *dest, const ngtcp2_crypto_aead *aead, const ngtcp2_crypto_aead_ctx *ctx, const uint8_t *text,
			     size_t n, const uint8_t *nonce, size_t nonce_len, const uint8_t *aad, size_t aad_len)
{
	(void)aead;
	(void)ctx;
	(void)nonce;
	(void)nonce_len;
	(void)aad;
	(void)aad_len;
	if (n < QUIC_NULL_TAG)
		return NGTCP2_ERR_DECRYPT;
	memmove(dest, text, n - QUIC_NULL_TAG);
	return 0;
}

int ngtcp2_crypto_hp_mask_cb(uint8_t *dest, const ngtcp2_crypto_cipher *hp, const ngtcp2_crypto_cipher_ctx *ctx,
			     const uint8_t *sample)
{
	(void)hp;
	(void)ctx;
	(void)sample;
	memset(dest, 0, NGTCP2_HP_MASKLEN);
	return 0;
}

void ngtcp2_crypto_delete_crypto_aead_ctx_cb(ngtcp2_conn *conn, ngtcp2_crypto_aead_ctx *ctx, void *user)
{
	(void)conn;
	(void)ctx;
	(void)user;
}

void ngtcp2_crypto_delete_crypto_cipher_ctx_cb(ngtcp2_conn *conn, ngtcp2_crypto_cipher_ctx *ctx, void *user)
{
	(void)conn;
	(void)ctx;
	(void)user;
}

/* ---- the keys ---- */

static const uint8_t iv[12], secret[32];

static ngtcp2_crypto_ctx null_ctx(void)
{
	return (ngtcp2_crypto_ctx){
		.aead = {&dummy, QUIC_NULL_TAG},
		.md = {&dummy},
		.hp = {&dummy},
		.max_encryption = 1 << 23,
		.max_decryption_failure = 1u << 31,
	};
}

int ngtcp2_crypto_recv_client_initial_cb(ngtcp2_conn *conn, const ngtcp2_cid *dcid, void *user)
{
	ngtcp2_crypto_aead_ctx key = {&dummy};
	ngtcp2_crypto_cipher_ctx hp = {&dummy};
	ngtcp2_crypto_ctx ctx = null_ctx();

	(void)dcid;
	(void)user;
	ngtcp2_conn_set_initial_crypto_ctx(conn, &ctx);
	return ngtcp2_conn_install_initial_key(conn, &key, iv, &hp, &key, iv, &hp, sizeof iv);
}

/* What a client would have sent. */
static int set_params(ngtcp2_conn *conn)
{
	uint8_t bytes[256];
	ngtcp2_transport_params p;
	ngtcp2_ssize n;

	ngtcp2_transport_params_default(&p);
	p.initial_max_stream_data_bidi_local = 4096;
	p.initial_max_stream_data_uni = 65536;
	p.initial_max_data = 65536;
	p.initial_max_streams_uni = 3;
	p.initial_scid = *ngtcp2_conn_get_dcid(conn);
	p.initial_scid_present = 1;
	n = ngtcp2_transport_params_encode(bytes, sizeof bytes, &p);
	return n < 0 ? (int)n : ngtcp2_conn_decode_and_set_remote_transport_params(conn, bytes, (size_t)n);
}

int ngtcp2_crypto_read_write_crypto_data(ngtcp2_conn *conn, ngtcp2_encryption_level level, const uint8_t *data, size_t n)
{
	ngtcp2_crypto_aead_ctx key = {&dummy};
	ngtcp2_crypto_cipher_ctx hp = {&dummy};
	ngtcp2_crypto_ctx ctx = null_ctx();
	int error = set_params(conn);

	(void)level;
	(void)data;
	(void)n;
	if (error)
		return error;
	ngtcp2_conn_set_crypto_ctx(conn, &ctx);
	if (ngtcp2_conn_install_rx_handshake_key(conn, &key, iv, sizeof iv, &hp) != 0 ||
	    ngtcp2_conn_install_tx_handshake_key(conn, &key, iv, sizeof iv, &hp) != 0 ||
	    ngtcp2_conn_install_rx_key(conn, secret, sizeof secret, &key, iv, sizeof iv, &hp) != 0 ||
	    ngtcp2_conn_install_tx_key(conn, secret, sizeof secret, &key, iv, sizeof iv, &hp) != 0)
		return NGTCP2_ERR_CALLBACK_FAILURE;
	ngtcp2_conn_tls_handshake_completed(conn);
	return 0;
}

int ngtcp2_crypto_update_key_cb(ngtcp2_conn *conn, uint8_t *rx_secret, uint8_t *tx_secret, ngtcp2_crypto_aead_ctx *rx_key,
				uint8_t *rx_iv, ngtcp2_crypto_aead_ctx *tx_key, uint8_t *tx_iv, const uint8_t *rx_before,
				const uint8_t *tx_before, size_t n, void *user)
{
	(void)conn;
	(void)user;
	memcpy(rx_secret, rx_before, n);
	memcpy(tx_secret, tx_before, n);
	memcpy(rx_iv, iv, sizeof iv);
	memcpy(tx_iv, iv, sizeof iv);
	rx_key->native_handle = tx_key->native_handle = &dummy;
	return 0;
}
