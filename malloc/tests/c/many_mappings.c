/* Blocks grow while the process has about as many mappings as it may have: their contents stay,
 * whatever the system refuses. */
#include <string.h>
#include <sys/mman.h>

#include "check.h"

enum { PAGE = 4096, STEP = 350000, GROWTHS = 20, KEPT = 400000 };

/* Has the process have as many mappings as it may, less about twice `spare`; where the system
   allows so many, with this long a range they cannot be had. */
static void use_mappings_up(int spare)
{
    enum { PAIRS = 70000 };
    char *pages = mmap(NULL, 2L * PAIRS * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(pages != MAP_FAILED);
    long pair = 0;
    while (pair < PAIRS && mprotect(pages + 2 * pair * PAGE, PAGE, PROT_NONE) == 0)
        pair++;
    for (int i = 0; i < spare; i++)
        CHECK(mprotect(pages + 2L * i * PAGE, PAGE, PROT_READ) == 0);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    size_t size = KEPT;
    char *block = malloc(size), *behind = malloc(300000);
    CHECK(block && behind);
    memset(block, 7, size);
    memset(behind, 1, 300000);
    use_mappings_up(atoi(argv[1]));
    for (int i = 0; i < GROWTHS; i++) {
        char *grown = realloc(block, size + STEP);
        if (grown == NULL)
            break;
        for (size_t at = 0; at < size; at++)
            CHECK(grown[at] == 7);
        size += STEP;
        block = grown;
        memset(block, 7, size);
        /* So that it has to move. */
        if ((behind = malloc(300000)) != NULL)
            memset(behind, 1, 300000);
    }
    puts("ok");
    return 0;
}
