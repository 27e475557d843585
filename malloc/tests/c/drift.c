/*
 * Under limits on addresses and on blocks: allocates small blocks until there is no more, and frees
 * them. The second time there is as much. What is too large for any block leaves no trace.
 */
#include "check.h"

struct chunk {
    struct chunk *next;
};

int main(void)
{
    size_t first = 0;
    for (int round = 0; round < 3; round++) {
        struct chunk *all = NULL, *next;
        size_t blocks = 0;
        CHECK(malloc((size_t)-1) == NULL && malloc((size_t)1 << 62) == NULL);
        while ((next = malloc(sizeof *next)) != NULL) {
            next->next = all;
            all = next;
            blocks++;
        }
        for (; all != NULL; all = next) {
            next = all->next;
            free(all);
        }
        if (round == 0)
            first = blocks;
        CHECK(blocks >= first - first / 8);
    }
    puts("ok");
    return 0;
}
