/*
 * What a fit policy does, seen through malloc alone.
 *
 *     fits places    where three requests go among four holes, in units from the first hole
 *     fits resize    realloc where the block lies, and where it cannot stay
 *     fits spans     what was imported goes back
 */
#define _GNU_SOURCE
#include "check.h"
#include "kmem.h"
#include <malloc.h>
#include <unistd.h>

/* More than any room that the program's start leaves: every block below lies in a span of its own
 * making. */
enum { UNIT = 256 << 10 };

static char *units(size_t count)
{
    char *block = malloc(count * UNIT);
    CHECK(block != NULL);
    return block;
}

static void show_places(void)
{
    /* One span, cut to: 3 live 6 live 2 live 4 live. The stump stays in front. */
    char *stump = malloc(23 * (size_t)UNIT + 16);
    CHECK(realloc(stump, 16) == stump);
    static const size_t holes[4] = { 3, 6, 2, 4 };
    char *hole[4], *live[4];
    for (int i = 0; i < 4; i++) {
        hole[i] = units(holes[i]);
        live[i] = units(2);
        CHECK(live[i] == hole[i] + holes[i] * UNIT);
    }
    char *first = hole[0];
    CHECK(first == stump + 16);
    for (int i = 0; i < 4; i++)
        free(hole[i]);
    CHECK(kmem_verify() == 0);
    static const size_t requests[3] = { 2, 3, 1 };
    size_t offsets[3];
    for (int i = 0; i < 3; i++) {
        offsets[i] = (size_t)(units(requests[i]) - first);
        CHECK(offsets[i] % UNIT == 0);
    }
    /* Only now: what printing needs is allocated, too. */
    printf("%zu %zu %zu\n", offsets[0] / UNIT, offsets[1] / UNIT, offsets[2] / UNIT);
    CHECK(kmem_verify() == 0);
}

static void check_filled(const char *block, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 997)
        CHECK(block[i] == (char)(i % 251));
}

static void check_resize(void)
{
    char *block = units(8);
    for (size_t i = 0; i < 8 * (size_t)UNIT; i++)
        block[i] = (char)(i % 251);
    CHECK(realloc(block, 2 * UNIT) == block);
    CHECK(malloc_usable_size(block) == 2 * UNIT);
    CHECK(realloc(block, 5 * UNIT) == block);
    CHECK(realloc(block, 2 * UNIT + 1) == block);
    CHECK(malloc_usable_size(block) == 2 * UNIT + 16);
    char *behind = units(3);
    CHECK(behind == block + 2 * UNIT + 16);
    char *moved = realloc(block, 6 * UNIT);
    CHECK(moved != NULL && moved != block);
    check_filled(moved, 2 * UNIT);
    free(moved);
    free(behind);
    CHECK(kmem_verify() == 0);
}

static long resident_kib(void)
{
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(file && fscanf(file, "%*d %ld", &pages) == 1);
    fclose(file);
    return pages * 4;
}

static void check_spans(void)
{
    enum { COUNT = 600, BYTES = 100000 };
    static char *blocks[COUNT], *marks[COUNT];
    size_t before = mallinfo2().arena;
    for (int i = 0; i < COUNT; i++) {
        blocks[i] = malloc(BYTES);
        CHECK(blocks[i] != NULL);
        memset(blocks[i], 1, BYTES);
    }
    size_t most = mallinfo2().arena;
    CHECK(most >= before + (size_t)COUNT * BYTES);
    for (int i = 0; i < COUNT; i++)
        free(blocks[i]);
    size_t after = mallinfo2().arena;
    fprintf(stderr, "held: %zu before, %zu at most, %zu after\n", before, most, after);
    CHECK(after <= before + (1 << 20));

    /* Small blocks that stay keep the spans; malloc_trim takes the memory between them. */
    for (int i = 0; i < COUNT; i++) {
        blocks[i] = malloc(BYTES);
        memset(blocks[i], 1, BYTES);
        marks[i] = malloc(BYTES);
        memset(marks[i], 1, BYTES);
    }
    for (int i = 0; i < COUNT; i++) {
        free(blocks[i]);
        marks[i] = realloc(marks[i], 64);
    }
    long resident = resident_kib();
    CHECK(malloc_trim(0) == 1);
    long trimmed = resident_kib();
    fprintf(stderr, "resident: %ld KiB, trimmed to %ld KiB\n", resident, trimmed);
    CHECK(trimmed < resident / 4);
    /* What lost its memory is no less usable, and zero where zeros are asked for. */
    for (int i = 0; i < COUNT; i++) {
        char *zeros = calloc(1, BYTES);
        for (int at = 0; at < BYTES; at += 512)
            CHECK(zeros[at] == 0);
        memset(zeros, 1, BYTES);
        CHECK(marks[i][63] == 1);
        free(zeros);
    }
    CHECK(kmem_verify() == 0);
}

int main(int count, char **arguments)
{
    const char *what = count > 1 ? arguments[1] : "";
    if (strcmp(what, "places") == 0)
        show_places();
    else if (strcmp(what, "resize") == 0)
        check_resize();
    else if (strcmp(what, "spans") == 0)
        check_spans();
    else
        return 2;
    return 0;
}
