/* What alloc.h promises, one check after the other. Exits with 0 if all of it holds. */

#include <stdint.h>

#include "../lab_common/check.h"
#include "alloc.h"

#define UNITS (PAGESIZE / MINALLOC)

static char *chunks[UNITS];

static void starts_and_stops(void)
{
    CHECK(alloc(8) == NULL);
    CHECK(cleanup() != 0);
    long before = vsz();
    CHECK(init_alloc() == 0);
    CHECK(vsz() - before == PAGESIZE);
    CHECK(init_alloc() != 0);
    CHECK(vsz() - before == PAGESIZE);
    CHECK(cleanup() == 0);
    CHECK(vsz() == before);
    CHECK(alloc(8) == NULL);
    CHECK(init_alloc() == 0);
}

static void refuses_sizes(void)
{
    static const int sizes[] = {0, 1, 7, 9, 4095, 4097, 4104, 8192, -8, -4096, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        CHECK(alloc(sizes[i]) == NULL);
}

static void whole_page_in_one_piece(void)
{
    char *page = alloc(PAGESIZE);
    CHECK(page != NULL);
    CHECK((uintptr_t)page % PAGESIZE == 0);
    memset(page, 0xa5, PAGESIZE);
    CHECK(alloc(MINALLOC) == NULL);
    dealloc(page);
}

static void whole_page_in_smallest_pieces(void)
{
    for (int i = 0; i < UNITS; i++) {
        chunks[i] = alloc(MINALLOC);
        CHECK(chunks[i] != NULL);
        memset(chunks[i], i & 0xff, MINALLOC);
    }
    CHECK(alloc(MINALLOC) == NULL);
    for (int i = 0; i < UNITS; i++)
        for (int byte = 0; byte < MINALLOC; byte++)
            CHECK((unsigned char)chunks[i][byte] == (i & 0xff));
    /* Every second unit of the page: nothing longer than one unit is left. */
    for (int i = 0; i < UNITS; i++)
        if ((uintptr_t)chunks[i] / MINALLOC % 2 == 0)
            dealloc(chunks[i]);
    CHECK(alloc(2 * MINALLOC) == NULL);
    for (int i = 0; i < UNITS; i++)
        if ((uintptr_t)chunks[i] / MINALLOC % 2 == 1)
            dealloc(chunks[i]);
    whole_page_in_one_piece();
}

static void splits_and_merges(void)
{
    char *a = alloc(1024), *b = alloc(1024), *c = alloc(1024), *d = alloc(1024);
    CHECK(a && b && c && d);
    dealloc(b);
    /* A piece that was freed serves smaller requests, and what is left of it too. */
    char *b1 = alloc(512), *b2 = alloc(256), *b3 = alloc(256);
    CHECK(b1 == b && b2 == b + 512 && b3 == b + 768);
    CHECK(alloc(8) == NULL);
    /* Neighbours merge, in any order of their frees. */
    dealloc(b3);
    dealloc(b1);
    dealloc(b2);
    dealloc(c);
    CHECK(alloc(2048) == b);
    dealloc(b);
    dealloc(d);
    dealloc(a);
    whole_page_in_one_piece();
}

static void takes_the_shortest_piece(void)
{
    char *a = alloc(512), *fence1 = alloc(8), *b = alloc(64), *fence2 = alloc(8), *rest = alloc(3504);
    CHECK(a && fence1 && b && fence2 && rest);
    dealloc(a);
    dealloc(b);
    CHECK(alloc(64) == b);
    dealloc(b);
    dealloc(fence1);
    dealloc(fence2);
    dealloc(rest);
    whole_page_in_one_piece();
}

static void refuses_wrong_chunks(void)
{
    char on_stack[8];
    char *a = alloc(64), *b = alloc(64);
    memset(b, 0x5a, 64);
    dealloc(a);
    catch_reports();
    char *wrong[] = {a, a + 8, b + 8, b + 1, b - 8, NULL, on_stack, a - 8, a + PAGESIZE};
    int count = sizeof wrong / sizeof *wrong;
    for (int i = 0; i < count; i++) {
        dealloc(wrong[i]);
        CHECK(reports() == 1);
    }
    CHECK(alloc(64) == a);
    for (int i = 0; i < 64; i++)
        CHECK(b[i] == 0x5a);
    dealloc(a);
    dealloc(b);
    CHECK(reports() == 0);
    whole_page_in_one_piece();
}

/* A model of the page: which of its units are in whose hands. */
static void random_calls(unsigned seed)
{
    static char owner[UNITS];
    char *base = alloc(PAGESIZE);
    dealloc(base);
    memset(chunks, 0, sizeof chunks);
    static int sizes[UNITS];
    for (int step = 0; step < 200000; step++) {
        seed = seed * 1103515245u + 12345u;
        int slot = (seed >> 16) % 64;
        if (chunks[slot]) {
            for (int i = 0; i < sizes[slot]; i++)
                CHECK(chunks[slot][i] == (char)slot);
            memset(owner + (chunks[slot] - base) / MINALLOC, 0, sizes[slot] / MINALLOC);
            dealloc(chunks[slot]);
            chunks[slot] = NULL;
            continue;
        }
        seed = seed * 1103515245u + 12345u;
        int size = (1 + (seed >> 16) % 40) * MINALLOC;
        char *chunk = alloc(size);
        int longest = 0, run = 0;
        for (int unit = 0; unit < UNITS; unit++) {
            run = owner[unit] ? 0 : run + 1;
            longest = run > longest ? run : longest;
        }
        CHECK((chunk != NULL) == (longest * MINALLOC >= size));
        if (!chunk)
            continue;
        CHECK(chunk >= base && chunk + size <= base + PAGESIZE);
        for (int unit = 0; unit < size / MINALLOC; unit++) {
            CHECK(!owner[(chunk - base) / MINALLOC + unit]);
            owner[(chunk - base) / MINALLOC + unit] = 1;
        }
        memset(chunk, slot, size);
        chunks[slot] = chunk;
        sizes[slot] = size;
    }
    for (int slot = 0; slot < 64; slot++)
        if (chunks[slot])
            dealloc(chunks[slot]);
    memset(owner, 0, sizeof owner);
    whole_page_in_one_piece();
}

int main(void)
{
    starts_and_stops();
    long running = vsz();
    refuses_sizes();
    whole_page_in_one_piece();
    whole_page_in_smallest_pieces();
    splits_and_merges();
    takes_the_shortest_piece();
    random_calls(1);
    random_calls(7);
    refuses_wrong_chunks();
    CHECK(vsz() == running);
    CHECK(cleanup() == 0);
    CHECK(vsz() == running - PAGESIZE);
    return 0;
}
