/* Runs a program in an environment that is given word by word, in which names may come twice.
 *
 *     environment NAME=VALUE... -- PROGRAM ARGUMENTS...
 */
#include <unistd.h>

#include "check.h"

int main(int count, char **arguments)
{
    int end = 1;
    while (end < count && strcmp(arguments[end], "--") != 0)
        end++;
    CHECK(end + 1 < count);
    arguments[end] = NULL;
    execve(arguments[end + 1], arguments + end + 1, arguments + 1);
    perror(arguments[end + 1]);
    return 2;
}
