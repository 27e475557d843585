#define _GNU_SOURCE
/* Little that may be written to: the allocator's own books must not take it all. */
#include "check.h"
#include <sys/resource.h>
#include <unistd.h>

int main(int count, char **arguments)
{
    if (count == 2) {
        struct rlimit limit = { strtoul(arguments[1], NULL, 10) << 20, RLIM_INFINITY };
        CHECK(setrlimit(RLIMIT_DATA, &limit) == 0);
        execl("/proc/self/exe", arguments[0], (char *)NULL);
        return 1;
    }
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_DATA, &limit) == 0);
    size_t total = 0;
    for (void *block; total < limit.rlim_cur / 2; total += 100000) {
        CHECK((block = malloc(100000)) != NULL);
        memset(block, 1, 100000);
    }
    puts("ok");
    return 0;
}
