/* SPDX-License-Identifier: Apache-2.0 */
#include "bridge/via.h"

#include "frames/mp.h"
#include "peer/proxied.h"

enum { SLICES = 11, NUMBERS = 16 };

size_t via_bound(const struct proxied *p)
{
	const struct proxied_tls *t;

	if (!p)
		return 0;
	t = &p->tls;
	return NUMBERS * MP_MAX_UINT + SLICES * MP_MAX_HEAD + sizeof p->via.ip.bytes + p->source.path.len + p->target.path.len +
	       p->authority.len + p->alpn.len + p->unique.len + t->version.len + t->name.len + t->cipher.len + t->signature.len +
	       t->key.len;
}

static uint8_t *put_bytes_or_nil(uint8_t *at, struct slice bytes)
{
	return bytes.at ? mp_bin(at, bytes) : mp_nil(at);
}

static uint8_t *put_tls(uint8_t *at, const struct proxied_tls *t)
{
	if (!t->there)
		return mp_nil(at);
	at = mp_array(at, 7);
	at = mp_uint(at, t->client);
	at = mp_uint(at, t->verify);
	at = put_bytes_or_nil(at, t->version);
	at = put_bytes_or_nil(at, t->name);
	at = put_bytes_or_nil(at, t->cipher);
	at = put_bytes_or_nil(at, t->signature);
	return put_bytes_or_nil(at, t->key);
}

uint8_t *via_put(uint8_t *at, const struct proxied *p)
{
	at = mp_array(at, 10);
	at = mp_uint(at, p->version);
	at = mp_bool(at, p->silent);
	at = mp_bin(at, slice_of(p->via.ip.bytes, p->via.ip.len));
	at = mp_uint(at, p->via.port);
	at = put_bytes_or_nil(at, p->source.path);
	at = put_bytes_or_nil(at, p->target.path);
	at = put_bytes_or_nil(at, p->authority);
	at = put_bytes_or_nil(at, p->alpn);
	at = put_bytes_or_nil(at, p->unique);
	return put_tls(at, &p->tls);
}

size_t named_bound(const struct forwarded *f)
{
	return 3 * MP_MAX_UINT + 3 * MP_MAX_HEAD + sizeof f->client.bytes + f->host.len;
}

uint8_t *named_put(uint8_t *at, const struct forwarded *f)
{
	at = mp_array(at, 4);
	at = f->client.len ? mp_bin(at, slice_of(f->client.bytes, f->client.len)) : mp_nil(at);
	at = mp_uint(at, f->port);
	at = f->https >= 0 ? mp_uint(at, (uint64_t)f->https) : mp_nil(at);
	return f->host.at ? mp_str(at, f->host) : mp_nil(at);
}
