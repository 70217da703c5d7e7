/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/h1.h"

#include <stdlib.h>

#include "proto/h1_session.h"

static void h1_close(struct session *s, enum stream_end why)
{
	struct h1 *h1 = h1_of(s);

	h1_end_streams(h1, why);
	h1_give_parse(h1);
	free(h1);
}

static const struct session_ops h1_ops = {
	.input = h1_input,
	.hangup = h1_hangup,
	.output = h1_output,
	.file = h1_file,
	.sent = h1_sent,
	.taken = h1_taken,
	.own = h1_own,
	.wants = h1_wants,
	.reads = h1_reads,
	.stalled = h1_stalled,
	.tick = h1_tick,
	.drain = h1_drain,
	.close = h1_close,
};

struct session *h1_start(struct session_owner *owner)
{
	struct h1 *h1 = malloc(sizeof *h1);

	if (!h1)
		return NULL;
	*h1 = (struct h1){.session = {&h1_ops, owner}};
	list_init(&h1->streams);
	h1->since = h1_now(h1);
	return &h1->session;
}

void h1_env_free(struct session_env *env)
{
	pool_free(&env->h1_streams);
	free(env->spare_parse);
	env->spare_parse = NULL;
}
