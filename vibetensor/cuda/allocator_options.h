/* Options of the allocator, with PyTorch's names: VIBETENSOR_CUDA_ALLOC_CONF="name:value,...". */
#ifndef VT_CUDA_ALLOCATOR_OPTIONS_H
#define VT_CUDA_ALLOCATOR_OPTIONS_H

#include <stddef.h>
#include <stdint.h>

#include <atomic>
#include <string>

namespace vt_cuda {

/* One value, read without a lock. */
template <class T>
class Option {
 public:
  constexpr Option(T value) : value_(value) {}
  operator T() const { return value_.load(std::memory_order_relaxed); }
  void operator=(T value) { value_.store(value, std::memory_order_relaxed); }

 private:
  std::atomic<T> value_;
};

constexpr int kSizeOctaves = 48;

struct AllocatorOptions {
  Option<size_t> max_split_size{SIZE_MAX};         /* blocks from here on are not cut */
  Option<size_t> max_non_split_rounding{20 << 20}; /* what such a block may be too large by */
  Option<double> garbage_collection_threshold{0};  /* 0: off */
  Option<bool> expandable_segments{false};
  Option<double> memory_fraction{1}; /* for devices first used from now on */
  Option<bool> caching{true};        /* false: every block straight from the driver */
  Option<uint8_t> divisions[kSizeOctaves]{
      /* by log2 of the size; 0: multiples of 512 */
      {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0},
      {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0},
      {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}};
  Option<bool> rounds{false}; /* any of `divisions` is set */

  /* Whether requests must look at more than their size. */
  bool unusual() const { return rounds || !caching || max_split_size != SIZE_MAX; }
};

extern AllocatorOptions options;

/* Sets what `text` names, all or nothing; the others go back to their defaults. An unknown name or a
 * bad value is an error, in `error`. */
bool set_allocator_options(const char *text, std::string *error);
/* Reads VIBETENSOR_CUDA_ALLOC_CONF and VIBETENSOR_NO_CUDA_MEMORY_CACHING, once; what is wrong with them
 * is reported each time. */
bool read_environment_options(std::string *error);
/* The text of the last set_allocator_options. */
std::string allocator_options_text();
void set_caching(bool on);

/* The size of the block for a request. */
inline size_t round_to_block(size_t bytes) {
  return bytes <= 512 ? 512 : (bytes + 511) & ~size_t(511);
}
size_t round_request(size_t bytes); /* with the options */

}  // namespace vt_cuda
#endif
