/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A host that only answers: batch_host PROGRAM PORT starts the port and gives every request the same short
 * answer. All requests of one frame are answered in one frame, with the demand for as many. See PROTOCOL.md.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DEMAND = 1, RESPOND = 4, READY = 64, REQUEST = 65, ERROR = 72, FIRST_DEMAND = 4096, FRAME = 1 << 17 };

static unsigned char in[FRAME];
static unsigned char out[1 << 20];
static size_t used;

static void fail(const char *what) {
    fprintf(stderr, "batch_host: %s\n", what);
    exit(1);
}

/* ── writing ── */

static void byte(unsigned value) { out[used++] = (unsigned char)value; }

static void big_endian(uint64_t value, int bytes) {
    while (bytes > 0) byte((unsigned)(value >> (8 * --bytes)) & 0xFF);
}

static void number(uint64_t value) {
    byte(0xCF);
    big_endian(value, 8);
}

static void text(const char *value) {
    size_t size = strlen(value);
    byte(0xD9);
    byte((unsigned)size);
    memcpy(out + used, value, size);
    used += size;
}

static void send_frame(int fd) {
    size_t payload = used - 4, sent = 0;
    used = 0;
    big_endian(payload, 4);
    payload += 4;
    while (sent < payload) {
        ssize_t written = write(fd, out + sent, payload - sent);
        if (written <= 0) exit(0);
        sent += (size_t)written;
    }
    used = 4;
}

static void hello(int port) {
    byte(0x93), byte(0), byte(1);
    byte(0x81), text("listeners");
    byte(0x91), byte(0x83);
    text("address"), text("127.0.0.1");
    text("port"), number((uint64_t)port);
    text("backlog"), number(4096);
}

static void demand(uint64_t count) { byte(0x92), byte(DEMAND), number(count); }

static void respond(uint64_t stream) {
    byte(0x95), byte(RESPOND), number(stream), byte(0xCC), byte(200);
    byte(0x92), text("content-type"), text("text/plain; charset=utf-8");
    text("Hello, world!\n");
}

/* ── reading ── */

static uint64_t integer(const unsigned char *at, int bytes) {
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++) value = value << 8 | at[i];
    return value;
}

/* The byte after a msgpack value; for an unsigned integer also its value. */
static const unsigned char *skip(const unsigned char *at, const unsigned char *end, uint64_t *value) {
    if (at >= end) fail("a message is truncated");
    unsigned type = *at++;
    uint64_t items = 0, bytes = 0;
    if (type < 0x80) *value = type;
    else if (type < 0x90) items = 2 * (type & 15);
    else if (type < 0xA0) items = type & 15;
    else if (type < 0xC0) bytes = type & 31;
    else if (type >= 0xC4 && type <= 0xC6) bytes = integer(at, 1 << (type - 0xC4)), at += 1 << (type - 0xC4);
    else if (type >= 0xCC && type <= 0xCF) *value = integer(at, 1 << (type - 0xCC)), bytes = 1 << (type - 0xCC);
    else if (type >= 0xD0 && type <= 0xD3) bytes = 1 << (type - 0xD0);
    else if (type >= 0xD9 && type <= 0xDB) bytes = integer(at, 1 << (type - 0xD9)), at += 1 << (type - 0xD9);
    else if (type == 0xDC || type == 0xDD) items = integer(at, 2 << (type - 0xDC)), at += 2 << (type - 0xDC);
    else if (type == 0xDE || type == 0xDF) items = 2 * integer(at, 2 << (type - 0xDE)), at += 2 << (type - 0xDE);
    uint64_t ignored;
    for (at += bytes; items > 0; items--) at = skip(at, end, &ignored);
    return at;
}

static void answer(const unsigned char *at, const unsigned char *end, int fd) {
    uint64_t requests = 0;
    while (at < end) {
        uint64_t kind = 0, stream = 0;
        const unsigned char *kind_end = skip(at + 1, end, &kind);
        if (kind == REQUEST) {
            skip(kind_end, end, &stream);
            respond(stream);
            requests++;
        } else if (kind == READY) {
            requests += FIRST_DEMAND;
        } else if (kind == ERROR) {
            fail("the port sent ERROR");
        }
        at = skip(at, end, &stream);
    }
    if (requests > 0) {
        demand(requests);
        send_frame(fd);
    }
}

static void loop(int from, int to) {
    size_t have = 0;
    for (;;) {
        ssize_t got = read(from, in + have, sizeof in - have);
        if (got <= 0) exit(0);
        have += (size_t)got;
        size_t at = 0;
        while (have - at >= 4) {
            size_t size = integer(in + at, 4);
            if (size > 65532) fail("a frame is too long");
            if (have - at - 4 < size) break;
            answer(in + at + 4, in + at + 4 + size, to);
            at += 4 + size;
        }
        memmove(in, in + at, have - at);
        have -= at;
    }
}

int main(int count, char **words) {
    int to[2], from[2];
    if (count != 3) fail("usage: batch_host PROGRAM PORT");
    if (pipe2(to, 0) || pipe2(from, 0)) fail("no pipe");
    signal(SIGPIPE, SIG_IGN);
    pid_t child = fork();
    if (child < 0) fail("no process");
    if (child == 0) {
        signal(SIGPIPE, SIG_DFL);
        dup2(to[0], 0), dup2(from[1], 1);
        close(to[0]), close(to[1]), close(from[0]), close(from[1]);
        execl(words[1], words[1], (char *)NULL);
        fail("the port does not start");
    }
    close(to[0]), close(from[1]);
    used = 4;
    hello(atoi(words[2]));
    send_frame(to[1]);
    loop(from[0], to[1]);
}
