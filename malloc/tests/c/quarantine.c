/* Frees with a quarantine, for a while without memory for what is to be known of it, and allocates
 * again: each block is one user's alone. */
#include "check.h"
#include <sys/resource.h>

enum { SMALL = 6000, LARGE = 3000, MINE = 200 };

static void *small[SMALL], *large[LARGE];
static unsigned char *mine[MINE];

int main(void)
{
    for (int i = 0; i < SMALL; i++)
        CHECK((small[i] = malloc(16)) != NULL);
    /* The table and the queue are full at different times then. */
    for (int i = 0; i < LARGE; i++)
        CHECK((large[i] = malloc(1000)) != NULL);
    for (int i = 0; i < LARGE; i++)
        free(large[i]);
    struct rlimit before, none;
    CHECK(getrlimit(RLIMIT_AS, &before) == 0);
    none = before;
    none.rlim_cur = 1 << 20;
    /* Every other: where tables are full is not known here. */
    for (int i = 0; i < SMALL; i++) {
        CHECK(setrlimit(RLIMIT_AS, i % 2 == 0 ? &none : &before) == 0);
        free(small[i]);
    }
    CHECK(setrlimit(RLIMIT_AS, &before) == 0);
    for (int i = 0; i < MINE; i++) {
        CHECK((mine[i] = malloc(16)) != NULL);
        /* What blocks in quarantine are filled with. */
        memset(mine[i], 0xdf, 16);
    }
    for (int i = 0; i < LARGE; i++)
        free(malloc(1000));
    for (int i = 0; i < 2 * SMALL; i++) {
        unsigned char *other = malloc(16);
        for (int j = 0; j < MINE; j++)
            CHECK(other != mine[j]);
        memset(other, 0xee, 16);
    }
    puts("ok");
    return 0;
}
