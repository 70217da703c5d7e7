/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sends requests at given times: paced PORT CONNECTIONS RATE SECONDS. Requests fall due at random (a Poisson process of RATE a
 * second), whether or not earlier ones were answered. Each goes out on a free connection, or waits for one; its time counts from
 * when it was due, so a server that stalls is charged for all requests that became due meanwhile. RATE 0: each connection sends the
 * next request at once. Prints a line like wrk.lua's. Errors: connections that ended, wrong answers, and requests without an answer
 * a second after the end.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <math.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 16384, EVENTS = 256 };

struct connection {
    int fd;
    size_t got;
    double due;
    char answer[1024];
};

static const char request[] = "GET / HTTP/1.1\r\nHost: bench\r\n\r\n";
static const char last[] = "Hello, world!\n";

static struct connection *ready[MOST]; /* connections without a request */
static size_t readies;
static double *waiting; /* due times of the requests that wait for a connection, in a ring */
static size_t first, waits, ring;
static uint32_t *times; /* latency of each answer, in µs */
static size_t answers, room, in_time;
static unsigned errors, working;
static int epoll;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void give_up(struct connection *connection) {
    errors++;
    epoll_ctl(epoll, EPOLL_CTL_DEL, connection->fd, NULL);
    close(connection->fd);
}

static void ask(struct connection *connection, double due) {
    connection->due = due;
    connection->got = 0;
    working++;
    if (write(connection->fd, request, sizeof request - 1) != (ssize_t)(sizeof request - 1)) {
        working--;
        give_up(connection);
    }
}

static void fall_due(double due) {
    if (readies > 0) {
        ask(ready[--readies], due);
    } else {
        if (waits == ring) fail("too many requests wait");
        waiting[(first + waits++) % ring] = due;
    }
}

static void is_free(struct connection *connection) {
    if (waits > 0) {
        double due = waiting[first];
        first = (first + 1) % ring;
        waits--;
        ask(connection, due);
    } else {
        ready[readies++] = connection;
    }
}

/* Whether the connection is free again. */
static int came(struct connection *connection, double until) {
    char *answer = connection->answer;
    ssize_t got = read(connection->fd, answer + connection->got, sizeof connection->answer - 1 - connection->got);
    if (got > 0) {
        connection->got += (size_t)got;
        answer[connection->got] = 0;
        size_t end = sizeof last - 1;
        if (connection->got < end || strcmp(answer + connection->got - end, last) != 0) return 0;
        working--;
        if (strncmp(answer, "HTTP/1.1 200 ", 13) != 0) {
            errors++;
            return 1;
        }
        double time = now();
        if (answers == room && !(times = realloc(times, (room += 1000000) * sizeof *times))) fail("memory");
        times[answers++] = (uint32_t)((time - connection->due) * 1e6);
        if (time <= until) in_time++;
        return 1;
    }
    working--;
    give_up(connection);
    return 0;
}

static int compare(const void *a, const void *b) {
    uint32_t one = *(const uint32_t *)a, other = *(const uint32_t *)b;
    return (one > other) - (one < other);
}

static double percentile(double share) { return answers ? times[(size_t)((double)(answers - 1) * share)] / 1000.0 : 0; }

int main(int count, char **words) {
    if (count != 5 || atoi(words[2]) > MOST) {
        fprintf(stderr, "usage: paced PORT CONNECTIONS RATE SECONDS\n");
        return 1;
    }
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(words[1]))};
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    int connections = atoi(words[2]), on = 1;
    double rate = atof(words[3]), seconds = atof(words[4]);
    epoll = epoll_create1(0);
    ring = (size_t)(2 * rate * seconds) + 1000;
    struct connection *all = calloc((size_t)connections, sizeof *all);
    waiting = calloc(ring, sizeof *waiting);
    if (!all || !waiting) fail("memory");
    for (int i = 0; i < connections; i++) {
        all[i].fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(all[i].fd, (struct sockaddr *)&address, sizeof address)) fail("connect");
        setsockopt(all[i].fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &all[i]};
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, all[i].fd, &event)) fail("epoll");
        ready[readies++] = &all[i];
    }
    srand48(1);
    double started = now(), until = started + seconds, next = started;
    if (rate == 0) {
        next = until;
        while (readies > 0) ask(ready[--readies], started);
    }
    for (;;) {
        double time = now();
        for (; next <= time && next < until; next += -log(1 - drand48()) / rate) fall_due(next);
        if (time >= until + 1 || (time >= until && working == 0)) break;
        double wake = next < until ? next : time < until ? until : until + 1;
        double pause = wake > time ? wake - time : 0;
        struct timespec timeout = {(time_t)pause, (long)((pause - floor(pause)) * 1e9)};
        struct epoll_event events[EVENTS];
        int ready_now = epoll_pwait2(epoll, events, EVENTS, &timeout, NULL);
        for (int i = 0; i < ready_now; i++) {
            struct connection *connection = events[i].data.ptr;
            if (!came(connection, until)) continue;
            if (rate > 0) is_free(connection);
            else if (now() < until) ask(connection, now());
        }
    }
    errors += working + (unsigned)waits;
    if (answers) qsort(times, answers, sizeof *times, compare);
    printf("result {\"rate\": %.1f, \"p50\": %.3f, \"p99\": %.3f, \"p999\": %.3f, \"requests\": %zu, \"errors\": %u}\n",
           (double)in_time / seconds, percentile(0.5), percentile(0.99), percentile(0.999), answers, errors);
    return 0;
}
