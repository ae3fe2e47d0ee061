/* What tests ask of the simulated driver, through _simulator.pyx. Plain C; see simulator.h. */
#ifndef VT_CUDA_SIMULATOR_API_H
#define VT_CUDA_SIMULATOR_API_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

void vt_simulator_install(int devices, size_t memory_bytes);
void vt_simulator_set_completion(int completion, uint64_t seed);
void vt_simulator_finish_work(void);
int vt_simulator_fail(const char *function, uint64_t nth, int error, uint64_t times);
void vt_simulator_clear_failures(void);
void vt_simulator_set_memory(int device, size_t bytes);
void vt_simulator_set_strict(int strict);
void vt_simulator_record(int on);
void vt_simulator_clear(void);

/* Takes a copy of the log and of the violations; the two functions below read it. */
void vt_simulator_snapshot(size_t *log_entries, size_t *violations);
const char *vt_simulator_violation(size_t i);

typedef struct vt_simulator_entry {
  const char *kind, *name;
  unsigned grid[3], block[3], shared_bytes;
  uint64_t stream;
  size_t bytes;
  int captured;
  size_t num_touched;
  const uint64_t *touched;
} vt_simulator_entry;
vt_simulator_entry vt_simulator_log_entry(size_t i);

typedef struct vt_simulator_counters {
  uint64_t launches, copies, memsets, graph_launches, waits, implicit_waits, allocations;
  uint64_t live_bytes, peak_bytes, blocks;
} vt_simulator_counters;
vt_simulator_counters vt_simulator_get_counters(void);
uint64_t vt_simulator_calls(const char *function);
int vt_simulator_peek(void *host, uint64_t address, size_t bytes);
int vt_simulator_poke(uint64_t address, const void *host, size_t bytes);
/* One launch of a kernel that does not exist, whose arguments are these words; bits of `reads` and
 * `writes` stand for words known to be read and written. */
int vt_simulator_launch(int device, void *stream, const char *name, const uint64_t *words,
                        size_t num_words, uint64_t reads, uint64_t writes);

#ifdef __cplusplus
}
#endif
#endif
