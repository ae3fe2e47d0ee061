/* The simulated driver's memory, for its own files: addresses, the bytes behind them, blocks. */
#ifndef VT_CUDA_SIMULATOR_STORE_H
#define VT_CUDA_SIMULATOR_STORE_H

#include "vibetensor/cuda/simulator_state.h"

namespace vt_cuda {
namespace sim {

constexpr size_t kPage = 4096;
constexpr size_t kGranularity = size_t(2) << 20; /* of cuMemCreate */
inline size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

/* Addresses that nothing had before; 0: there are none left. */
uintptr_t take_addresses(size_t bytes, size_t alignment);
uintptr_t take_reserved_range(size_t bytes);
void give_reserved_range(uintptr_t begin, size_t bytes);
bool is_device_address(uintptr_t a);

/* Bytes, as an offset in the backing store. They are zero. */
bool take_backing(size_t bytes, size_t *offset);
void give_backing(size_t offset, size_t bytes);
/* Calls fn(bytes, their offset from `address`, length) for each piece of [address, + bytes). false:
 * not all of it is memory. */
bool for_pieces(uintptr_t address, size_t bytes,
                const std::function<void(char *, size_t, size_t)> &fn);

/* Against the device's limit; false: it would be passed. */
bool charge(Device &device, size_t bytes);
void refund(int device, size_t bytes);

/* Blocks end with their memory, and so does the memory's past. */
void drop_range(uintptr_t begin, uintptr_t end);
Uses uses_within(uintptr_t begin, uintptr_t end);
void mark_freed(uintptr_t begin, uintptr_t end);
void unmark_freed(uintptr_t begin, uintptr_t end);
/* Ends all work, as the driver does before it frees memory. */
void wait_for_all(Lock &lock);

}  // namespace sim
}  // namespace vt_cuda
#endif
