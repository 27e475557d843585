/*
 * Runs a program in which a filter refuses a system call with EPERM, as sandboxes do.
 *
 *     refused CALL PROGRAM ARGUMENTS...
 */
#define _GNU_SOURCE
#include "check.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static const struct { const char *name; unsigned number; } calls[] = {
    {"madvise", SYS_madvise},
    {"membarrier", SYS_membarrier},
    {"mremap", SYS_mremap},
    {"nanosleep", SYS_nanosleep},
    {"prlimit64", SYS_prlimit64},
    {"sched_yield", SYS_sched_yield},
};

static unsigned number_of(const char *name)
{
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        if (strcmp(calls[i].name, name) == 0)
            return calls[i].number;
    fprintf(stderr, "refused: no call is known as %s\n", name);
    exit(2);
}

int main(int count, char **arguments)
{
    CHECK(count > 2);
    unsigned number = number_of(arguments[1]);
    struct sock_filter steps[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {sizeof steps / sizeof *steps, steps};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0);
    errno = 0;
    CHECK(syscall(number, 0, 0, 0, 0) == -1 && errno == EPERM);
    execv(arguments[2], arguments + 2);
    perror(arguments[2]);
    return 2;
}
