#define _GNU_SOURCE
/*
 * Allocates a gigabyte of blocks of between the given numbers of bytes, frees them in no order, and
 * waits. Prints the KiB that were resident at the most, and that are in the end.
 */
#include "statm.h"
#include <unistd.h>

static uint64_t state = 88172645463325252u;

static uint64_t next_random(void)
{
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state;
}

int main(int count, char **arguments)
{
    CHECK(count == 3);
    size_t least = strtoul(arguments[1], NULL, 10), most = strtoul(arguments[2], NULL, 10);
    const size_t wanted = (size_t)1 << 30;
    size_t places = wanted / least + 1, blocks = 0, total = 0;
    char **all = malloc(places * sizeof *all);
    CHECK(all != NULL);
    memset(all, 1, places * sizeof *all);
    long before = statm().resident_kib;
    while (total < wanted) {
        size_t size = least + next_random() % (most - least);
        all[blocks] = malloc(size);
        CHECK(all[blocks] != NULL);
        memset(all[blocks++], 1, size);
        total += size;
    }
    long peak = statm().resident_kib - before;
    for (size_t left = blocks; left > 0; left--) {
        size_t chosen = next_random() % left;
        free(all[chosen]);
        all[chosen] = all[left - 1];
    }
    usleep(900000);
    printf("%ld %ld\n", peak, statm().resident_kib - before);
    return 0;
}
