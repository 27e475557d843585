/* Leaks a block, and asks for what cannot be. */
#include "check.h"

static void *volatile leaked;

int main(void)
{
    leaked = malloc(1000);
    CHECK(malloc((size_t)-1) == NULL && malloc((size_t)1 << 62) == NULL && errno == ENOMEM);
    return 0;
}
