/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages over WebSockets: websocket PORT CONNECTIONS SECONDS [broadcast]. Each connection sends a masked binary message of
 * 32 bytes, waits until the same bytes have come back, and sends the next; with `broadcast` only the first one sends, and it
 * sends the next message when all have received it. Prints a line like wrk.lua's: the rate, and percentiles in ms. A connection
 * that ends, or receives anything else, is an error, and is not reopened.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PAYLOAD = 32, SENT = 6 + PAYLOAD, ECHOED = 2 + PAYLOAD, SLOTS = 1000000 };

struct connection {
    int fd;
    unsigned got;
    uint32_t number;
    double started;
    unsigned char payload[PAYLOAD];
    unsigned char answer[ECHOED];
};

static uint32_t *times; /* latency of each echo, in µs */
static size_t echoes, room;
static unsigned errors;
static struct connection *speaker; /* the sender of broadcasts */
static int listeners, heard;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void handshake(int fd, const char *path) {
    char request[256], head[2048];
    size_t size = 0;
    int length = snprintf(request, sizeof request,
                          "GET %s HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                          "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
                          path);
    if (write(fd, request, (size_t)length) != length) fail("handshake");
    do {
        ssize_t got = read(fd, head + size, sizeof head - 1 - size);
        if (got <= 0) fail("handshake");
        head[size += (size_t)got] = 0;
    } while (size < sizeof head - 1 && !strstr(head, "\r\n\r\n"));
    if (strncmp(head, "HTTP/1.1 101 ", 13) != 0 || !strcasestr(head, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")) {
        fprintf(stderr, "not a WebSocket: %s\n", head);
        exit(1);
    }
}

static void next(struct connection *connection) {
    static uint32_t seed = 1;
    unsigned char frame[SENT] = {0x82, 0x80 | PAYLOAD};
    seed = seed * 1664525 + 1013904223;
    memcpy(frame + 2, &seed, 4);
    connection->number++;
    memcpy(connection->payload, &connection->number, 4);
    for (int i = 0; i < PAYLOAD; i++) frame[6 + i] = connection->payload[i] ^ frame[2 + i % 4];
    connection->got = 0;
    connection->started = now();
    if (write(connection->fd, frame, SENT) != SENT) errors++;
}

/* It has received its complete message. */
static void go_on(struct connection *connection) {
    connection->got = 0;
    if (!speaker)
        next(connection);
    else if (++heard == listeners) {
        heard = 0;
        next(speaker);
    }
}

static void came(struct connection *connection, int epoll) {
    const struct connection *from = speaker ? speaker : connection;
    ssize_t got = read(connection->fd, connection->answer + connection->got, ECHOED - connection->got);
    if (got > 0) {
        connection->got += (unsigned)got;
        if (connection->got < ECHOED) return;
        if (connection->answer[0] == 0x82 && connection->answer[1] == PAYLOAD &&
            memcmp(connection->answer + 2, from->payload, PAYLOAD) == 0) {
            if (echoes == room && !(times = realloc(times, (room += SLOTS) * sizeof *times))) fail("memory");
            times[echoes++] = (uint32_t)((now() - from->started) * 1e6);
            go_on(connection);
            return;
        }
    }
    errors++;
    epoll_ctl(epoll, EPOLL_CTL_DEL, connection->fd, NULL);
    close(connection->fd);
}

static int compare(const void *a, const void *b) {
    uint32_t one = *(const uint32_t *)a, other = *(const uint32_t *)b;
    return (one > other) - (one < other);
}

static double percentile(double share) { return echoes ? times[(size_t)((double)(echoes - 1) * share)] / 1000.0 : 0; }

int main(int count, char **words) {
    if (count < 4) {
        fprintf(stderr, "usage: websocket PORT CONNECTIONS SECONDS [broadcast]\n");
        return 1;
    }
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(words[1]))};
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    int connections = atoi(words[2]), epoll = epoll_create1(0), on = 1;
    struct connection *all = calloc((size_t)connections, sizeof *all);
    if (!all) fail("memory");
    for (int i = 0; i < connections; i++) {
        all[i].fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(all[i].fd, (struct sockaddr *)&address, sizeof address)) fail("connect");
        setsockopt(all[i].fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        handshake(all[i].fd, count > 4 ? "/broadcast" : "/websocket");
        for (int j = 0; j < PAYLOAD; j++) all[i].payload[j] = (unsigned char)(i + j);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &all[i]};
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, all[i].fd, &event)) fail("epoll");
    }
    if (count > 4) {
        speaker = all, listeners = connections;
        sleep(1); /* a server may answer before the last ones are listening */
    }
    double started = now(), until = started + atof(words[3]);
    for (int i = 0; i < (speaker ? 1 : connections); i++) next(&all[i]);
    while (now() < until) {
        struct epoll_event events[256];
        int ready = epoll_wait(epoll, events, 256, 100);
        for (int i = 0; i < ready; i++) came(events[i].data.ptr, epoll);
    }
    double seconds = now() - started;
    if (echoes) qsort(times, echoes, sizeof *times, compare);
    printf("result {\"rate\": %.1f, \"p50\": %.3f, \"p99\": %.3f, \"p999\": %.3f, \"requests\": %zu, \"errors\": %u}\n",
           (double)echoes / seconds, percentile(0.5), percentile(0.99), percentile(0.999), echoes, errors);
    return 0;
}
