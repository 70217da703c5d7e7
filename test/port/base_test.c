/* SPDX-License-Identifier: Apache-2.0 */
/* buf, bufq, list, idmap, sm, log */
#include "base/bufq.h"

#include <fcntl.h>
#include <unistd.h>

#include "base/idmap.h"
#include "base/list.h"
#include "base/log.h"
#include "base/pace.h"
#include "base/pool.h"
#include "base/shared.h"
#include "base/sm.h"
#include "base/text.h"
#include "support.h"

enum { STEPS = 20000, PLENTY = 1 << 20 };

/* ---- pool ---- */

static void test_pool_gives_again_what_was_given_back_last_and_keeps_no_more_than_its_limit(void **state)
{
	enum { SIZE = 64, MOST = 3, ALL = 5 };
	struct pool pool = {0};
	void *blocks[ALL];

	(void)state;
	for (unsigned i = 0; i < ALL; i++) {
		blocks[i] = pool_take(&pool, SIZE);
		assert_non_null(blocks[i]);
		memset(blocks[i], 0xa5, SIZE);
	}
	for (unsigned i = 0; i < ALL; i++)
		pool_give(&pool, blocks[i], MOST);
	assert_int_equal(pool.kept, POOL_KEEPS ? MOST : 0);
	for (unsigned i = MOST; POOL_KEEPS && i-- > 0;) {
		assert_ptr_equal(pool_take(&pool, SIZE), blocks[i]);
		assert_int_equal(pool.kept, i);
	}
	for (unsigned i = 0; POOL_KEEPS && i < MOST; i++)
		pool_give(&pool, blocks[i], MOST);
	pool_free(&pool);
	assert_null(pool.first);
	assert_int_equal(pool.kept, 0);
}

/* ---- buf ---- */

static void test_buf_owns_nothing_before_the_first_append(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b);
	assert_null(buf_at(&b));
	assert_true(buf_append(&b, NULL, 0));
	assert_null(b.data);
	buf_consume(&b, 0);
	buf_free(&b);
}

static void test_buf_gives_back_what_was_appended_in_order(void **state)
{
	uint8_t *model = malloc(PLENTY), piece[300];
	size_t head = 0, tail = 0;
	uint32_t seed = 1;
	struct buf b;

	(void)state;
	buf_init(&b);
	for (unsigned i = 0; i < STEPS && tail + sizeof piece < PLENTY; i++) {
		size_t n = random_below(&seed, sizeof piece);
		if (random_below(&seed, 2)) {
			for (size_t k = 0; k < n; k++)
				model[tail + k] = piece[k] = (uint8_t)random_next(&seed);
			assert_true(buf_append(&b, piece, n));
			tail += n;
		} else {
			n = n < tail - head ? n : tail - head;
			buf_consume(&b, n);
			head += n;
		}
		assert_int_equal(buf_len(&b), tail - head);
		if (tail > head)
			assert_memory_equal(buf_at(&b), model + head, tail - head);
	}
	buf_free(&b);
	free(model);
}

static void test_buf_moves_before_it_grows(void **state)
{
	uint8_t bytes[4096] = {0};
	struct buf b;
	size_t cap;

	(void)state;
	buf_init(&b);
	buf_append(&b, bytes, 500);
	cap = b.cap;
	buf_consume(&b, 499);
	assert_true(buf_append(&b, bytes, cap - 1));
	assert_int_equal(b.cap, cap);
	assert_int_equal(buf_len(&b), cap);
	assert_true(buf_append(&b, bytes, 1));
	assert_true(b.cap > cap);
	buf_free(&b);
	assert_int_equal(buf_len(&b), 0);
}

/* ---- bufq ---- */

static size_t flatten(const struct bufq *q, uint8_t *to, int max)
{
	struct iovec iov[512];
	int count = bufq_iov(q, iov, max);
	size_t n = 0;

	assert_true(count <= max);
	for (int i = 0; i < count; n += iov[i++].iov_len) {
		assert_true(iov[i].iov_len > 0);
		memcpy(to + n, iov[i].iov_base, iov[i].iov_len);
	}
	return n;
}

static void add_some(struct bufq *q, uint8_t *model, size_t n, uint32_t *seed)
{
	uint8_t *at;

	for (size_t k = 0; k < n; k++)
		model[k] = (uint8_t)random_next(seed);
	if (random_below(seed, 2)) {
		assert_true(bufq_append(q, model, n));
		return;
	}
	at = bufq_reserve(q, n + random_below(seed, 100));
	assert_non_null(at);
	memcpy(at, model, n);
	bufq_filled(q, n);
}

static void test_bufq_gives_back_what_was_appended_in_order(void **state)
{
	uint8_t *model = malloc(PLENTY + 4000), *got = malloc(PLENTY + 4000);
	size_t head = 0, tail = 0;
	uint32_t seed = 7;
	struct bufq q;

	(void)state;
	bufq_init(&q);
	for (unsigned i = 0; i < STEPS && tail < PLENTY; i++) {
		size_t n = random_below(&seed, random_below(&seed, 20) ? 400 : 4000);
		if (random_below(&seed, 100) < 45) {
			add_some(&q, model + tail, n, &seed);
			tail += n;
		} else {
			n = n < tail - head ? n : tail - head;
			bufq_consume(&q, n);
			head += n;
		}
		assert_int_equal(q.len, tail - head);
		if (i % 16 == 0) {
			assert_int_equal(flatten(&q, got, 512), tail - head);
			assert_memory_equal(got, model + head, tail - head);
		}
	}
	bufq_free(&q);
	assert_int_equal(q.len, 0);
	free(model);
	free(got);
}

static void test_bufq_splits_a_large_append_and_fills_no_more_vectors_than_asked(void **state)
{
	static uint8_t large[300000], got[300000];
	struct bufq q;
	size_t n;

	(void)state;
	for (size_t i = 0; i < sizeof large; i++)
		large[i] = (uint8_t)(i * 7 % 251);
	bufq_init(&q);
	assert_true(bufq_append(&q, large, sizeof large));
	n = flatten(&q, got, 2);
	assert_true(n > 0 && n < sizeof large);
	assert_memory_equal(got, large, n);
	bufq_consume(&q, n);
	assert_int_equal(flatten(&q, got, 512), sizeof large - n);
	assert_memory_equal(got, large + n, sizeof large - n);
	bufq_free(&q);
}

/* A reader far ahead of the bytes that may be freed, as while bytes wait for an acknowledgement. */
static void test_bufq_is_walked_ahead_of_what_is_consumed(void **state)
{
	uint8_t *model = malloc(PLENTY + 4000);
	size_t head = 0, read = 0, tail = 0, n;
	struct bufq_cursor cursor = {0};
	struct iovec iov[8];
	uint32_t seed = 11;
	struct bufq q;

	(void)state;
	bufq_init(&q);
	for (unsigned i = 0; i < STEPS && tail < PLENTY; i++) {
		switch (random_below(&seed, 3)) {
		case 0:
			n = random_below(&seed, random_below(&seed, 20) ? 400 : 4000);
			for (size_t k = 0; k < n; k++)
				model[tail + k] = (uint8_t)random_next(&seed);
			assert_true(bufq_append(&q, model + tail, n));
			tail += n;
			break;
		case 1: {
			size_t most = random_below(&seed, 3000), seen = 0;
			size_t charged;
			int count = bufq_walk(&q, &cursor, most, iov, 8, &n, &charged);
			assert_true(n <= most && count <= 8 && charged == n);
			for (int k = 0; k < count; seen += iov[k++].iov_len)
				assert_memory_equal(iov[k].iov_base, model + read + seen, iov[k].iov_len);
			assert_int_equal(seen, n);
			assert_true(count == 8 || n == most || read + n == tail);
			read += n;
			break;
		}
		default:
			n = random_below(&seed, (uint32_t)(read - head) + 1);
			bufq_consume_behind(&q, &cursor, n);
			head += n;
		}
		assert_int_equal(q.len, tail - head);
	}
	bufq_free(&q);
	free(model);
}

/* From one queue to another: bytes in the queue's own blocks are copied, lent ones stay lent. */
static void test_bufq_moves_what_was_lent_without_copying(void **state)
{
	static uint8_t large[20000];
	struct bufq from, to;
	struct iovec iov[8];

	(void)state;
	memset(large, 'x', sizeof large);
	bufq_init(&from);
	bufq_init(&to);
	assert_true(bufq_append(&from, "ab", 2) && bufq_lend(&from, large, sizeof large) && bufq_append(&from, "cd", 2));
	assert_true(bufq_move(&from, &to, 1));
	assert_true(bufq_move(&from, &to, 10001));
	assert_int_equal(from.len, 10002);
	assert_int_equal(bufq_iov(&to, iov, 8), 2);
	assert_memory_equal(iov[0].iov_base, "ab", 2);
	assert_ptr_equal(iov[1].iov_base, large);
	assert_int_equal(iov[1].iov_len, 10000);
	assert_true(bufq_own(&to) && bufq_own(&from));
	large[0] = large[19999] = 'y'; /* no longer belongs to them */
	assert_true(bufq_move(&from, &to, 10002));
	assert_int_equal(from.len, 0);
	for (size_t at = 0; at < 20004; at += iov[0].iov_len) {
		assert_true(bufq_iov(&to, iov, 1) == 1);
		assert_null(memchr(iov[0].iov_base, 'y', iov[0].iov_len));
		bufq_consume(&to, iov[0].iov_len);
	}
	assert_int_equal(to.len, 0);
	bufq_free(&from);
	bufq_free(&to);
}

static void test_shared_bytes_keep_all_slots_that_they_reach_into(void **state)
{
	enum { SLOTS = 16 };
	static uint8_t memory[SLOTS * SHARED_SLOT];
	struct bufq from, to;
	struct iovec iov[2];
	uint32_t slot;

	(void)state;
	assert_true(shared_begin(memory, SLOTS));
	assert_true(shared_fits(0, sizeof memory) && shared_fits(SLOTS - 1, 1));
	assert_false(shared_fits(SLOTS, 0) || shared_fits(0, sizeof memory + 1) || shared_fits(SLOTS - 1, SHARED_SLOT + 1));
	assert_false(shared_fits(1, UINT64_MAX) || shared_fits(UINT64_MAX, 1));
	bufq_init(&from);
	bufq_init(&to);
	assert_true(bufq_lend(&from, shared_bytes(1), 10 * SHARED_SLOT + 10));
	assert_int_equal(shared_used(), 11);
	assert_true(shared_is_used(11, 1) && shared_is_used(0, SHARED_SLOT + 1));
	assert_false(shared_is_used(0, SHARED_SLOT) || shared_is_used(12, 1));
	assert_true(bufq_move(&from, &to, 5 * SHARED_SLOT + SHARED_SLOT / 2)); /* both have bytes of slot 6 now */
	assert_int_equal(shared_used(), 11);
	bufq_consume(&to, to.len);
	assert_int_equal(shared_used(), 11); /* a block keeps its slots as long as it exists */
	assert_int_equal(bufq_iov(&from, iov, 2), 1);
	assert_ptr_equal(iov[0].iov_base, memory + 6 * SHARED_SLOT + SHARED_SLOT / 2);
	assert_int_equal(shared_next_free(&slot), 0);
	bufq_free(&from);
	assert_int_equal(shared_used(), 0);
	assert_true(shared_is_used(1, 1)); /* the host has not got it back yet */
	assert_int_equal(shared_next_free(&slot), 11);
	assert_false(shared_is_used(0, sizeof memory));
	assert_int_equal(slot, 1);
	assert_int_equal(shared_next_free(&slot), 0);
	for (uint32_t i = 0; i < 3; i++) { /* no neighbours */
		shared_keep(shared_bytes(2 * i), 1);
		shared_give(shared_bytes(2 * i), 1);
	}
	for (uint32_t want = 3; want > 0; want--) {
		assert_int_equal(shared_next_free(&slot), 1);
		assert_int_equal(slot, 2 * (want - 1));
	}
	assert_int_equal(shared_next_free(&slot), 0);
	shared_end();
}

static void test_bufq_reserve_without_use_leaves_nothing_to_write(void **state)
{
	struct iovec iov[4];
	struct bufq q;

	(void)state;
	bufq_init(&q);
	assert_non_null(bufq_reserve(&q, 10));
	assert_int_equal(bufq_iov(&q, iov, 4), 0);
	bufq_consume(&q, 0);
	assert_true(bufq_append(&q, "abc", 3));
	assert_int_equal(bufq_iov(&q, iov, 4), 1);
	bufq_consume(&q, 3);
	assert_int_equal(bufq_iov(&q, iov, 4), 0);
	bufq_free(&q);
}

/* ---- files in a bufq ---- */

static const char letters[] = "abcdefghijklmnopqrstuvwxyz";
static size_t gives; /* the most bytes that a read of the file returns */

/* A file of the alphabet, repeated. */
static ssize_t read_letters(struct file *f, void *to, size_t n, uint64_t offset)
{
	(void)f;
	n = n < gives ? n : gives;
	for (size_t i = 0; i < n; i++)
		((char *)to)[i] = letters[(offset + i) % 26];
	return (ssize_t)n;
}

static ssize_t read_nothing(struct file *f, void *to, size_t n, uint64_t offset)
{
	(void)f;
	(void)to;
	(void)n;
	(void)offset;
	return 0;
}

static struct file *some_file(void)
{
	struct file *f = file_new(dup(1));

	assert_non_null(f);
	return f;
}

static void expect_front(const struct bufq *q, const char *wanted)
{
	char bytes[64] = {0};

	flatten(q, (uint8_t *)bytes, 8);
	assert_string_equal(bytes, wanted);
}

static void test_bufq_holds_parts_of_files_and_charges_a_little_for_each(void **state)
{
	struct file *f = some_file();
	struct bufq_file part;
	struct bufq q;

	(void)state;
	bufq_init(&q);
	assert_false(bufq_file(&q, &part));
	assert_true(bufq_append(&q, "12", 2) && bufq_append_file(&q, f, 3, 1000) && bufq_append(&q, "34", 2));
	assert_true(bufq_append_file(&q, f, 0, 1));
	assert_int_equal(f->users, 3);
	file_give(f);
	assert_int_equal(q.len, 1005);
	assert_int_equal(q.charged, 4 + 2 * FILE_COST);
	expect_front(&q, "12");
	assert_true(bufq_file(&q, &part));
	assert_true(part.file == f && part.offset == 3 && part.len == 1000 && part.before == 2);
	bufq_consume(&q, 2);
	assert_int_equal(q.charged, 2 + 2 * FILE_COST);
	bufq_consume(&q, 400);
	assert_true(bufq_file(&q, &part) && part.offset == 403 && part.len == 600 && part.before == 0);
	assert_int_equal(q.charged, 2 + 2 * FILE_COST);
	bufq_consume(&q, 600);
	assert_int_equal(q.charged, 2 + FILE_COST);
	expect_front(&q, "34");
	assert_true(bufq_file(&q, &part) && part.before == 2);
	bufq_consume(&q, 3);
	assert_true(q.len == 0 && q.charged == 0 && q.files == 0);
	bufq_free(&q);
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static void test_a_view_keeps_its_file_open(void **state)
{
	struct file *f = some_file(), *one, *two;
	int fd = f->fd;

	(void)state;
	f->cold_to = 100;
	one = file_view(f);
	two = file_view(f);
	assert_true(one && two && one->fd == fd && two->fd == fd);
	assert_int_equal(one->cold_to, 0); /* what one reader found out is not for the others */
	file_give(f);
	file_keep(one);
	file_give(one);
	file_give(two);
	assert_true(is_open(fd));
	file_give(one);
	assert_false(is_open(fd));
}

static void test_bufq_loads_a_file_where_it_stands(void **state)
{
	struct file *f = some_file();
	struct bufq_file part;
	struct bufq q, to;

	(void)state;
	bufq_init(&q);
	bufq_init(&to);
	assert_true(bufq_append(&q, "12", 2) && bufq_append_file(&q, f, 1, 5) && bufq_append(&q, "34", 2));
	file_give(f);
	gives = 2;
	assert_int_equal(bufq_load(&q, 4, read_letters), 2);
	expect_front(&q, "12bc");
	assert_int_equal(bufq_load(&q, 1, read_letters), 1);
	assert_int_equal(bufq_load(&q, 9, read_nothing), 0);
	expect_front(&q, "12bcd");
	assert_true(bufq_file(&q, &part) && part.offset == 4 && part.len == 2 && part.before == 5);
	assert_int_equal(q.charged, 4 + FILE_COST);
	assert_int_equal(q.len, 9);
	assert_int_equal(bufq_load(&q, 9, read_letters), 2);
	assert_false(bufq_file(&q, &part)); /* all of it is in memory, */
	assert_int_equal(q.charged, 4 + FILE_COST);
	assert_true(bufq_move(&q, &to, 6));
	assert_int_equal(q.charged, 2 + FILE_COST); /* but has not left */
	assert_int_equal(to.charged, 6);
	assert_true(bufq_move(&q, &to, 2));
	assert_int_equal(q.charged, 1);
	expect_front(&to, "12bcdef3");
	expect_front(&q, "4");
	assert_int_equal(q.files, 0);
	bufq_free(&q);
	bufq_free(&to);
}

static void test_bufq_is_walked_as_far_as_files_are_in_memory(void **state)
{
	struct file *f = some_file();
	struct bufq_cursor cursor = {0};
	struct iovec iov[8];
	size_t n, charged;
	struct bufq q;

	(void)state;
	bufq_init(&q);
	gives = 3;
	assert_true(bufq_append_file(&q, f, 0, 7));
	assert_int_equal(bufq_walk(&q, &cursor, 100, iov, 8, &n, &charged), 0);
	assert_int_equal(bufq_load(&q, 9, read_letters), 3);
	assert_int_equal(bufq_walk(&q, &cursor, 100, iov, 8, &n, &charged), 1);
	assert_true(n == 3 && charged == 0 && memcmp(iov[0].iov_base, "abc", 3) == 0);
	bufq_consume_behind(&q, &cursor, 2);
	assert_int_equal(bufq_walk(&q, &cursor, 100, iov, 8, &n, &charged), 0);
	bufq_consume_behind(&q, &cursor, 1);
	assert_int_equal(bufq_load(&q, 9, read_letters), 3);
	assert_int_equal(bufq_walk(&q, &cursor, 2, iov, 8, &n, &charged), 1);
	assert_true(n == 2 && memcmp(iov[0].iov_base, "de", 2) == 0);
	assert_int_equal(bufq_load(&q, 9, read_letters), 1);
	assert_true(bufq_append(&q, "12", 2) && bufq_append_file(&q, f, 0, 1));
	file_give(f);
	assert_int_equal(bufq_walk(&q, &cursor, 100, iov, 8, &n, &charged), 3);
	assert_true(n == 4 && charged == 2 && memcmp(iov[2].iov_base, "12", 2) == 0);
	bufq_consume_behind(&q, &cursor, 6);
	assert_int_equal(q.files, 1);
	assert_int_equal(bufq_load(&q, 9, read_letters), 1);
	assert_int_equal(bufq_walk(&q, &cursor, 100, iov, 8, &n, &charged), 1);
	assert_memory_equal(iov[0].iov_base, "a", 1);
	bufq_consume_behind(&q, &cursor, 1);
	assert_true(q.len == 0 && q.files == 0 && !cursor.block);
	bufq_free(&q);
}

static void test_bufq_owns_what_is_lent_around_a_file(void **state)
{
	static uint8_t lent[9000];
	struct file *f = some_file();
	struct bufq_file part;
	struct iovec iov[8];
	struct bufq q;

	(void)state;
	memset(lent, 'l', sizeof lent);
	bufq_init(&q);
	assert_true(bufq_append(&q, "12", 2) && bufq_append_file(&q, f, 0, 500) && bufq_lend(&q, lent, sizeof lent));
	gives = 300;
	assert_int_equal(bufq_load(&q, 300, read_letters), 300);
	assert_true(bufq_own(&q));
	memset(lent, 'x', sizeof lent);
	assert_true(bufq_append(&q, "34", 2));
	assert_int_equal(q.len, 2 + 500 + 9000 + 2);
	assert_int_equal(q.charged, 2 + FILE_COST + 9000 + 2);
	assert_true(bufq_file(&q, &part) && part.before == 302 && part.len == 200);
	bufq_consume(&q, 502);
	assert_true(bufq_iov(&q, iov, 8) > 0);
	assert_memory_equal(iov[0].iov_base, "llllllllll", 10);
	file_give(f);
	bufq_free(&q);
}

static void test_bufq_lets_go_of_the_files_in_it(void **state)
{
	struct file *f = some_file();
	struct bufq q;
	int fd = f->fd;

	(void)state;
	bufq_init(&q);
	assert_true(bufq_append_file(&q, f, 0, 10) && bufq_append_file(&q, f, 0, 10));
	file_give(f);
	assert_true(fcntl(fd, F_GETFD) >= 0);
	bufq_free(&q);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	assert_true(q.len == 0 && q.charged == 0 && q.files == 0);
}

/* ---- list ---- */

struct item {
	int n;
	struct list link;
};

static void check_list(const struct list *head, const int *wanted, size_t count)
{
	const struct list *l = head->next;

	for (size_t i = 0; i < count; i++, l = l->next) {
		assert_int_equal(container_of(l, struct item, link)->n, wanted[i]);
		assert_ptr_equal(l->next->prev, l);
		assert_ptr_equal(l->prev->next, l);
	}
	assert_ptr_equal(l, head);
}

static void test_list_keeps_order_through_removal_pop_and_splice(void **state)
{
	struct item items[5];
	struct list a, b;

	(void)state;
	list_init(&a);
	list_init(&b);
	for (int i = 0; i < 5; i++) {
		items[i].n = i;
		list_init(&items[i].link);
		assert_false(list_linked(&items[i].link));
		list_append(i < 3 ? &a : &b, &items[i].link);
		assert_true(list_linked(&items[i].link));
	}
	list_splice(&a, &b);
	check_list(&a, (int[]){0, 1, 2, 3, 4}, 5);
	assert_true(list_empty(&b));
	list_splice(&a, &b);
	check_list(&a, (int[]){0, 1, 2, 3, 4}, 5);
	list_remove(&items[2].link);
	list_remove(&items[2].link); /* a second call is harmless */
	assert_ptr_equal(list_pop(&a), &items[0].link);
	assert_false(list_linked(&items[0].link));
	check_list(&a, (int[]){1, 3, 4}, 3);
	list_splice(&b, &a);
	check_list(&b, (int[]){1, 3, 4}, 3);
	while (list_pop(&b))
		;
	assert_null(list_pop(&b));
}

/* ---- idmap ---- */

enum { KEYS = 600 };

static void check_map(const struct idmap *m, void *const *model)
{
	size_t count = 0;

	for (uint64_t key = 1; key < KEYS; key++) {
		assert_ptr_equal(idmap_get(m, key), model[key]);
		count += model[key] != NULL;
	}
	assert_int_equal(m->count, count);
}

static void test_idmap_agrees_with_a_naive_model(void **state)
{
	void *model[KEYS] = {0};
	uint32_t seed = 3;
	struct idmap m;

	(void)state;
	idmap_init(&m);
	assert_null(idmap_get(&m, 1));
	assert_null(idmap_del(&m, 1));
	for (unsigned i = 0; i < STEPS; i++) {
		uint64_t key = 1 + random_below(&seed, i % 4000 < 2000 ? KEYS - 1 : 50);
		if (model[key]) {
			assert_ptr_equal(idmap_del(&m, key), model[key]);
			model[key] = NULL;
		} else {
			model[key] = &model[random_below(&seed, KEYS)];
			assert_true(idmap_put(&m, key, model[key]));
		}
		if (i % 50 == 0)
			check_map(&m, model);
	}
	check_map(&m, model);
	idmap_free(&m);
}

/* Keys with one home slot, at the end of the table: probing wraps round, and holes must be closed across the end. */
static void test_idmap_closes_holes_across_the_end_of_the_table(void **state)
{
	int values[10];
	uint64_t keys[10];
	uint32_t seed = 11;

	(void)state;
	for (unsigned i = 0; i < 10; i++)
		keys[i] = i < 5 ? 63 + 64 * i : 62 + 64 * i;
	for (unsigned round = 0; round < 500; round++) {
		bool there[10] = {0};
		struct idmap m;
		idmap_init(&m);
		for (unsigned i = 0; i < 60; i++) {
			unsigned k = random_below(&seed, 10);
			if (there[k])
				assert_ptr_equal(idmap_del(&m, keys[k]), &values[k]);
			else
				assert_true(idmap_put(&m, keys[k], &values[k]));
			there[k] = !there[k];
			for (unsigned j = 0; j < 10; j++)
				assert_ptr_equal(idmap_get(&m, keys[j]), there[j] ? &values[j] : NULL);
		}
		assert_int_equal(m.mask, 63);
		idmap_free(&m);
	}
}

/* Random maps are walked while some entries are deleted: each entry is visited once, and deleted at most once. */
static void test_idmap_walk_leaves_nothing_out(void **state)
{
	enum { WALKED = 40, ROUNDS = 2000 };
	uint32_t random = 5;

	(void)state;
	for (unsigned round = 0; round < ROUNDS; round++) {
		struct idmap m;
		struct idmap_walk walk = {0};
		uint64_t keys[WALKED], left = 0;
		bool given[WALKED] = {false};
		unsigned count = random_below(&random, WALKED), *k;
		static unsigned numbers[WALKED];
		idmap_init(&m);
		assert_null(idmap_next(&m, &walk));
		for (unsigned i = 0; i < count; i++) {
			numbers[i] = i;
			keys[i] = 1 + (uint64_t)i * 977 + (uint64_t)round * WALKED * 977;
			assert_true(idmap_put(&m, keys[i], &numbers[i]));
		}
		while ((k = idmap_next(&m, &walk))) {
			assert_true(walk.key == keys[*k]);
			given[*k] = true;
			if (random_below(&random, 2))
				assert_ptr_equal(idmap_del(&m, keys[*k]), k);
		}
		for (unsigned i = 0; i < count; i++) {
			assert_true(given[i]);
			left += idmap_get(&m, keys[i]) != NULL;
		}
		assert_int_equal(m.count, left);
		idmap_free(&m);
	}
}

static void test_idmap_holds_ids_of_a_long_life_in_a_small_table(void **state)
{
	struct idmap m;
	int value;

	(void)state;
	idmap_init(&m);
	for (uint64_t id = UINT64_C(1) << 40; id < (UINT64_C(1) << 40) + 100000; id++) {
		assert_true(idmap_put(&m, id, &value));
		if (idmap_get(&m, id - 16))
			assert_non_null(idmap_del(&m, id - 16));
	}
	assert_int_equal(m.count, 16);
	assert_int_equal(m.mask, 63);
	assert_null(idmap_get(&m, 0));
	assert_null(idmap_del(&m, 0));
	idmap_free(&m);
}

static void test_printable_characters_end_at_the_first_other_one(void **state)
{
	enum { MOST = 27 };
	uint8_t text[MOST];

	(void)state;
	for (size_t len = 0; len <= MOST; len++)
		for (size_t at = 0; at < len; at++)
			for (unsigned c = 0; c < 256; c++) {
				bool printable = c >= 0x20 && c < 0x7f;
				for (size_t i = 0; i < len; i++)
					text[i] = (uint8_t)(0x20 + (c + i * 29) % 0x5f);
				text[at] = (uint8_t)c;
				assert_int_equal(text_printable(text, len), printable ? len : at);
			}
	assert_int_equal(text_printable(text, 0), 0);
}

/* Every byte value at every place of texts of every length around the steps, with its neighbours on both sides. */
static void test_letters_become_lower_case_and_nothing_else_changes(void **state)
{
	enum { MOST = 27 };
	uint8_t text[MOST + 2], wanted[MOST + 2];

	(void)state;
	for (size_t len = 0; len <= MOST; len++)
		for (unsigned c = 0; c < 256; c++) {
			for (size_t i = 0; i < sizeof text; i++)
				text[i] = (uint8_t)(c + i * 37);
			memcpy(wanted, text, sizeof text);
			for (size_t i = 1; i <= len; i++)
				if (wanted[i] >= 'A' && wanted[i] <= 'Z')
					wanted[i] = (uint8_t)(wanted[i] + 'a' - 'A');
			text_lower(text + 1, len);
			assert_memory_equal(text, wanted, sizeof text);
		}
}

static void test_characters_are_in_the_classes_that_the_grammar_says(void **state)
{
	static const char alnum[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

	(void)state;
	for (unsigned c = 0; c < 256; c++) {
		bool word = c && strchr(alnum, (int)c), token = word || (c && strchr("!#$%&'*+-.^_`|~", (int)c));
		bool host = word || (c && strchr("-._~!$&'()*+,;=", (int)c)), target = c > 0x20 && c < 0x7f && c != '#';
		unsigned classes = (token ? CHAR_TOKEN : 0) | (host ? CHAR_HOST : 0) | (target ? CHAR_TARGET : 0);
		assert_int_equal(text_classes[c], classes);
	}
}

/* ---- sm ---- */

static void test_sm_moves_and_names_states(void **state)
{
	static const char *const names[] = {"a", "b", "c"};
	static const uint32_t next[] = {SM_BIT(1), SM_BIT(2) | SM_BIT(0), 0};
	static const struct sm machine = {"abc", names, next};
	uint8_t at = 0;

	(void)state;
	sm_move(&machine, &at, 1);
	sm_move(&machine, &at, 0);
	sm_move(&machine, &at, 1);
	sm_move(&machine, &at, 2);
	assert_string_equal(sm_name(&machine, at), "c");
}

/* ---- log ---- */

static void to_text(void *ctx, enum log_level level, const char *line)
{
	text_add(ctx, "%s: %s\n", log_level_name(level), line);
}

static void test_log_goes_to_its_sink_and_long_lines_are_cut(void **state)
{
	struct text got = {0};
	char line[2000];

	(void)state;
	log_to(to_text, &got);
	log_line(LOG_WARNING, "%d of %s", 3, "four");
	log_line(LOG_DEBUG, "-");
	log_line(LOG_INFO, "-");
	log_line(LOG_ERROR, "-");
	EXPECT_TEXT(&got, "warning: 3 of four\ndebug: -\ninfo: -\nerror: -\n");
	memset(line, 'x', sizeof line - 1);
	line[sizeof line - 1] = 0;
	log_line(LOG_INFO, "%s", line);
	assert_int_equal(strlen(text_str(&got)), strlen("info: \n") + 511);
	log_to(NULL, NULL);
	text_free(&got);
}

/* ---- pace ---- */

enum { RATE = 100, GRACE = 2000000 };

static void test_bytes_buy_time_by_the_rate_and_never_more_than_the_grace(void **state)
{
	struct pace p;

	(void)state;
	pace_start(&p, 1000000, GRACE);
	assert_int_equal(pace_deadline(&p), 3000);
	pace_moved(&p, 1000000, 1000000, RATE, GRACE); /* worth almost three hours */
	assert_int_equal(pace_deadline(&p), 3000);
	pace_moved(&p, 2000000, 50, RATE, GRACE);
	assert_int_equal(pace_deadline(&p), 3500);
	pace_moved(&p, 2000000, 1000, RATE, GRACE);
	assert_int_equal(pace_deadline(&p), 4000);
	pace_moved(&p, 3000000, 0, RATE, GRACE);
	assert_int_equal(pace_deadline(&p), 4000);
	for (unsigned i = 1; i <= 10; i++)
		pace_moved(&p, 3000000 + i * 50000, 1, RATE, GRACE); /* now and then a byte: 20 per second */
	assert_int_equal(pace_deadline(&p), 4100);
	pace_moved(&p, 3500000, 1, 1000000000, GRACE);
	assert_int_equal(pace_deadline(&p), 4100);
	pace_moved(&p, 3500000, UINT64_MAX, 1, GRACE);
	assert_int_equal(pace_deadline(&p), 5500);
}

static void test_without_a_rate_any_byte_is_enough(void **state)
{
	struct pace p;

	(void)state;
	pace_start(&p, 1000000, GRACE);
	pace_moved(&p, 2900000, 1, 0, GRACE);
	assert_int_equal(pace_deadline(&p), 4900);
}

static void test_the_clock_of_a_pace_stops_and_goes_on(void **state)
{
	struct pace p;

	(void)state;
	pace_start(&p, 1000000, GRACE);
	pace_stop(&p, 1500000);
	pace_stop(&p, 1700000); /* it has stopped already */
	assert_true(pace_deadline(&p) == UINT64_MAX);
	pace_moved(&p, 9000000, 100000, RATE, GRACE);
	pace_go(&p, 9000000);
	pace_go(&p, 9100000);
	assert_int_equal(pace_deadline(&p), 11000);
	pace_stop(&p, 10000000);
	pace_go(&p, 20000000);
	assert_int_equal(pace_deadline(&p), 21000); /* it had a second left */
}

/* ---- text ---- */

/* The elements of a list, each followed by a bar. */
static void expect_elements(const char *list, const char *wanted)
{
	struct slice rest = slice_str(list), element;
	struct text got = {0};

	while (text_next(&rest, &element)) {
		text_add_bytes(&got, element.at, element.len);
		text_add(&got, "|");
	}
	EXPECT_TEXT(&got, wanted);
	text_free(&got);
}

static void test_text_is_trimmed_cut_and_listed(void **state)
{
	struct slice rest;
	int64_t number;

	(void)state;
	EXPECT_SLICE(text_trim(SLICE_LIT(" \t a b\t ")), "a b");
	EXPECT_SLICE(text_trim(SLICE_LIT("\t \t")), "");
	EXPECT_SLICE(text_cut(SLICE_LIT("a=b=c"), '=', &rest), "a");
	EXPECT_SLICE(rest, "b=c");
	EXPECT_SLICE(text_cut(SLICE_LIT("a="), '=', &rest), "a");
	assert_non_null(rest.at);
	assert_int_equal(rest.len, 0);
	EXPECT_SLICE(text_cut(SLICE_LIT("a"), '=', &rest), "a");
	assert_null(rest.at);
	expect_elements("close", "close|");
	expect_elements(" a ,\tb,,c , ", "a|b||c||");
	expect_elements("", "|");
	assert_true(text_lists(SLICE_LIT("keep-alive, Upgrade"), SLICE_LIT("upgrade")));
	assert_false(text_lists(SLICE_LIT("keep-alive upgrade"), SLICE_LIT("upgrade")));
	assert_false(text_lists(SLICE_LIT(""), SLICE_LIT("upgrade")));
	assert_true(parse_length(SLICE_LIT("0123"), &number));
	assert_int_equal(number, 123);
	assert_false(parse_length(SLICE_LIT("-1"), &number));
	assert_false(parse_length(SLICE_LIT(""), &number));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes_buy_time_by_the_rate_and_never_more_than_the_grace),
		cmocka_unit_test(test_without_a_rate_any_byte_is_enough),
		cmocka_unit_test(test_the_clock_of_a_pace_stops_and_goes_on),
		cmocka_unit_test(test_pool_gives_again_what_was_given_back_last_and_keeps_no_more_than_its_limit),
		cmocka_unit_test(test_buf_owns_nothing_before_the_first_append),
		cmocka_unit_test(test_buf_gives_back_what_was_appended_in_order),
		cmocka_unit_test(test_buf_moves_before_it_grows),
		cmocka_unit_test(test_bufq_gives_back_what_was_appended_in_order),
		cmocka_unit_test(test_bufq_splits_a_large_append_and_fills_no_more_vectors_than_asked),
		cmocka_unit_test(test_bufq_is_walked_ahead_of_what_is_consumed),
		cmocka_unit_test(test_bufq_moves_what_was_lent_without_copying),
		cmocka_unit_test(test_shared_bytes_keep_all_slots_that_they_reach_into),
		cmocka_unit_test(test_bufq_reserve_without_use_leaves_nothing_to_write),
		cmocka_unit_test(test_bufq_holds_parts_of_files_and_charges_a_little_for_each),
		cmocka_unit_test(test_a_view_keeps_its_file_open),
		cmocka_unit_test(test_bufq_loads_a_file_where_it_stands),
		cmocka_unit_test(test_bufq_is_walked_as_far_as_files_are_in_memory),
		cmocka_unit_test(test_bufq_owns_what_is_lent_around_a_file),
		cmocka_unit_test(test_bufq_lets_go_of_the_files_in_it),
		cmocka_unit_test(test_list_keeps_order_through_removal_pop_and_splice),
		cmocka_unit_test(test_idmap_agrees_with_a_naive_model),
		cmocka_unit_test(test_idmap_closes_holes_across_the_end_of_the_table),
		cmocka_unit_test(test_idmap_holds_ids_of_a_long_life_in_a_small_table),
		cmocka_unit_test(test_idmap_walk_leaves_nothing_out),
		cmocka_unit_test(test_text_is_trimmed_cut_and_listed),
		cmocka_unit_test(test_printable_characters_end_at_the_first_other_one),
		cmocka_unit_test(test_letters_become_lower_case_and_nothing_else_changes),
		cmocka_unit_test(test_characters_are_in_the_classes_that_the_grammar_says),
		cmocka_unit_test(test_sm_moves_and_names_states),
		cmocka_unit_test(test_log_goes_to_its_sink_and_long_lines_are_cut),
	};

	return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
