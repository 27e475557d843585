/* A program that overwrites and clears its environment before its first allocation, and then says
 * which process it is. */
#include <unistd.h>

#include "check.h"

extern char **environ;

int main(void)
{
    for (char **entry = environ; *entry; entry++)
        memset(*entry, 0, strlen(*entry));
    CHECK(clearenv() == 0);
    char *volatile block = malloc(100);
    CHECK(block);
    printf("%d\n", getpid());
    return 0;
}
