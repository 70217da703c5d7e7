/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/h3_head.h"

#include <stdlib.h>

enum { SPARES_MAX = 32 };

struct h3_head *h3_head_new(struct h3 *h3)
{
	struct h3_env *shared = h3_shared(h3);
	struct h3_head *head = shared->spare;

	if (head) {
		shared->spare = head->next;
		shared->spares--;
	} else {
		head = malloc(sizeof *head);
	}
	if (head)
		memset(head, 0, offsetof(struct h3_head, pairs));
	return head;
}

void h3_head_free(struct h3 *h3, struct h3_head *head)
{
	struct h3_env *shared = h3_shared(h3);

	if (!head)
		return;
	for (unsigned i = 0; i < head->count; i++) {
		nghttp3_rcbuf_decref(head->pairs[i].name);
		nghttp3_rcbuf_decref(head->pairs[i].value);
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

void h3_heads_free(struct h3_env *shared)
{
	struct h3_head *head;

	while ((head = shared->spare)) {
		shared->spare = head->next;
		free(head);
	}
	shared->spares = 0;
}
