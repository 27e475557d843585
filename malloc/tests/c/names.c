/* Names, the list of live blocks, and leaks. */
#include "check.h"
#include "kmem.h"

int main(void)
{
    char *first = malloc_named(1000, "the first block");
    char *second = malloc_name(malloc(2000), "second");
    char *third = malloc_name(malloc(16), "grows");
    for (int i = 0; i < 3; i++)
        malloc_named(77, "leaked");
    free(malloc_named(50, "freed and gone"));
    CHECK(malloc_name(NULL, "nothing") == NULL);
    third = realloc(third, 100000);
    print_memory(stdout);
    free(first);
    free(second);
    free(third);
    puts("after");
    print_memory(stdout);
    return 0;
}
