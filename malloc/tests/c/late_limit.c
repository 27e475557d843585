/*
 * A program that limits itself to less than it has: the limit named, of 0 for addresses and 1 for
 * data. Blocks that could move by pages then grow by copying, or not at all.
 */
#include "check.h"
#include <sys/resource.h>

int main(int count, char **arguments)
{
    CHECK(count == 2);
    size_t size = 1 << 20;
    char *block = malloc(size), *behind = malloc(size);
    CHECK(block != NULL && behind != NULL);
    memset(block, 7, size);
    memset(behind, 8, size);
    struct rlimit limit = { 1 << 20, 1 << 20 };
    CHECK(setrlimit(atoi(arguments[1]) == 0 ? RLIMIT_AS : RLIMIT_DATA, &limit) == 0);
    for (int i = 0; i < 4; i++) {
        char *larger = realloc(block, 2 * size);
        if (larger == NULL)
            break;
        block = larger;
        for (size_t byte = 0; byte < size; byte++)
            CHECK(block[byte] == 7);
        memset(block, 7, size *= 2);
    }
    CHECK(behind[0] == 8 && behind[(1 << 20) - 1] == 8);
    free(block);
    free(behind);
    puts("ok");
    return 0;
}
