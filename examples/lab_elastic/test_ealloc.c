/* What ealloc.h promises, one check after the other. Exits with 0 if all of it holds. */

#include <stdint.h>

#include "../lab_common/check.h"
#include "ealloc.h"

#define PER_PAGE (PAGESIZE / MINALLOC)

static char *chunks[MAXPAGES * PER_PAGE];
static long start;

/* Bytes by which the process has grown since the manager was started. */
static long grown(void) { return vsz() - start; }

static void same_page(char *chunk, int size)
{
    CHECK(chunk != NULL);
    CHECK((uintptr_t)chunk / PAGESIZE == ((uintptr_t)chunk + size - 1) / PAGESIZE);
}

static void maps_nothing_to_start(void)
{
    CHECK(alloc(256) == NULL);
    start = vsz();
    init_alloc();
    CHECK(grown() == 0);
    init_alloc();
    CHECK(grown() == 0);
}

static void refuses_sizes(void)
{
    static const int sizes[] = {0, 1, 8, 255, 257, 4095, 4097, 4352, 8192, -256, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        CHECK(alloc(sizes[i]) == NULL);
    CHECK(grown() == 0);
}

static void grows_by_a_page_when_it_must(void)
{
    for (int i = 0; i < 16; i++) {
        chunks[i] = alloc(1024);
        same_page(chunks[i], 1024);
        memset(chunks[i], i, 1024);
        CHECK(grown() == (i / 4 + 1) * PAGESIZE);
    }
    for (int i = 0; i < 16; i++)
        for (int byte = 0; byte < 1024; byte++)
            CHECK(chunks[i][byte] == i);
}

static void splits_merges_and_reuses_without_growing(void)
{
    /* 16 chunks of 1,024 bytes fill four pages. */
    dealloc(chunks[5]);
    char *a = alloc(256), *b = alloc(512), *c = alloc(256);
    CHECK(a == chunks[5] && b == a + 256 && c == b + 512);
    CHECK(grown() == 4 * PAGESIZE);
    dealloc(a);
    dealloc(c);
    dealloc(b);
    dealloc(chunks[6]);
    CHECK(alloc(2048) == chunks[5]);
    dealloc(chunks[5]);
    dealloc(chunks[4]);
    dealloc(chunks[7]);
    CHECK(alloc(4096) == chunks[4]);
    CHECK(grown() == 4 * PAGESIZE);
    dealloc(chunks[4]);
    for (int i = 0; i < 16; i++)
        if (i / 4 != 1)
            dealloc(chunks[i]);
    CHECK(grown() == 4 * PAGESIZE);
    for (int i = 0; i < 4; i++)
        same_page(chunks[i] = alloc(4096), 4096);
    CHECK(grown() == 4 * PAGESIZE);
}

static void goes_far_beyond_four_pages(void)
{
    for (int page = 4; page < MAXPAGES; page++) {
        same_page(chunks[page] = alloc(4096), 4096);
        CHECK(grown() == (page + 1) * (long)PAGESIZE);
        memset(chunks[page], page & 0x7f, PAGESIZE);
    }
    CHECK(alloc(256) == NULL);
    CHECK(grown() == MAXPAGES * (long)PAGESIZE);
    for (int page = 4; page < MAXPAGES; page++)
        CHECK(chunks[page][4095] == (page & 0x7f));
    for (int page = 0; page < MAXPAGES; page++)
        dealloc(chunks[page]);
    /* The records suffice for the smallest chunks everywhere. */
    for (int i = 0; i < MAXPAGES * PER_PAGE; i++)
        same_page(chunks[i] = alloc(256), 256);
    CHECK(alloc(256) == NULL);
    for (int i = 0; i < MAXPAGES * PER_PAGE; i++)
        dealloc(chunks[i]);
    CHECK(grown() == MAXPAGES * (long)PAGESIZE);
}

static void refuses_wrong_chunks(void)
{
    char on_stack[8];
    char *a = alloc(256), *b = alloc(512);
    memset(b, 0x5a, 512);
    dealloc(a);
    catch_reports();
    char *wrong[] = {a, b + 256, b + 1, NULL, on_stack, (char *)wrong};
    int count = sizeof wrong / sizeof *wrong;
    for (int i = 0; i < count; i++) {
        dealloc(wrong[i]);
        CHECK(reports() == 1);
    }
    for (int i = 0; i < 512; i++)
        CHECK(b[i] == 0x5a);
    dealloc(b);
    CHECK(reports() == 0);
}

static void stops_and_starts_again(void)
{
    cleanup();
    CHECK(grown() == 0);
    CHECK(alloc(256) == NULL);
    cleanup();
    init_alloc();
    CHECK(grown() == 0);
    same_page(alloc(4096), 4096);
    same_page(alloc(256), 256);
    CHECK(grown() == 2 * PAGESIZE);
    cleanup();
    CHECK(grown() == 0);
}

int main(void)
{
    maps_nothing_to_start();
    refuses_sizes();
    grows_by_a_page_when_it_must();
    splits_merges_and_reuses_without_growing();
    goes_far_beyond_four_pages();
    refuses_wrong_chunks();
    stops_and_starts_again();
    return 0;
}
