/* What C11, C23, POSIX and the GNU manual say of each function, edge by edge. */
#define _GNU_SOURCE
#include "check.h"
#include "kmem.h"
#include <malloc.h>
#include <stdalign.h>
#include <unistd.h>

/* Hides a value from the compiler, which knows what these functions do. */
static volatile size_t hidden;
static size_t hide(size_t value)
{
    hidden = value;
    return hidden;
}

static int is_aligned(const void *block, size_t alignment)
{
    return (uintptr_t)block % alignment == 0;
}

static int is_zero(const unsigned char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (bytes[i] != 0)
            return 0;
    return 1;
}

static void nothing_is_something(void)
{
    void *a = malloc(hide(0)), *b = malloc(hide(0)), *c = calloc(hide(0), 8), *d = calloc(8, hide(0));
    CHECK(a && b && c && d);
    CHECK(a != b && b != c && c != d);
    free(a), free(b), free(c), free(d);
    free(NULL);
    CHECK(malloc_usable_size(NULL) == 0);
}

static void sizes_that_cannot_be(void)
{
    const size_t impossible[] = { SIZE_MAX, SIZE_MAX - 7, SIZE_MAX - 4096, SIZE_MAX / 2 + 1, (size_t)PTRDIFF_MAX + 1 };
    for (size_t i = 0; i < sizeof impossible / sizeof *impossible; i++) {
        size_t size = hide(impossible[i]);
        void *out = (void *)1;
        errno = 0;
        CHECK(malloc(size) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(calloc(1, size) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(calloc(size, 2) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(aligned_alloc(64, size) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(posix_memalign(&out, 64, size) == ENOMEM && out == (void *)1 && errno == 0);
        errno = 0;
        CHECK(valloc(size) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(pvalloc(size) == NULL && errno == ENOMEM);
        char *block = malloc(24);
        memcpy(block, "unchanged", 10);
        errno = 0;
        CHECK(realloc(block, size) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(reallocarray(block, size, 2) == NULL && errno == ENOMEM);
        CHECK(strcmp(block, "unchanged") == 0);
        free(block);
    }
    errno = 0;
    CHECK(calloc(hide((size_t)1 << 33), hide((size_t)1 << 33)) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(reallocarray(NULL, hide((size_t)1 << 33), hide((size_t)1 << 33)) == NULL && errno == ENOMEM);
}

static void alignments(void)
{
    for (size_t alignment = sizeof(void *); alignment <= (size_t)4 << 20; alignment *= 2) {
        for (size_t size = 0; size < 3 * alignment && size < 100000; size = size * 3 + 1) {
            void *block = NULL;
            CHECK(posix_memalign(&block, hide(alignment), hide(size)) == 0);
            CHECK(block && is_aligned(block, alignment));
            memset(block, 1, size);
            CHECK(malloc_usable_size(block) >= size);
            void *other = aligned_alloc(hide(alignment), hide(size));
            CHECK(other && other != block && is_aligned(other, alignment));
            memset(other, 2, size);
            void *third = memalign(hide(alignment), hide(size));
            CHECK(third && is_aligned(third, alignment));
            CHECK(is_zero(block, 0) && (size == 0 || ((char *)block)[size - 1] == 1));
            free(third);
            free_aligned_sized(other, alignment, size);
            free(block);
        }
    }
    void *untouched = (void *)1;
    for (size_t bad = 0; bad < 64; bad++) {
        if (bad >= sizeof(void *) && (bad & (bad - 1)) == 0)
            continue;
        errno = 0;
        CHECK(posix_memalign(&untouched, hide(bad), 16) == EINVAL && untouched == (void *)1 && errno == 0);
        if (bad == 0 || (bad & (bad - 1)) != 0) {
            CHECK(aligned_alloc(hide(bad), 16) == NULL && errno == EINVAL);
        }
    }
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    void *paged = valloc(hide(10));
    CHECK(paged && is_aligned(paged, page));
    free(paged);
    paged = pvalloc(hide(page + 1));
    CHECK(paged && is_aligned(paged, page) && malloc_usable_size(paged) >= 2 * page);
    free(paged);
    for (size_t size = 1; size < 5000; size++) {
        void *block = malloc(hide(size));
        CHECK(is_aligned(block, size <= 8 ? 8 : alignof(max_align_t)));
        CHECK(malloc_usable_size(block) >= size);
        free_sized(block, size);
    }
}

static void cleared_memory(void)
{
    for (size_t size = 1; size < (size_t)40 << 20; size = size * 2 + 3) {
        for (int round = 0; round < 3; round++) {
            unsigned char *block = calloc(hide(size), 1);
            CHECK(block && is_zero(block, size));
            memset(block, 0xff, malloc_usable_size(block));
            free(block);
        }
    }
}

static void resizing_keeps_contents(void)
{
    CHECK(realloc(malloc(10), hide(0)) == NULL);
    unsigned char *block = realloc(NULL, hide(1));
    CHECK(block);
    size_t size = 1;
    block[0] = 1;
    while (size < (size_t)30 << 20) {
        size_t larger = size * 3 / 2 + 1;
        block = realloc(block, hide(larger));
        CHECK(block);
        for (size_t i = 0; i < size; i += 1 + size / 100)
            CHECK(block[i] == (unsigned char)(i * 7 + 1));
        for (size_t i = 0; i < larger; i++)
            block[i] = (unsigned char)(i * 7 + 1);
        size = larger;
    }
    while (size > 1) {
        size_t smaller = size / 3 + 1;
        if (smaller == size)
            break;
        block = realloc(block, hide(smaller));
        CHECK(block);
        for (size_t i = 0; i < smaller; i += 1 + smaller / 100)
            CHECK(block[i] == (unsigned char)(i * 7 + 1));
        size = smaller;
    }
    free(block);
    for (size_t alignment = 64; alignment <= 65536; alignment *= 4) {
        unsigned char *aligned = aligned_alloc(alignment, 300);
        memset(aligned, 9, 300);
        aligned = realloc(aligned, hide(70000));
        CHECK(aligned && aligned[0] == 9 && aligned[299] == 9);
        free(aligned);
    }
}

static void free_keeps_errno(void)
{
    for (size_t size = 8; size < (size_t)64 << 20; size *= 4) {
        void *block = malloc(size);
        errno = 4711;
        free(block);
        CHECK(errno == 4711);
    }
}

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t), __libc_free(void *), cfree(void *);

/* The C library's further names lead to the same blocks. */
static void other_names(void)
{
    free(__libc_malloc(hide(100)));
    __libc_free(malloc(hide(100)));
    cfree(malloc(hide(100)));
    free(__libc_calloc(hide(10), 10));
    free(__libc_realloc(malloc(hide(100)), 5000));
    char *block = __libc_memalign(256, hide(100));
    CHECK(is_aligned(block, 256) && malloc_usable_size(block) >= 100);
    free(block);
}

static void statistics(void)
{
    void *volatile block = malloc(hide(1 << 20));
    CHECK(block != NULL);
    struct mallinfo2 info = mallinfo2();
    CHECK(info.uordblks + info.hblkhd >= (1 << 20));
    _Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Wdeprecated-declarations\"")
    struct mallinfo old = mallinfo();
    _Pragma("GCC diagnostic pop")
    CHECK(old.uordblks + old.hblkhd >= (1 << 20));
    CHECK(malloc_info(1, stderr) == EINVAL);
    FILE *text = tmpfile();
    CHECK(malloc_info(0, text) == 0);
    CHECK(ftell(text) > 20);
    fclose(text);
    free(block);
    malloc_trim(0);
    CHECK(malloc_trim(0) == 0);
    CHECK(mallopt(M_ARENA_MAX, 1) == 1);
    CHECK(kmem_verify() == 0);
}

int main(void)
{
    nothing_is_something();
    sizes_that_cannot_be();
    alignments();
    cleared_memory();
    resizing_keeps_contents();
    free_keeps_errno();
    other_names();
    statistics();
    puts("ok");
    return 0;
}
