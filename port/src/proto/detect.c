/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/detect.h"

#include "proto/h1.h"
#include "proto/h2.h"
#include "proto/mux.h"

enum agreed detect_agreed(const struct secure *secure)
{
	if (!secure)
		return AGREED_NOT;
	return slice_eq(secure->alpn, SLICE_LIT("h2")) ? AGREED_H2 : AGREED_H1;
}

enum detected detect_protocol(const uint8_t *bytes, size_t len, enum agreed agreed)
{
	static const struct slice preface = SLICE_LIT("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
	size_t n = len < preface.len ? len : preface.len;

	if (agreed == AGREED_H1)
		return DETECT_H1;
	if (n && memcmp(bytes, preface.at, n) != 0)
		return agreed == AGREED_H2 ? DETECT_WRONG : DETECT_H1;
	return n == preface.len ? DETECT_H2 : DETECT_MORE;
}

struct session *detect_start(struct session_owner *owner)
{
	return h1_start(owner);
}

struct session *detect_switch_to_h2(struct session *session)
{
	struct session_owner *owner = session->owner;

	session->ops->close(session, END_CLOSED);
	return h2_start(owner);
}

void detect_env_free(struct session_env *env)
{
	h1_env_free(env);
	h2_env_free(env);
	mux_env_free(env);
}
