#include "vibetensor/cuda/allocator_options.h"

#include <stdlib.h>
#include <string.h>

#include <mutex>
#include <vector>

#include "vibetensor/cuda/device_memory.h"

namespace vt_cuda {

AllocatorOptions options;

namespace {

std::mutex mutex;
std::string current_text;

struct Parsed {
  size_t max_split_size = SIZE_MAX, max_non_split_rounding = 20 << 20;
  double threshold = 0, fraction = 1;
  bool expandable = false;
  uint8_t divisions[kSizeOctaves] = {};
};

constexpr const char *kNames =
    "max_split_size_mb, max_non_split_rounding_mb, garbage_collection_threshold, "
    "expandable_segments, "
    "roundup_power2_divisions, per_process_memory_fraction, release_lock_on_cudamalloc, backend";

std::string strip(const std::string &s) {
  size_t a = s.find_first_not_of(" \t"), b = s.find_last_not_of(" \t");
  return a == std::string::npos ? "" : s.substr(a, b - a + 1);
}

// Cut at commas that are not within brackets.
std::vector<std::string> parts(const std::string &text) {
  std::vector<std::string> out(1);
  int depth = 0;
  for (char c : text) {
    if (c == '[') ++depth;
    if (c == ']') --depth;
    if (c == ',' && depth == 0) {
      out.emplace_back();
    } else {
      out.back() += c;
    }
  }
  return out;
}

bool to_number(const std::string &s, double *out) {
  char *end = nullptr;
  *out = strtod(s.c_str(), &end);
  return !s.empty() && *end == 0;
}

bool to_integer(const std::string &s, long long *out) {
  char *end = nullptr;
  *out = strtoll(s.c_str(), &end, 10);
  return !s.empty() && *end == 0;
}

bool to_bool(const std::string &s, bool *out) {
  *out = s == "True" || s == "true" || s == "1";
  return *out || s == "False" || s == "false" || s == "0";
}

bool power_of_two(long long n) { return n > 0 && (n & (n - 1)) == 0; }

// "4", or "[256:1,512:2,>:4]": the divisions of each doubling, from 1 MiB, by megabytes.
bool parse_divisions(const std::string &value, uint8_t *divisions) {
  long long n;
  if (to_integer(value, &n)) {
    if (n != 0 && (!power_of_two(n) || n > 128)) return false;
    for (int i = 0; i < kSizeOctaves; ++i) divisions[i] = uint8_t(n);
    return true;
  }
  if (value.size() < 2 || value.front() != '[' || value.back() != ']') return false;
  int from = 0;
  for (const std::string &part : parts(value.substr(1, value.size() - 2))) {
    size_t colon = part.find(':');
    if (colon == std::string::npos) return false;
    std::string key = strip(part.substr(0, colon));
    long long mb = 0;
    if (!to_integer(strip(part.substr(colon + 1)), &n)) return false;
    if (n != 0 && (!power_of_two(n) || n > 128)) return false;
    int to = kSizeOctaves - 1;
    if (key != ">") {
      if (!to_integer(key, &mb) || !power_of_two(mb)) return false;
      to = 20 + __builtin_ctzll((unsigned long long)mb);
    }
    if (to < from || to >= kSizeOctaves) return false;
    for (int i = from; i <= to; ++i) divisions[i] = uint8_t(n);
    from = to + 1;
  }
  return true;
}

bool parse_one(const std::string &name, const std::string &value, Parsed *p, std::string *error) {
  auto want = [&](const char *what) {
    *error = "CUDA allocator option " + name + ": got '" + value + "', expected " + what;
    return false;
  };
  long long n;
  bool flag;
  if (name == "max_split_size_mb") {
    if (!to_integer(value, &n) || n <= 20) return want("a number of megabytes above 20");
    p->max_split_size = size_t(n) << 20;
  } else if (name == "max_non_split_rounding_mb") {
    if (!to_integer(value, &n) || n < 20) return want("a number of megabytes, at least 20");
    p->max_non_split_rounding = size_t(n) << 20;
  } else if (name == "garbage_collection_threshold") {
    if (!to_number(value, &p->threshold) || !(p->threshold > 0 && p->threshold < 1)) {
      return want("a number between 0 and 1");
    }
  } else if (name == "per_process_memory_fraction") {
    if (!to_number(value, &p->fraction) || !(p->fraction >= 0 && p->fraction <= 1)) {
      return want("a number from 0 to 1");
    }
  } else if (name == "expandable_segments") {
    if (!to_bool(value, &p->expandable)) return want("True or False");
  } else if (name == "release_lock_on_cudamalloc") {
    // Calls of the driver never hold up other streams here: there is nothing to switch.
    if (!to_bool(value, &flag)) return want("True or False");
  } else if (name == "roundup_power2_divisions") {
    if (!parse_divisions(value, p->divisions)) {
      return want("a power of two up to 128, or a list like [256:1,512:2,>:4] of powers of two");
    }
  } else if (name == "backend") {
    if (value != "native") return want("native (cudaMallocAsync is not supported)");
  } else {
    *error = "unknown CUDA allocator option '" + name + "'; the options are " + kNames;
    return false;
  }
  return true;
}

void publish(const Parsed &p) {
  options.max_split_size = p.max_split_size;
  options.max_non_split_rounding = p.max_non_split_rounding;
  options.garbage_collection_threshold = p.threshold;
  options.expandable_segments = p.expandable;
  options.memory_fraction = p.fraction;
  bool rounds = false;
  for (int i = 0; i < kSizeOctaves; ++i) {
    options.divisions[i] = p.divisions[i];
    rounds |= p.divisions[i] > 1;
  }
  options.rounds = rounds;
}

void update_devices() {
  for (int i = 0; i < kMaxDevices; ++i) {
    if (Device *d = existing_device(i)) d->update_special();
  }
}

}  // namespace

bool set_allocator_options(const char *text, std::string *error) {
  Parsed p;
  for (const std::string &part : parts(text)) {
    if (strip(part).empty()) continue;
    size_t colon = part.find(':');
    if (colon == std::string::npos) {
      *error = "CUDA allocator options: '" + strip(part) + "' is not of the form name:value";
      return false;
    }
    if (!parse_one(strip(part.substr(0, colon)), strip(part.substr(colon + 1)), &p, error)) {
      return false;
    }
  }
  std::lock_guard<std::mutex> guard(mutex);
  publish(p);
  current_text = text;
  update_devices();
  return true;
}

bool read_environment_options(std::string *error) {
  static std::string *problem = [] {
    auto *p = new std::string;
    const char *uncached = getenv("VIBETENSOR_NO_CUDA_MEMORY_CACHING");
    if (uncached != nullptr && strcmp(uncached, "0") != 0 && *uncached != 0) set_caching(false);
    const char *text = getenv("VIBETENSOR_CUDA_ALLOC_CONF");
    if (text != nullptr && !set_allocator_options(text, p)) {
      *p = "VIBETENSOR_CUDA_ALLOC_CONF: " + *p;
    }
    return p;
  }();
  *error = *problem;
  return problem->empty();
}

std::string allocator_options_text() {
  std::lock_guard<std::mutex> guard(mutex);
  return current_text;
}

void set_caching(bool on) {
  options.caching = on;
  update_devices();
}

size_t round_request(size_t bytes) {
  // Without a cache exactly what was asked for, so that a sanitizer sees one byte too many.
  if (!options.caching) return bytes > 0 ? bytes : 1;
  size_t plain = round_to_block(bytes);
  if (!options.rounds || bytes <= kMinBlock) return plain;
  int octave = 63 - __builtin_clzll(bytes);
  size_t divisions = octave < kSizeOctaves ? uint8_t(options.divisions[octave]) : 0;
  if (divisions <= 1 || bytes <= kMinBlock * divisions) return plain;
  size_t step = (size_t(1) << octave) / divisions;
  return round_to_block((bytes + step - 1) / step * step);
}

}  // namespace vt_cuda
