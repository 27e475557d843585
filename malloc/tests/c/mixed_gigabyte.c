#define _GNU_SOURCE
/* Allocates a gigabyte of mixed blocks, frees it, and waits: the memory must go back to the system
 * within a second. */
#include "statm.h"
#include <time.h>
#include <unistd.h>

int main(void)
{
    const size_t wanted = (size_t)1 << 30;
    struct chunk {
        struct chunk *next;
    } *all = NULL, *next;
    size_t total = 0;
    uint64_t random = 88172645463325252u;
    while (total < wanted) {
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        size_t size = sizeof(struct chunk) + random % 2048;
        if (random >> 60 == 0)
            size = 100000 + (random >> 20) % 3000000;
        struct chunk *chunk = malloc(size);
        CHECK(chunk != NULL);
        memset(chunk, 1, size);
        chunk->next = all;
        all = chunk;
        total += size;
    }
    long peak = statm().resident_kib;
    for (; all != NULL; all = next) {
        next = all->next;
        free(all);
    }
    /* The program goes on with something else: a little work, mostly waiting. */
    for (int i = 0; i < 10; i++) {
        free(malloc(100));
        usleep(90000);
    }
    long rest = statm().resident_kib;
    printf("%ld %ld\n", peak, rest);
    CHECK(peak > 1 << 20);
    CHECK(rest * 20 <= peak);
    return 0;
}
