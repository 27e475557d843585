#define _GNU_SOURCE
/* Requests that fail since addresses have run out leave no fewer of them. */
#include "check.h"
#include <unistd.h>

static long mapped_pages(void)
{
    char text[128];
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(file && fgets(text, sizeof text, file));
    fclose(file);
    CHECK(sscanf(text, "%ld", &pages) == 1);
    return pages;
}

int main(void)
{
    const size_t size = (size_t)80 << 20;
    int taken = 0;
    char *block;
    while (taken < 100000 && (block = malloc(size)) != NULL)
        taken++;
    CHECK(taken > 1000 && taken < 100000);
    long before = mapped_pages();
    for (int i = 0; i < 300; i++)
        CHECK(malloc(size) == NULL && errno == ENOMEM);
    CHECK(mapped_pages() == before);
    free(malloc(100));
    puts("ok");
    return 0;
}
