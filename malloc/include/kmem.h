/*
 * kmem.h: what kmem's malloc offers beyond the C standards.
 *
 * The standard functions are declared where they always are, in <stdlib.h> and <malloc.h>. Programs
 * that use the ones below link with libkmem_malloc.so or libkmem_malloc.a.
 */
#ifndef KMEM_H
#define KMEM_H

#include <stddef.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Gives the allocated block at `block` a name, which print_memory and the leak report show. The
 * name is copied (64 bytes of it at most) and stays with the block through realloc until it is
 * freed. Returns `block`.
 */
void *malloc_name(void *block, const char *name);

/* As malloc, and gives the block a name. */
void *malloc_named(size_t size, const char *name);

/*
 * Prints every live block to `file`, the lowest address first, in one line each, and how many there
 * are:
 *
 *     address                 bytes        class    thread  name
 *     0x7f2a9c001040             32           32      4711  "node"
 *     0x7f2a9c002000            512          512         -  -
 *     2 blocks, 544 bytes
 *
 * `bytes` is what was asked for where blocks are tracked (KMEM_TRACK=1, or any option that observes
 * calls), otherwise the usable size; `class` is the length of the block that serves it. What is not
 * known is shown as `-`. Under an arena engine (KMEM_ENGINE) its spans follow, with what is
 * available in each:
 *
 *     span 0x7f2a9c000000
 *       0x7f2a9c001060-0x7f2a9c040000       258976 available
 */
void print_memory(FILE *file);

/*
 * Recounts the allocator's books. Returns 0 if they agree, otherwise 1 after one line on standard
 * error. Other threads may go on, but what they allocate meanwhile can make books disagree. In a
 * signal handler on top of a call that is using the books it is 1 as well.
 */
int kmem_verify(void);

/* C23, for C libraries that do not declare them yet. */
void free_sized(void *block, size_t size);
void free_aligned_sized(void *block, size_t alignment, size_t size);

#ifdef __cplusplus
}
#endif

#endif
