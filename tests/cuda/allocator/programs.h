#pragma once

#include <stdint.h>

namespace model {

/* Random programs: of one thread, with captures and injected failures; of several threads. */
void fuzz(uint64_t seed, long steps, const char *allocator_options, bool at_random);
void threads(uint64_t seed, long steps, int count, const char *allocator_options);
/* One named situation; false: there is none of that name. */
bool scenario(const char *name);
void list_scenarios();
/* Prints what a cached allocation and its release take. */
void measure();

}  // namespace model
