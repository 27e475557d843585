/* Nobody is told which file a descriptor refers to, as in a sandbox: what the allocator opened
 * for itself, closed where a program is replaced, it then closes again. */
#include <fcntl.h>
#include <sys/stat.h>

#include "check.h"

int fstat(int descriptor, struct stat *found)
{
    (void)descriptor, (void)found;
    errno = EPERM;
    return -1;
}

int main(void)
{
    free(malloc(100));
    for (int descriptor = 3; descriptor < 1100; descriptor++) {
        int flags = fcntl(descriptor, F_GETFD);
        CHECK(flags < 0 || (flags & FD_CLOEXEC) == 0);
    }
    puts("ok");
    return 0;
}
