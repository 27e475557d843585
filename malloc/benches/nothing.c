/*
 * What stands for a malloc in `workloads talk` alone, and does nothing: so much of the times there
 * are the calls themselves and the loops around them.
 */
#include <stddef.h>

static int any_int;
static void *array[100000];

void *malloc(size_t size)
{
    return size == sizeof any_int ? (void *)&any_int : (void *)array;
}

void free(void *block)
{
    (void)block;
}
