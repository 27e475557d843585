/* A program that locks all that it has and will have gets memory as before, and not the addresses
 * that are only reserved. Prints "ok", or "refused" where it may not lock anything. */
#include <sys/mman.h>

#include "check.h"
#include "statm.h"

enum { BLOCKS = 1000, BYTES = 50000 };

static char *blocks[BLOCKS];

int main(void)
{
    free(malloc(100));
    if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0) {
        CHECK(errno == ENOMEM || errno == EPERM);
        puts("refused");
        return 0;
    }
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < BLOCKS; i++) {
            CHECK((blocks[i] = malloc(BYTES)) != NULL);
            memset(blocks[i], i, BYTES);
        }
        for (int i = 0; i < BLOCKS; i++) {
            CHECK(blocks[i][0] == (char)i && blocks[i][BYTES - 1] == (char)i);
            free(blocks[i]);
        }
        CHECK(statm().resident_kib < 400 << 10);
    }
    puts("ok");
    return 0;
}
