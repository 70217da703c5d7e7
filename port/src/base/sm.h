/* SPDX-License-Identifier: Apache-2.0 */
/*
 * State machines as data: names, and for each state the set of states that may follow. Only one function changes a state, and it
 * checks the change, so a wrong one is found where it happens.
 */
#ifndef SPARX_BASE_SM_H
#define SPARX_BASE_SM_H

#include <assert.h>
#include <stdint.h>

struct sm {
	const char *name;
	const char *const *states; /* names, for messages */
	const uint32_t *next;      /* next[s]: bit t is set if s may become t */
};

#define SM_BIT(state) (UINT32_C(1) << (state))

static inline void sm_move(const struct sm *machine, uint8_t *state, uint8_t to)
{
	assert(machine->next[*state] & SM_BIT(to));
	(void)machine;
	*state = to;
}

static inline const char *sm_name(const struct sm *machine, uint8_t state)
{
	return machine->states[state];
}

#endif
