/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/h2_head.h"

#include <stdlib.h>

enum { SPARES_MAX = 32 };

struct h2_head *h2_head_new(struct h2 *h2)
{
	struct h2_env *shared = h2_shared(h2);
	struct h2_head *head = shared->spare;

	if (head) {
		shared->spare = head->next;
		shared->spares--;
	} else {
		head = malloc(sizeof *head);
	}
	if (head) {
		memset(head, 0, offsetof(struct h2_head, pairs));
	}
	return head;
}

void h2_head_free(struct h2 *h2, struct h2_head *head)
{
	struct h2_env *shared = h2_shared(h2);

	if (!head)
		return;
	for (unsigned i = 0; i < head->count; i++) {
		nghttp2_rcbuf_decref(head->pairs[i].name);
		nghttp2_rcbuf_decref(head->pairs[i].value);
	}
	buf_free(&head->cookies);
	if (shared->spares >= SPARES_MAX) {
		free(head);
		return;
	}
	head->next = shared->spare;
	shared->spare = head;
	shared->spares++;
}

void h2_heads_free(struct h2_env *shared)
{
	struct h2_head *head;

	while ((head = shared->spare)) {
		shared->spare = head->next;
		free(head);
	}
	shared->spares = 0;
}
