/* SPDX-License-Identifier: Apache-2.0 */
#include "stream/stream.h"

#include "base/sm.h"

static const char *const request_names[] = {"open", "ended", "skipped"};
static const uint32_t request_next[] = {
	[REQUEST_OPEN] = SM_BIT(REQUEST_ENDED) | SM_BIT(REQUEST_SKIPPED),
	[REQUEST_ENDED] = SM_BIT(REQUEST_OPEN), /* an upgrade */
	[REQUEST_SKIPPED] = 0,
};
static const struct sm request_machine = {"request", request_names, request_next};

static const char *const response_names[] = {"waiting", "streaming", "ended"};
static const uint32_t response_next[] = {
	[RESPONSE_WAITING] = SM_BIT(RESPONSE_STREAMING),
	[RESPONSE_STREAMING] = SM_BIT(RESPONSE_ENDED) | SM_BIT(RESPONSE_WAITING), /* a head that was kept is dropped */
	[RESPONSE_ENDED] = 0,
};
static const struct sm response_machine = {"response", response_names, response_next};

static const char *const end_names[] = {
	[END_CLOSED] = "closed", [END_RESET] = "reset",     [END_TIMEOUT] = "timeout", [END_ABORTED] = "aborted",
	[END_ERROR] = "error",   [END_DRAINED] = "drained", [END_FILE] = "file",
};

void stream_init(struct stream *s, const struct stream_ops *ops)
{
	*s = (struct stream){.ops = ops, .allowance = UINT64_MAX};
}

void stream_request_moves(struct stream *s, enum request_half to)
{
	sm_move(&request_machine, &s->request, (uint8_t)to);
}

void stream_response_moves(struct stream *s, enum response_half to)
{
	sm_move(&response_machine, &s->response, (uint8_t)to);
}

const char *stream_end_name(enum stream_end why)
{
	return end_names[why];
}
