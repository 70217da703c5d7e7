/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/mux.h"

#include <stdlib.h>

bool mux_init(struct mux *mux, struct session_owner *owner, const struct mux_kind *kind)
{
	struct session_env *env = owner->env;

	if (!env->mux)
		env->mux = calloc(1, sizeof(struct mux_env));
	mux->owner = owner;
	mux->kind = kind;
	list_init(&mux->streams);
	list_init(&mux->pending);
	mux->since = *env->now;
	mux->review = UINT64_MAX;
	return env->mux;
}

void mux_env_free(struct session_env *env)
{
	struct mux_env *shared = env->mux;

	if (shared)
		pool_free(&shared->heads);
	free(shared);
	env->mux = NULL;
}
