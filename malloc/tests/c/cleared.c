/* A program that clears its environment before its first allocation, and then says which process it is. */
#include <unistd.h>

#include "check.h"

int main(void)
{
    CHECK(clearenv() == 0);
    char *volatile block = malloc(100);
    CHECK(block);
    printf("%d\n", getpid());
    return 0;
}
