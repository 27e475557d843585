/* Little address space: requests fail with a null pointer, and what was there stays usable. */
#include "check.h"
#include <sys/resource.h>

int main(int count, char **arguments)
{
    CHECK(count == 2);
    struct rlimit limit = { strtoul(arguments[1], NULL, 10) << 20, RLIM_INFINITY };
    if (limit.rlim_cur != 0)
        CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
    struct chunk {
        struct chunk *next;
        char bytes[];
    } *all = NULL, *next;
    size_t total = 0;
    for (size_t size = 1 << 20; size >= 64; size /= 4) {
        struct chunk *chunk;
        errno = 0;
        while (total < (size_t)1 << 30 && (chunk = malloc(size)) != NULL) {
            memset(chunk->bytes, 3, size - sizeof *chunk);
            chunk->next = all;
            all = chunk;
            total += size;
        }
        CHECK(errno == ENOMEM || limit.rlim_cur == 0);
    }
    CHECK(limit.rlim_cur == 0 || malloc(64 << 20) == NULL);
    for (; all != NULL; all = next) {
        next = all->next;
        free(all);
    }
    void *again = malloc(1 << 20);
    CHECK(again != NULL);
    free(again);
    printf("%zu\n", total >> 20);
    return 0;
}
