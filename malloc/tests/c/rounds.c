/* Allocates and frees blocks of so many MiB, one after the other, so many times. */
#include "check.h"

int main(int count, char **arguments)
{
    CHECK(count == 3);
    for (int left = atoi(arguments[1]); left > 0; left--) {
        size_t size = (size_t)atoi(arguments[2]) << 20;
        char *block = malloc(size);
        CHECK(block != NULL);
        block[0] = block[size - 1] = 1;
        free(block);
    }
    puts("ok");
    return 0;
}
