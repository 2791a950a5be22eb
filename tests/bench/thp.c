/* SPDX-License-Identifier: GPL-3.0-or-later
 * What huge pages are worth to a process that asks for them, and what it loses under "never".
 *
 *     cc -O2 -o build/thp tests/bench/thp.c && build/thp
 *
 * A random walk over 1 GiB, in which every step waits for the one before it: first with small pages
 * (PR_SET_THP_DISABLE, which is "never" for one process), then with madvise(MADV_HUGEPAGE). Changes nothing outside
 * of itself. Needs a kernel that is not set to "never".
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>

#define SIZE (1UL << 30)
#define ALIGNMENT (2UL << 20)
#define STEPS 20000000UL

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void walk(int huge)
{
    size_t count = SIZE / sizeof(uint64_t);
    char *room = mmap(NULL, SIZE + ALIGNMENT, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED || prctl(PR_SET_THP_DISABLE, !huge, 0, 0, 0)) {
        perror("thp");
        exit(1);
    }
    uint64_t *next = (uint64_t *)(((uintptr_t)room + ALIGNMENT - 1) & ~(ALIGNMENT - 1));
    if (huge && madvise(next, SIZE, MADV_HUGEPAGE)) {
        perror("madvise");
        exit(1);
    }
    double begin = now();
    for (size_t i = 0; i < SIZE; i += 4096)
        ((volatile char *)next)[i] = 1;
    double touched = now();
    /* A full period: the multiplier is 1 mod 4, the increment odd, the modulus a power of two. */
    uint64_t at = 1, sum = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t to = (at * 6364136223846793005ULL + 1442695040888963407ULL) & (count - 1);
        next[at] = to;
        at = to;
    }
    double filled = now();
    for (size_t i = 0; i < STEPS; i++) {
        at = next[at];
        sum += at;
    }
    double end = now();
    printf("%s pages: first touch of 1 GiB %.2f s, %.1f ns a step (%llu)\n", huge ? "huge" : "small", touched - begin,
           (end - filled) / STEPS * 1e9, (unsigned long long)sum);
    munmap(room, SIZE + ALIGNMENT);
}

int main(void)
{
    walk(0);
    walk(1);
    walk(0);
    walk(1);
    return 0;
}
