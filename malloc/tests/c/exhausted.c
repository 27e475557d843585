#define _GNU_SOURCE
/* Requests that fail since addresses have run out leave no fewer of them. */
#include "statm.h"
#include <unistd.h>

int main(void)
{
    const size_t size = (size_t)80 << 20;
    int taken = 0;
    char *block;
    while (taken < 100000 && (block = malloc(size)) != NULL)
        taken++;
    CHECK(taken > 1000 && taken < 100000);
    long before = statm().mapped_kib;
    for (int i = 0; i < 300; i++)
        CHECK(malloc(size) == NULL && errno == ENOMEM);
    CHECK(statm().mapped_kib == before);
    free(malloc(100));
    puts("ok");
    return 0;
}
