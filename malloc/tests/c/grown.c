/* A block that grows where it lies may have more than the largest that can be asked for: all that
 * is said of it is right then, and all of it comes back. */
#include <malloc.h>

#include "check.h"
#include "kmem.h"

static const size_t gib = (size_t)1 << 30;

static char *block;
static size_t block_bytes;

static int resize(size_t bytes)
{
    char *resized = realloc(block, bytes);
    if (resized == NULL)
        return 0;
    block = resized;
    block_bytes = bytes;
    CHECK(malloc_usable_size(block) >= bytes && malloc_usable_size(block) < bytes + 8192);
    CHECK(mallinfo2().hblkhd >= bytes && mallinfo2().hblkhd < bytes + 8192);
    CHECK(block[0] == 1 && kmem_verify() == 0);
    block[bytes - 1] = 2;
    return 1;
}

int main(void)
{
    CHECK(malloc(4 * gib + 1) == NULL && errno == ENOMEM);
    block = malloc(2 * gib);
    CHECK(block != NULL);
    block[0] = 1;
    for (size_t bytes = 2 * gib; bytes <= 8 * gib; bytes += gib / 2)
        if (!resize(bytes))
            break;
    CHECK(block_bytes > 4 * gib);
    print_memory(stdout);
    printf("%zu\n", block_bytes);
    CHECK(resize(4 * gib + 5) && block[2 * gib - 1] == 2);
    CHECK(resize(3 * gib) && block[2 * gib - 1] == 2);
    free(block);
    CHECK(kmem_verify() == 0 && mallinfo2().hblkhd == 0);
    block = malloc(4 * gib);
    CHECK(block != NULL);
    free(block);
    return 0;
}
