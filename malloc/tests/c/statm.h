/* How much memory the process has. */
#ifndef STATM_H
#define STATM_H

#include "check.h"

struct statm {
    long mapped_kib, resident_kib;
};

static struct statm statm(void)
{
    char text[128];
    struct statm pages;
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(file && fgets(text, sizeof text, file));
    fclose(file);
    CHECK(sscanf(text, "%ld %ld", &pages.mapped_kib, &pages.resident_kib) == 2);
    return (struct statm){ pages.mapped_kib * 4, pages.resident_kib * 4 };
}

#endif
