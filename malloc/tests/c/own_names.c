/* A program with its own malloc, on top of the one that was there before. */
#include "check.h"

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t), __libc_free(void *), *__libc_valloc(size_t), *__libc_pvalloc(size_t);
extern int __posix_memalign(void **, size_t, size_t);

static int calls;

void *malloc(size_t size) { return calls++, __libc_malloc(size); }
void *calloc(size_t count, size_t size) { return calls++, __libc_calloc(count, size); }
void *realloc(void *block, size_t size) { return calls++, __libc_realloc(block, size); }
void *memalign(size_t alignment, size_t size) { return calls++, __libc_memalign(alignment, size); }
void *valloc(size_t size) { return calls++, __libc_valloc(size); }
void *pvalloc(size_t size) { return calls++, __libc_pvalloc(size); }
void free(void *block) { calls++, __libc_free(block); }
int posix_memalign(void **block, size_t alignment, size_t size)
{
    return calls++, __posix_memalign(block, alignment, size);
}

int main(void)
{
    calls = 0;
    char *blocks[] = { malloc(10), calloc(10, 100), realloc(malloc(10), 10000), memalign(64, 100), valloc(1), pvalloc(1), NULL };
    CHECK(posix_memalign((void **)&blocks[6], 256, 100) == 0);
    for (int i = 0; i < 7; i++) {
        CHECK(blocks[i] != NULL);
        memset(blocks[i], 1, 10);
        free(blocks[i]);
    }
    CHECK(calls == 15);
    puts("ok");
    return 0;
}
