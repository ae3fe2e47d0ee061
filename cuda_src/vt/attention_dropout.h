// Which weights the dropout of attention keeps. The choice depends on the element alone, not on tiles,
// threads or the device, so the backward pass and every kernel make it again.
//
// Element (b, h, i, j), with H heads of queries, i and j counted within their sequence, takes 16 bits of
// the Philox block with the counter
//     low half   offset + b * H + h
//     high half  i, and in its upper 32 bits  j / 64 * 8 + j % 8
// namely piece (j / 8) % 8, the low half of word 0 being piece 0. Eight keys 8 apart share a block: a
// thread of a tensor core's tile holds such keys. It is kept where the bits are below the threshold.
#ifndef VT_ATTENTION_DROPOUT_H
#define VT_ATTENTION_DROPOUT_H

#include "vt/philox.h"

namespace VT_NS {

// Keys of one period of the choice, pieces of a block, and what the bits of a piece are compared with.
constexpr int kDropoutPeriod = 64, kDropoutPieces = 8;
constexpr int kDropoutLevels = 1 << 16;

// Weights below it are kept: the probability in units of 2^-16.
VT_HD uint32_t attention_threshold(double dropout_p) {
  return static_cast<uint32_t>((1.0 - dropout_p) * kDropoutLevels + 0.5);
}
// What kept weights are multiplied by, so that the expectation is that of all of them.
VT_HD double attention_keep_scale(uint32_t threshold) {
  return threshold == 0 ? 0.0 : static_cast<double>(kDropoutLevels) / threshold;
}

// The block that key j % 8 of a period, and the seven 8, 16, ... further on, take their bits from.
VT_HD PhiloxBlock attention_bits(uint64_t seed, uint64_t offset, uint64_t head, uint32_t query,
                                 uint32_t key) {
  const uint32_t group = key / kDropoutPeriod * 8 + key % 8;
  return philox(seed, offset + head, uint64_t(group) << 32 | query);
}

VT_HD uint32_t attention_piece(const PhiloxBlock &bits, int piece) {
  return bits.word[piece / 2] >> (16 * (piece % 2)) & 0xffffu;
}

}  // namespace VT_NS

#endif
