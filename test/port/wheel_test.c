/* SPDX-License-Identifier: Apache-2.0 */
#include "base/wheel.h"
#include "support.h"

enum { HORIZON = WHEEL_SLOT * WHEEL_SLOTS, NODES = 200 };

struct alarm {
	struct wheel_node node;
	uint64_t wanted; /* deadline */
	uint64_t fired;  /* when; 0: not yet */
	unsigned times;
};

static struct wheel wheel;
static uint64_t clock_now;
static struct alarm alarms[NODES];

static void on_fire(struct wheel_node *node)
{
	struct alarm *a = container_of(node, struct alarm, node);

	assert_false(wheel_pending(node));
	a->fired = clock_now;
	a->times++;
}

static void start(uint64_t now)
{
	clock_now = now;
	wheel_init(&wheel, now);
	memset(alarms, 0, sizeof alarms);
	for (unsigned i = 0; i < NODES; i++)
		wheel_node_init(&alarms[i].node, on_fire);
}

static void go_to(uint64_t now)
{
	clock_now = now;
	wheel_fire(&wheel, now);
}

static void set(struct alarm *a, uint64_t deadline)
{
	a->wanted = deadline;
	a->fired = 0;
	wheel_set(&wheel, &a->node, deadline);
}

static void test_a_deadline_is_never_early_and_at_most_a_slot_late(void **state)
{
	(void)state;
	for (uint64_t base = 0; base < 3 * WHEEL_SLOT; base += 7)
		for (uint64_t after = 0; after < 3 * WHEEL_SLOT; after++) {
			start(base);
			set(&alarms[0], base + after);
			for (uint64_t t = base; t <= base + after + WHEEL_SLOT; t++)
				go_to(t);
			assert_int_equal(alarms[0].times, 1);
			assert_true(alarms[0].fired >= base + after);
			assert_true(alarms[0].fired <= base + after + WHEEL_SLOT);
		}
}

static void test_a_deadline_beyond_the_horizon_waits_for_its_round(void **state)
{
	(void)state;
	start(1000);
	set(&alarms[0], 1000 + 3 * (uint64_t)HORIZON + 5);
	set(&alarms[1], 1000 + 5);
	go_to(1000 + WHEEL_SLOT * 2);
	assert_int_equal(alarms[0].times, 0);
	assert_int_equal(alarms[1].times, 1);
	go_to(1000 + 3 * (uint64_t)HORIZON);
	assert_int_equal(alarms[0].times, 0);
	go_to(1000 + 3 * (uint64_t)HORIZON + 5 + WHEEL_SLOT);
	assert_int_equal(alarms[0].times, 1);
	assert_int_equal(wheel.count, 0);
}

static void test_one_long_step_fires_all_rounds(void **state)
{
	(void)state;
	start(0);
	for (unsigned i = 0; i < NODES; i++)
		set(&alarms[i], i * 1000);
	go_to((uint64_t)NODES * 1000 + WHEEL_SLOT);
	for (unsigned i = 0; i < NODES; i++)
		assert_int_equal(alarms[i].times, 1);
}

static void test_random_sets_moves_and_cancels_agree_with_the_promise(void **state)
{
	uint32_t seed = 5;

	(void)state;
	start(12345);
	for (unsigned step = 0; step < 20000; step++) {
		struct alarm *a = &alarms[random_below(&seed, NODES)];
		uint64_t next;
		if (random_below(&seed, 4) == 0) {
			wheel_cancel(&wheel, &a->node);
			assert_false(wheel_pending(&a->node));
		} else {
			set(a, clock_now + random_below(&seed, random_below(&seed, 10) ? 2000 : 4 * HORIZON));
		}
		go_to(clock_now + random_below(&seed, 20));
		next = wheel_next(&wheel);
		for (unsigned i = 0; i < NODES; i++) {
			const struct alarm *x = &alarms[i];
			if (wheel_pending(&x->node)) {
				assert_true(clock_now < x->wanted + WHEEL_SLOT);
				assert_true(next <= x->wanted + WHEEL_SLOT);
			} else if (x->fired) {
				assert_true(x->fired >= x->wanted);
			}
		}
	}
}

static void test_next_is_never_when_nothing_is_set_and_leads_to_the_fire(void **state)
{
	unsigned steps = 0;

	(void)state;
	start(77);
	assert_true(wheel_next(&wheel) == UINT64_MAX);
	set(&alarms[0], 77 + 5 * (uint64_t)HORIZON / 2);
	while (alarms[0].times == 0 && steps++ < 10) {
		uint64_t next = wheel_next(&wheel);
		assert_true(next > clock_now);
		go_to(next);
	}
	assert_int_equal(alarms[0].times, 1);
	assert_true(wheel_next(&wheel) == UINT64_MAX);
	set(&alarms[0], clock_now);
	wheel_cancel(&wheel, &alarms[0].node);
	assert_true(wheel_next(&wheel) == UINT64_MAX);
}

static void set_again(struct wheel_node *node)
{
	struct alarm *a = container_of(node, struct alarm, node);

	a->times++;
	assert_true(a->times < 1000);
	wheel_set(&wheel, node, 0); /* long over */
}

static void test_what_is_set_in_fire_for_a_time_that_is_over_fires_at_the_next_call(void **state)
{
	(void)state;
	start(0);
	wheel_node_init(&alarms[0].node, set_again);
	set(&alarms[0], 10);
	go_to(WHEEL_SLOT);
	assert_int_equal(alarms[0].times, 1);
	go_to(WHEEL_SLOT + 1);
	go_to(2 * WHEEL_SLOT);
	assert_int_equal(alarms[0].times, 2);
}

static void cancel_the_next(struct wheel_node *node)
{
	struct alarm *a = container_of(node, struct alarm, node);

	a->times++;
	wheel_cancel(&wheel, &a[1].node);
	set(&a[2], clock_now + 100);
}

static void test_a_fire_may_cancel_and_move_others_that_are_due_with_it(void **state)
{
	(void)state;
	start(0);
	wheel_node_init(&alarms[0].node, cancel_the_next);
	for (unsigned i = 0; i < 4; i++)
		set(&alarms[i], 5);
	go_to(WHEEL_SLOT);
	assert_int_equal(alarms[0].times, 1);
	assert_int_equal(alarms[1].times, 0);
	assert_int_equal(alarms[2].times, 0);
	assert_int_equal(alarms[3].times, 1);
	assert_int_equal(wheel.count, 1);
	go_to(WHEEL_SLOT + 100 + WHEEL_SLOT);
	assert_int_equal(alarms[1].times, 0);
	assert_int_equal(alarms[2].times, 1);
	assert_int_equal(wheel.count, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_deadline_is_never_early_and_at_most_a_slot_late),
		cmocka_unit_test(test_a_deadline_beyond_the_horizon_waits_for_its_round),
		cmocka_unit_test(test_one_long_step_fires_all_rounds),
		cmocka_unit_test(test_random_sets_moves_and_cancels_agree_with_the_promise),
		cmocka_unit_test(test_next_is_never_when_nothing_is_set_and_leads_to_the_fire),
		cmocka_unit_test(test_what_is_set_in_fire_for_a_time_that_is_over_fires_at_the_next_call),
		cmocka_unit_test(test_a_fire_may_cancel_and_move_others_that_are_due_with_it),
	};

	return cmocka_run_group_tests_name("wheel", tests, NULL, NULL);
}
