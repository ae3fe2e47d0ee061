// The parameters of one-dimensional convolutions.
#ifndef VT_CONV_SHAPE_H
#define VT_CONV_SHAPE_H

#include <stdint.h>

// Channels are counted within one group. Strides are of batch, channel and position, of the weight
// of output channel, input channel and position; all in elements.
struct vt_conv_shape {
  int64_t batch, groups, in_channels, out_channels, length, out_length, kernel;
  int64_t stride, padding, dilation;
  int64_t x_stride[3]; /* input or its gradient: batch x (groups * in_channels) x length */
  int64_t y_stride[3]; /* output or its gradient: batch x (groups * out_channels) x out_length */
  int64_t w_stride[3]; /* weight or its gradient: (groups * out_channels) x in_channels x kernel */
};

#endif
