/* What new blocks hold when they are scribbled over: 0xAA, except where zeros were asked for. */
#include "check.h"

static void check(const unsigned char *bytes, size_t count, int expected)
{
    CHECK(bytes != NULL);
    for (size_t i = 0; i < count; i++)
        CHECK(bytes[i] == expected);
}

int main(void)
{
    static const size_t sizes[] = { 1, 24, 5000, 200000 };
    unsigned char *last = NULL;
    for (int round = 0; round < 3; round++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            unsigned char *block = malloc(sizes[i]), *zeros = calloc(sizes[i], 1);
            check(block, sizes[i], 0xaa);
            check(zeros, sizes[i], 0);
            memset(block, 7, sizes[i]);
            block = realloc(block, 2 * sizes[i]);
            check(block, sizes[i], 7);
            check(block + sizes[i], sizes[i], 0xaa);
            free(last);
            free(zeros);
            last = block;
        }
    unsigned char *block = malloc(3);
    printf("%02x %02x %02x, zeros stay zero\n", block[0], block[1], block[2]);
    return 0;
}
