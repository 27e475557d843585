/* Whether the system was asked to back what malloc returns by huge pages: the flag `hg` in
 * /proc/self/smaps. */
#include "check.h"

/* Whether every mapping that holds one of the blocks has the flag; or none has. */
static int is_huge(char *const *blocks, int count)
{
    static char line[4096], buffer[1 << 16];
    unsigned long start = 0, end = 0;
    int huge = 0, small = 0;
    FILE *file = fopen("/proc/self/smaps", "r");
    CHECK(file != NULL);
    setvbuf(file, buffer, _IOFBF, sizeof buffer);
    while (fgets(line, sizeof line, file)) {
        unsigned long from, to;
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2) {
            start = from;
            end = to;
        } else if (strncmp(line, "VmFlags:", 8) == 0) {
            for (int i = 0; i < count; i++)
                if ((unsigned long)blocks[i] >= start && (unsigned long)blocks[i] < end)
                    *(strstr(line, " hg") ? &huge : &small) += 1;
        }
    }
    fclose(file);
    CHECK(huge + small == count && (huge == 0 || small == 0));
    return huge > 0;
}

int main(void)
{
    static const size_t sizes[] = { 24, 5000, 300000, 8 << 20, 100 << 20 };
    enum { COUNT = sizeof sizes / sizeof *sizes };
    char *blocks[COUNT];
    for (int i = 0; i < COUNT; i++) {
        blocks[i] = malloc(sizes[i]);
        CHECK(blocks[i] != NULL);
        memset(blocks[i], 1, sizes[i] < 1 << 20 ? sizes[i] : 4096);
    }
    puts(is_huge(blocks, COUNT) ? "huge" : "small");
    return 0;
}
